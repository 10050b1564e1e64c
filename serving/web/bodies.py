"""What clients send, checked at the door: bodies, queries, numbers in addresses."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from starlette.requests import ClientDisconnect, Request

from ...configs.formats.schema import SchemaError, check_schema
from ...configs.formats.strict_json import strict_json
from ..sessions.limits import TooLargeError
from .errors import BadRequestError, SlowError
from .schemas import Schema

#: bytes of a JSON body; seconds to send one
_LONGEST, _PATIENCE = 8 << 20, 30.0


async def json_body(
    request: Request, schema: Schema, longest: int = _LONGEST, seconds: float = _PATIENCE
) -> dict[str, Any]:
    """The object of a JSON body; null stands for left out, and no body for an empty object.

    longest: bytes it may have; seconds: for all of it to come. Raises BadRequestError,
    TooLargeError, SlowError.
    """
    content = bytearray()
    async for part in body_parts(request, seconds):
        content += part
        if len(content) > longest:
            raise TooLargeError(f"the body has more than {longest} bytes: send less")
    return checked_json(bytes(content) or b"{}", schema, longest)


def checked_json(content: bytes, schema: Schema, longest: int = _LONGEST) -> dict[str, Any]:
    """The object of a JSON text. BadRequestError."""
    try:
        value = strict_json(content, longest)
    except ValueError as error:
        raise BadRequestError(f"the body is no JSON ({error}): see /openapi.json") from None
    if isinstance(value, dict):
        value = {key: inner for key, inner in value.items() if inner is not None}
    try:
        check_schema(value, schema)
    except SchemaError as error:
        raise BadRequestError(f"the body: {error}; see /openapi.json") from None
    fields: dict[str, Any] = value
    return fields


async def body_parts(request: Request, seconds: float) -> AsyncIterator[bytes]:
    """The parts of a body as they come; SlowError where all of them take longer than `seconds`."""
    loop = asyncio.get_running_loop()
    until = loop.time() + seconds
    stream = request.stream()
    while True:
        try:
            part = await asyncio.wait_for(anext(stream), max(until - loop.time(), 0.001))
        except StopAsyncIteration:
            return
        except asyncio.TimeoutError:
            raise SlowError(f"the body took more than {seconds:g} seconds: send it again") from None
        except ClientDisconnect:
            raise BadRequestError("the client left before its body was sent") from None
        if part:
            yield part


def announced_bytes(request: Request) -> int | None:
    """The length that a request announces; None where it announces none. BadRequestError."""
    text = request.headers.get("content-length")
    if text is None:
        return None
    if not text.isascii() or not text.isdigit() or len(text) > 18:
        raise BadRequestError(f"Content-Length is {text!r:.40}: expected a number of bytes")
    return int(text)


def number_in(request: Request, name: str) -> int:
    """A number of the address; BadRequestError for what is none."""
    return _number(name, request.path_params[name])


def query_number(request: Request, name: str, least: int, most: int) -> int | None:
    """A number of the query from `least` to `most`, None where it is left out. BadRequestError."""
    text = request.query_params.get(name)
    if text is None:
        return None
    number = _number(name, text)
    if not least <= number <= most:
        raise BadRequestError(f"{name} is {number}: expected {least} to {most}")
    return number


def query_flag(query: Any, name: str) -> bool:
    """A query that is true or false. BadRequestError."""
    text = query.get(name, "false")
    if text not in ("true", "false"):
        raise BadRequestError(f"{name} is {text!r:.40}: expected true or false")
    return bool(text == "true")


def _number(name: str, text: str) -> int:
    if not text.isascii() or not text.isdigit() or len(text) > 10:
        raise BadRequestError(f"{name} is {text!r:.40}: expected a whole number")
    return int(text)
