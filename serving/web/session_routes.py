"""Routes of sessions: open, look, prompt, name, remove, results."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response

from ...configs.staging import temporary_folder
from ...runtime.media.overlay import thumbnail
from ...runtime.packages import pillow_image
from ..sessions.limits import NotFoundError
from ..sessions.prompts import Prompt, frame_masks
from ..sessions.results import Results
from ..sessions.session import WorkSession, checked_name
from . import schemas
from .bodies import json_body, number_in, query_number
from .errors import BadRequestError
from .services import Services, services_of

_QUALITY = 88
_Results = dict[str, tuple[str, Callable[[Results, Path], None]]]
#: by name: media type and writer
RESULTS: _Results = {
    "masks.json": ("application/json", Results.write_coco),
    "masks.zip": ("application/zip", Results.write_zip),
    "overlay.mp4": ("video/mp4", Results.write_overlay),
    "overlay.png": ("image/png", Results.write_overlay),
}


async def open_session(request: Request) -> Response:
    """A session on uploaded media, a sample, or a file below the root."""
    services, body = services_of(request), await json_body(request, schemas.SESSION)
    named = [key for key in ("media", "sample", "path") if key in body]
    if len(named) != 1:
        raise BadRequestError("the body: expected one of 'media', 'sample' and 'path'")
    find = {
        "media": services.media.get,
        "sample": services.media.sample,
        "path": services.media.below_root,
    }[named[0]]

    def opened() -> WorkSession:
        medium = find(body[named[0]])
        return services.sessions.open(medium, no_overlap=body.get("no_overlap", False))

    session = await services.aside(opened)
    return JSONResponse(session.describe(), 201)


async def show_session(request: Request) -> Response:
    """What a session is about."""
    with services_of(request).used(request) as session:
        return JSONResponse(session.describe())


async def close_session(request: Request) -> Response:
    """End a session; what it held is freed."""
    services, session_id = services_of(request), request.path_params["session"]
    await services.aside(lambda: services.sessions.end(session_id))
    return Response(status_code=204)


async def frame(request: Request) -> Response:
    """A frame as JPEG."""
    services = services_of(request)
    number, width = number_in(request, "frame"), query_number(request, "width", 16, 8192)
    with services.used(request) as session:
        content = await services.aside(lambda: _jpeg(session, number, width))
    return Response(
        content,
        media_type="image/jpeg",
        headers={"Cache-Control": "private, immutable, max-age=3600"},
    )


def _jpeg(session: WorkSession, frame: int, width: int | None) -> bytes:
    rgb = session.view(frame)
    if width is not None and width < rgb.shape[1]:
        rgb = thumbnail(rgb, width)
    content = io.BytesIO()
    pillow_image().fromarray(rgb).save(content, "JPEG", quality=_QUALITY)
    return content.getvalue()


async def masks(request: Request) -> Response:
    """The masks of a frame as they are known now."""
    number = number_in(request, "frame")
    with services_of(request).used(request) as session:
        session.check_frame(number)
        return JSONResponse(frame_masks(number, session.masks.get(number, {})))


async def prompt(request: Request) -> Response:
    """A prompt; the masks of its frame."""
    services = services_of(request)
    with services.used(request) as session:
        asked = Prompt.of(await json_body(request, schemas.PROMPT))
        found = await services.click(session, lambda: session.prompt(asked))
    return JSONResponse(frame_masks(asked.frame, found))


async def clear_prompt(request: Request) -> Response:
    """Forget an object's prompt on a frame."""
    services = services_of(request)
    obj_id, number = number_in(request, "object"), number_in(request, "frame")
    with services.used(request) as session:
        found = await services.click(session, lambda: session.clear(number, obj_id))
    return JSONResponse(frame_masks(number, found))


async def name_object(request: Request) -> Response:
    """Give an object a name."""
    obj_id = number_in(request, "object")
    with services_of(request).used(request) as session:
        body = await json_body(request, schemas.NAME)
        session.check_object(obj_id)
        session.names[obj_id] = checked_name(body["name"])
        return JSONResponse(session.describe())


async def remove_object(request: Request) -> Response:
    """Forget an object."""
    obj_id = number_in(request, "object")
    return await _changed(request, lambda session: session.remove(obj_id))


async def reset(request: Request) -> Response:
    """Forget all objects."""
    return await _changed(request, lambda session: session.reset())


async def _changed(request: Request, change: Callable[[WorkSession], Any]) -> Response:
    services = services_of(request)
    with services.used(request) as session:
        await services.click(session, lambda: change(session))
        return JSONResponse(session.describe())


async def result(request: Request) -> Response:
    """A file of results."""
    services, name = services_of(request), request.path_params["result"]
    with services.used(request) as session:
        fits = {"overlay.mp4": "video", "overlay.png": "image"}.get(name, session.kind)
        if name not in RESULTS or fits != session.kind:
            raise NotFoundError(f"no result {name:.40} of a session on {session.kind}s")
        return await _file(services, Results(session), name)


async def _file(services: Services, results: Results, name: str) -> Response:
    media_type, write = RESULTS[name]
    with ExitStack() as stack:
        path = stack.enter_context(temporary_folder()) / name
        async with services.drawing:
            await services.aside(lambda: write(results, path))
        # what was written goes once it was sent
        kept = stack.pop_all()
    stem = Path(results.medium.name).stem
    return FileResponse(
        path,
        media_type=media_type,
        filename=f"{stem}-{name}",
        background=BackgroundTask(kept.close),
    )
