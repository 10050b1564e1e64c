"""Errors as answers: one line and a status code."""

from __future__ import annotations

import logging

from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...configs.checks import shown_line
from ...configs.errors import (
    FrameError,
    InputError,
    Sam2rtError,
    StateError,
    StorageError,
    means_low_memory,
)
from ..sessions.limits import (
    NotFoundError,
    NotMediaError,
    OutsideError,
    StoppingError,
    TooLargeError,
    TooManyError,
)


class BadRequestError(InputError):
    """A body or a query that is not of the form asked for."""


class SlowError(InputError):
    """A client that takes too long to send."""


#: the first class that fits counts
_STATUS: tuple[tuple[type[Exception], int], ...] = (
    (BadRequestError, 400),
    (OutsideError, 403),
    (NotFoundError, 404),
    (SlowError, 408),
    (TooLargeError, 413),
    (NotMediaError, 415),
    (TooManyError, 429),
    (StoppingError, 503),
    (StorageError, 507),
    (FrameError, 422),
    (InputError, 422),
    (StateError, 409),
)
_REASONS = {404: "no such address: see /openapi.json", 405: "the address takes another method"}


def status_of(error: Exception) -> int:
    """The status code of an error; 500 for what is our fault."""
    for kind, status in _STATUS:
        if isinstance(error, kind):
            return status
    return 503 if means_low_memory(error) else 500


def line_of_error(error: Exception) -> str:
    """What a client is told: one line; of a fault of ours only that it is one."""
    if isinstance(error, Sam2rtError):
        return shown_line(str(error))
    if means_low_memory(error):
        return "not enough memory: try again later, or ask for less"
    return f"a fault of the server ({type(error).__name__}): its log has the details"


def line_of_failure(error: Exception) -> str:
    """As :func:`line_of_error`, of an error that ends here; the log gets a fault of ours.

    What a route raises instead is logged by the server that runs it.
    """
    if status_of(error) == 500:
        logging.getLogger(__name__).error("a fault of the server", exc_info=error)
    return line_of_error(error)


def error_answer(status: int, line: str, headers: dict[str, str] | None = None) -> JSONResponse:
    """An error as JSON."""
    return JSONResponse({"error": line}, status, headers)


async def answer_own(request: Request, error: Exception) -> Response:
    """The answer to an error raised by a route."""
    status = status_of(error)
    headers = {"Retry-After": "5"} if status in (429, 503) else None
    return error_answer(status, line_of_error(error), headers)


async def answer_http(request: Request, error: Exception) -> Response:
    """The answer to what the router raised, such as an unknown address."""
    assert isinstance(error, HTTPException)
    line = _REASONS.get(error.status_code) or shown_line(error.detail)
    headers = dict(error.headers) if error.headers else None
    return error_answer(error.status_code, line, headers)
