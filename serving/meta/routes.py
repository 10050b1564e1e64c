"""Routes of Meta's page: GraphQL, the streamed masks, and the videos themselves."""

from __future__ import annotations

import io
import json
from functools import cache
from pathlib import Path
from typing import Any

from graphql import GraphQLError, GraphQLSchema, build_schema, graphql
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ...runtime.media.open import open_frames
from ...runtime.packages import pillow_image
from ..sessions.limits import NotFoundError
from ..sessions.media import Medium
from ..web.bodies import announced_bytes, checked_json, json_body
from ..web.errors import BadRequestError, line_of_failure
from ..web.schemas import FRAME, Schema
from ..web.services import services_of
from ..web.stream_routes import StreamResponse, propagation
from .resolvers import Resolvers
from .videos import gallery, medium_at

_BOUNDARY = "frame"
#: parts of a request; more names than a page ever asks for in one
_MOST_TOKENS, _MOST_PARTS = 2000, 8
_OPERATION: Schema = {
    "type": "object",
    "properties": {
        "query": {"type": "string", "minLength": 1, "maxLength": 100_000},
        "operationName": {"type": "string", "minLength": 0, "maxLength": 1000},
        "variables": {"type": "object"},
    },
    "required": ["query"],
}
_PROPAGATION: Schema = {
    "type": "object",
    "properties": {
        "session_id": {"type": "string", "minLength": 1, "maxLength": 100},
        "start_frame_index": FRAME,
    },
    "required": ["session_id"],
}
#: the page lies on another port
_SHARED = {"Cross-Origin-Resource-Policy": "cross-origin"}


def meta_routes() -> list[BaseRoute]:
    """The routes, for :func:`~sam2rt.serving.web.app.make_app`."""
    return [
        Route("/graphql", graphql_route, methods=["POST"]),
        Route("/propagate_in_video", propagate_route, methods=["POST"]),
        Route("/healthy", healthy_route),
        Route("/gallery/{name}", video_route),
        Route("/uploads/{name}", video_route),
        Route("/posters/{name}", poster_route),
    ]


@cache
def schema() -> GraphQLSchema:
    """The schema in ``schema.graphql``."""
    return build_schema(Path(__file__).with_name("schema.graphql").read_text(encoding="utf-8"))


async def graphql_route(request: Request) -> Response:
    """A query or mutation, as JSON or as a form with files."""
    kind = request.headers.get("content-type", "")
    form = kind.startswith("multipart/form-data")
    operation = await (_form(request) if form else json_body(request, _OPERATION))
    base = str(request.base_url).rstrip("/")
    done = await graphql(
        schema(),
        operation["query"],
        root_value=Resolvers(services_of(request), base),
        variable_values=operation.get("variables"),
        operation_name=operation.get("operationName"),
        max_tokens=_MOST_TOKENS,
    )
    answer: dict[str, Any] = {"data": done.data}
    if done.errors:
        answer["errors"] = [_error(error) for error in done.errors]
    return JSONResponse(answer)


def _error(error: GraphQLError) -> dict[str, Any]:
    """An error as GraphQL gives it; of a fault of ours only that it is one."""
    formatted: dict[str, Any] = dict(error.formatted)
    cause = error.original_error
    if cause is not None and not isinstance(cause, GraphQLError):
        formatted["message"] = line_of_failure(cause)
    return formatted


async def _form(request: Request) -> dict[str, Any]:
    """The operation of a form: ``operations``, ``map``, and the files that it names."""
    services = services_of(request)
    if (length := announced_bytes(request)) is None:
        raise BadRequestError("the form: expected a Content-Length")
    # before the form is spooled to the disk
    with services.media.upload("", length):
        form = await request.form(max_files=_MOST_PARTS, max_fields=_MOST_PARTS)
    try:
        operation = checked_json(str(form["operations"]).encode(), _OPERATION)
        places = checked_json(str(form["map"]).encode(), {"type": "object"})
        for name, paths in places.items():
            for path in paths:
                kind, variable = path.split(".")
                if kind != "variables":
                    raise ValueError(path)
                operation["variables"][variable] = form[name]
    except BadRequestError:
        raise
    except (KeyError, ValueError, TypeError, AttributeError):
        raise BadRequestError(
            "the form: expected 'operations' and 'map' as JSON, and the files that 'map' names"
        ) from None
    return operation


async def propagate_route(request: Request) -> Response:
    """Track forward, then backward; a part of JSON for each frame."""
    services = services_of(request)
    body = await json_body(request, _PROPAGATION)
    session = services.sessions.get(body["session_id"])
    lines = propagation(services, session, "both", body.get("start_frame_index", 0), None)
    media_type = f"multipart/x-savi-stream; boundary={_BOUNDARY}"
    return StreamResponse(session, lines, services.limits.send_seconds, _part, media_type)


def _part(line: dict[str, Any]) -> bytes:
    """A frame's masks as a part; what is no frame is nothing: the page knows the end by itself."""
    if "frame" not in line:
        return b""
    results = [{"object_id": found["object"], "mask": found["mask"]} for found in line["objects"]]
    body = json.dumps({"frame_index": line["frame"], "results": results}).encode()
    head = (
        f"--{_BOUNDARY}\r\nContent-Type: application/json; charset=utf-8\r\nFrame-Current: -1\r\n"
        f"Frame-Total: -1\r\nMask-Type: RLE[]\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def healthy_route(request: Request) -> Response:
    """``GET /healthy``."""
    return Response("OK", media_type="text/plain")


async def video_route(request: Request) -> Response:
    """A video's file."""
    services = services_of(request)
    medium = medium_at(request.url.path.lstrip("/"), services.media)
    return FileResponse(medium.path, media_type="video/mp4", headers=_SHARED)


async def poster_route(request: Request) -> Response:
    """A video's first frame."""
    services, name = services_of(request), request.path_params["name"].removesuffix(".jpg")
    known = {medium.media: medium for medium in gallery(services.media)}
    if name not in known:
        raise NotFoundError(f"no poster {name:.40}")
    content = await services.aside(lambda: _poster(known[name]))
    return Response(content, media_type="image/jpeg", headers=_SHARED)


def _poster(medium: Medium) -> bytes:
    content = io.BytesIO()
    with open_frames(medium.path) as frames:
        pillow_image().fromarray(frames.read(0)).save(content, "JPEG", quality=85)
    return content.getvalue()
