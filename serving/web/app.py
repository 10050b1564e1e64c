"""The application: which address leads to which route."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import BaseRoute, Route, WebSocketRoute

from ...configs.errors import Sam2rtError
from . import media_routes, session_routes, stream_routes
from .errors import answer_http, answer_own
from .live_route import live
from .metrics import metrics_route
from .openapi import openapi_route
from .security import Access, Guard
from .services import Services

_PAGE = Path(__file__).parents[1] / "page"
#: the media types that browsers ask for, by ending; other files are no part of the page
_TYPES = {
    ".html": "text/html; charset=utf-8", ".js": "text/javascript", ".mjs": "text/javascript",
    ".css": "text/css", ".svg": "image/svg+xml", ".png": "image/png", ".json": "application/json",
    ".woff2": "font/woff2", ".webmanifest": "application/manifest+json", ".ico": "image/x-icon",
}  # fmt: skip
_POLICY = (
    "default-src 'self'; img-src 'self' blob: data:; media-src 'self' blob:; connect-src 'self'; "
    "style-src 'self' 'unsafe-inline'; frame-ancestors 'none'; base-uri 'none'; form-action 'none'"
)


def make_app(services: Services, access: Access, extra: list[BaseRoute] | None = None) -> Starlette:
    """The application of a server; extra: routes of another API beside it."""
    middleware = [Middleware(Guard, access=access, metrics=services.metrics)]
    if access.origins:
        cors = Middleware(
            CORSMiddleware,
            allow_origins=access.origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type"],
            allow_credentials=True,
        )
        # before the guard: a browser asks without the token whether it may ask
        middleware.insert(0, cors)
    app = Starlette(
        routes=[*_routes(), *(extra or [])],
        middleware=middleware,
        exception_handlers={
            Sam2rtError: answer_own,
            HTTPException: answer_http,
            Exception: answer_own,
        },
    )
    app.state.services = services
    return app


def _routes() -> list[BaseRoute]:
    session = "/v1/sessions/{session}"
    of_object = f"{session}/objects/{{object}}"
    return [
        Route("/", page),
        Route("/page/{path:path}", page),
        Route("/openapi.json", openapi_route),
        Route("/metrics", metrics_route),
        Route("/v1/health", media_routes.health),
        Route("/v1/info", media_routes.info),
        Route("/v1/samples", media_routes.samples),
        Route("/v1/media", media_routes.list_media, methods=["GET"]),
        Route("/v1/media", media_routes.upload, methods=["POST"]),
        Route("/v1/media/{media}", media_routes.remove_media, methods=["DELETE"]),
        Route("/v1/sessions", session_routes.open_session, methods=["POST"]),
        Route(session, session_routes.show_session, methods=["GET"]),
        Route(session, session_routes.close_session, methods=["DELETE"]),
        Route(f"{session}/frames/{{frame}}", session_routes.frame),
        Route(f"{session}/masks/{{frame}}", session_routes.masks),
        Route(f"{session}/prompts", session_routes.prompt, methods=["POST"]),
        Route(of_object, session_routes.name_object, methods=["PUT"]),
        Route(of_object, session_routes.remove_object, methods=["DELETE"]),
        Route(f"{of_object}/prompts/{{frame}}", session_routes.clear_prompt, methods=["DELETE"]),
        Route(f"{session}/reset", session_routes.reset, methods=["POST"]),
        Route(f"{session}/propagate", stream_routes.propagate, methods=["POST"]),
        Route(f"{session}/propagate", stream_routes.cancel, methods=["DELETE"]),
        Route(f"{session}/automatic", stream_routes.automatic, methods=["POST"]),
        Route(f"{session}/{{result}}", session_routes.result),
        WebSocketRoute("/v1/live", live),
    ]


async def page(request: Request) -> Response:
    """The page and its files."""
    name = request.path_params.get("path", "index.html")
    place = (_PAGE / name).resolve()
    known = place.is_relative_to(_PAGE.resolve()) and place.suffix in _TYPES and place.is_file()
    if not known or "\0" in name:
        raise HTTPException(404)
    headers = {"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"}
    return FileResponse(place, media_type=_TYPES[place.suffix], headers=headers)
