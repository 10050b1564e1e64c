"""``/openapi.json``: the routes of the API, written once, with the schemas that requests meet."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from ...configs.version import VERSION
from . import schemas
from .schemas import Schema

_ERROR: Schema = {
    "type": "object",
    "properties": {"error": {"type": "string"}},
    "required": ["error"],
}
_ERRORS = {
    400: "The request is not of the form asked for.",
    401: "The token is missing or wrong.",
    403: "The host, the page or the path is not allowed.",
    404: "There is no such thing.",
    405: "The address takes another method.",
    408: "The body came too slowly.",
    409: "Not now.",
    413: "Too large.",
    415: "Neither a video nor an image.",
    422: "A value does not fit.",
    429: "Too many at once.",
    503: "The server stops, or has no memory.",
    507: "The disk is full.",
}
_OBJECT = {
    "type": "object",
    "properties": {
        "object": schemas.OBJECT,
        "mask": schemas.MASK,
        "area": {"type": "integer"},
        "score": {"type": ["number", "null"]},
    },
    "required": ["object", "mask", "area", "score"],
}
_MASKS = {
    "type": "object",
    "properties": {
        "frame": schemas.FRAME,
        "objects": {"type": "array", "items": {"$ref": "#/components/schemas/ObjectMask"}},
    },
    "required": ["frame", "objects"],
}
_TEXT, _COUNT, _RATE = {"type": "string"}, {"type": "integer"}, {"type": ["number", "null"]}


def _of(**properties: Any) -> Schema:
    return {"type": "object", "properties": properties, "required": list(properties)}


_MEDIUM = _of(
    media=_TEXT, name=_TEXT, kind={"enum": ["video", "image"]}, width=_COUNT, height=_COUNT,
    num_frames=_COUNT, fps=_RATE, bytes=_COUNT,
)  # fmt: skip
_SAMPLE = _of(
    sample=_TEXT, kind={"enum": ["video", "image"]}, title=_TEXT, width=_COUNT, height=_COUNT,
    num_frames=_COUNT, fps=_RATE,
)  # fmt: skip
_SESSION = _of(
    session=_TEXT, kind={"enum": ["video", "image"]}, width=_COUNT, height=_COUNT,
    num_frames=_COUNT, fps=_RATE, no_overlap={"type": "boolean"},
    objects={"type": "array", "items": _of(object=_COUNT, name=_TEXT)},
    prompts={"type": "array", "items": {"type": "object"}},
    tracked={"type": "array", "items": {"type": "array", "items": _COUNT}},
    propagating={"type": "boolean"},
)  # fmt: skip
_NAMED = {
    "Error": _ERROR, "ObjectMask": _OBJECT, "Masks": _MASKS, "Medium": _MEDIUM, "Sample": _SAMPLE,
    "Session": _SESSION,
}  # fmt: skip


def _ref(name: str) -> Schema:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(text: str, schema: Schema | None, media: str = "application/json") -> Schema:
    content = {} if schema is None else {"content": {media: {"schema": schema}}}
    return {"description": text, **content}


def _operation(
    summary: str,
    answers: Mapping[int, Schema],
    body: Schema | None = None,
    query: Mapping[str, Schema] | None = None,
    binary: bool = False,
) -> Schema:
    errors = {str(code): _answer(text, _ref("Error")) for code, text in _ERRORS.items()}
    made: Schema = {
        "summary": summary,
        "operationId": "_".join(summary.lower().rstrip(".").replace(",", "").split()),
        "responses": {**errors, **{str(code): answer for code, answer in answers.items()}},
        "parameters": [
            {"name": name, "in": "query", "schema": schema}
            for name, schema in (query or {}).items()
        ],
    }
    if binary:
        file = {"schema": {"type": "string", "format": "binary"}}
        made["requestBody"] = {"required": True, "content": {"application/octet-stream": file}}
    elif body is not None:
        made["requestBody"] = {"content": {"application/json": {"schema": _nullable(body)}}}
    return made


def _nullable(body: Schema) -> Schema:
    """The schema of a body whose optional fields may be null, which stands for left out."""
    required = body.get("required", [])
    properties = {
        name: inner if name in required else {"anyOf": [inner, {"type": "null"}]}
        for name, inner in body["properties"].items()
    }
    return {**body, "properties": properties}


_ONE_SESSION = {200: _answer("The session.", _ref("Session"))}
_ONE_FRAME = {200: _answer("The masks of the frame.", _ref("Masks"))}
_GONE = {204: _answer("Done.", None)}
_LINES = {200: _answer("Lines of JSON.", {"type": "string"}, "application/x-ndjson")}


def _list_of(name: str, item: str) -> dict[int, Schema]:
    schema = _of(**{name: {"type": "array", "items": _ref(item)}})
    return {200: _answer("The list.", schema)}


@cache
def document() -> dict[str, Any]:
    """The description of the API, OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {"title": "sam2rt serve", "version": VERSION},
        "paths": {path: _with_path(path, dict(item)) for path, item in _paths().items()},
        "components": {
            "schemas": _NAMED,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{}, {"token": []}],
    }


def _with_path(path: str, item: dict[str, Any]) -> dict[str, Any]:
    numbers = {"frame": schemas.FRAME, "object": schemas.OBJECT}
    names = [part[1:-1] for part in path.split("/") if part.startswith("{")]
    parameters = [
        {"name": n, "in": "path", "required": True, "schema": numbers.get(n, _TEXT)} for n in names
    ]
    return {**item, "parameters": parameters}


def _paths() -> dict[str, dict[str, Any]]:
    return {**_server_paths(), **_media_paths(), **_session_paths(), **_work_paths()}


def _server_paths() -> dict[str, dict[str, Any]]:
    limits = {"type": "object", "additionalProperties": _COUNT}
    return {
        "/v1/health": {
            "get": _operation(
                "Health.", {200: _answer("It works.", _of(status=_TEXT, version=_TEXT))}
            )
        },
        "/v1/info": {
            "get": _operation(
                "Model and limits.",
                {
                    200: _answer(
                        "The server.",
                        _of(version=_TEXT, model=_TEXT, image_size=_COUNT, limits=limits),
                    )
                },
            )
        },
        "/metrics": {
            "get": _operation(
                "Metrics.", {200: _answer("Prometheus text.", {"type": "string"}, "text/plain")}
            )
        },
    }


def _media_paths() -> dict[str, dict[str, Any]]:
    name = {"name": {"type": "string", "maxLength": 1000}}
    made = {201: _answer("The medium.", _ref("Medium"))}
    return {
        "/v1/samples": {"get": _operation("List samples.", _list_of("samples", "Sample"))},
        "/v1/media": {
            "get": _operation("List media.", _list_of("media", "Medium")),
            "post": _operation("Upload a file.", made, query=name, binary=True),
        },
        "/v1/media/{media}": {"delete": _operation("Remove media.", _GONE)},
    }


def _session_paths() -> dict[str, dict[str, Any]]:
    opened = {201: _answer("The session.", _ref("Session"))}
    width = {"width": {"type": "integer", "minimum": 16, "maximum": 8192}}
    image = {200: _answer("The frame.", {"type": "string", "format": "binary"}, "image/jpeg")}
    return {
        "/v1/sessions": {"post": _operation("Open a session.", opened, schemas.SESSION)},
        "/v1/sessions/{session}": {
            "get": _operation("Show a session.", _ONE_SESSION),
            "delete": _operation("Close a session.", _GONE),
        },
        "/v1/sessions/{session}/frames/{frame}": {
            "get": _operation("A frame.", image, query=width)
        },
        "/v1/sessions/{session}/masks/{frame}": {"get": _operation("Masks so far.", _ONE_FRAME)},
        "/v1/sessions/{session}/prompts": {
            "post": _operation("Prompt an object.", _ONE_FRAME, schemas.PROMPT)
        },
        "/v1/sessions/{session}/objects/{object}": {
            "put": _operation("Name an object.", _ONE_SESSION, schemas.NAME),
            "delete": _operation("Remove an object.", _ONE_SESSION),
        },
        "/v1/sessions/{session}/objects/{object}/prompts/{frame}": {
            "delete": _operation("Clear a prompt.", _ONE_FRAME)
        },
        "/v1/sessions/{session}/reset": {"post": _operation("Forget all.", _ONE_SESSION)},
    }


def _work_paths() -> dict[str, dict[str, Any]]:
    files = {
        "masks.json": "application/json", "masks.zip": "application/zip",
        "overlay.mp4": "video/mp4", "overlay.png": "image/png",
    }  # fmt: skip
    results = {
        f"/v1/sessions/{{session}}/{name}": {
            "get": _operation(f"Result {name}.", {200: _answer("The file.", {}, media)})
        }
        for name, media in files.items()
    }
    return {
        "/v1/sessions/{session}/propagate": {
            "post": _operation("Track.", _LINES, schemas.PROPAGATION),
            "delete": _operation("Cancel.", _GONE),
        },
        "/v1/sessions/{session}/automatic": {
            "post": _operation("Automatic masks.", _LINES, schemas.AUTOMATIC)
        },
        **results,
    }


async def openapi_route(request: Request) -> Response:
    """``GET /openapi.json``."""
    return JSONResponse(document())
