"""The server protocol of X-AnyLabeling, as routes beside our own API: clicks, and tracked clips.

Written from the protocol alone: what its server answers over HTTP, and what its client sends.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from datetime import datetime, timezone
from functools import wraps
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import BaseRoute, Route

from ...configs.errors import FrameError, InputError, Sam2rtError, StateError
from ...configs.staging import temporary_folder
from ...runtime.pixels.rle import mask_from_rle
from ..sessions.limits import NotFoundError, NotMediaError, ServerLimits, StoppingError
from ..sessions.media import measured, suffix_of
from ..sessions.prompts import ObjectMask, Prompt
from ..sessions.session import WorkSession
from ..sessions.video import VideoSession
from ..web.bodies import json_body
from ..web.errors import line_of_error, status_of
from ..web.services import Services, services_of
from ..web.stream_routes import StreamResponse, propagation
from . import xanylabeling_forms as forms
from .encoded_images import EncodedImages, upright

#: base64 takes four bytes for three
_BASE64 = 4 / 3
_PATIENCE = 300.0

_Handler = Callable[["XAnyLabeling", Request], Awaitable[Response]]


def xanylabeling_routes() -> list[BaseRoute]:
    """The routes, for :func:`~sam2rt.serving.web.app.make_app`."""
    own = XAnyLabeling()
    return [
        Route("/health", own.health),
        Route("/v1/models", own.models),
        Route("/v1/models/{model}/info", own.model_info),
        Route("/v1/predict", own.predict, methods=["POST"]),
        Route("/v1/video/init", own.video_init, methods=["POST"]),
        Route("/v1/video/prompt", own.video_prompt, methods=["POST"]),
        Route("/v1/video/propagate/stream", own.video_propagate, methods=["POST"]),
        Route("/v1/video/cleanup/{session}", own.video_cleanup, methods=["POST"]),
    ]


def _answering(handler: _Handler) -> _Handler:
    """Errors in the form of the protocol, with a status that its client shows."""

    @wraps(handler)
    async def answered(self: XAnyLabeling, request: Request) -> Response:
        try:
            return await handler(self, request)
        except Sam2rtError as error:
            body = {"code": _code_of(error), "message": line_of_error(error)}
            return JSONResponse({"success": False, "error": body}, status_of(error))

    return answered


def _code_of(error: Exception) -> str:
    if isinstance(error, NotFoundError):
        return "NOT_FOUND"
    if isinstance(error, StoppingError):
        return "QUEUE_FULL"
    if isinstance(error, (FrameError, NotMediaError)):
        return "INVALID_IMAGE"
    return "INVALID_REQUEST" if isinstance(error, InputError) else "INFERENCE_ERROR"


def _good(data: Any) -> Response:
    return JSONResponse({"success": True, "data": data})


class XAnyLabeling:
    """The routes' handlers, and the images that stay encoded between clicks."""

    def __init__(self) -> None:
        self._images: EncodedImages | None = None

    async def health(self, request: Request) -> Response:
        """``GET /health``."""
        now = datetime.now(timezone.utc).isoformat()
        return JSONResponse({"status": "healthy", "models_loaded": 2, "timestamp": now})

    async def models(self, request: Request) -> Response:
        """``GET /v1/models``: one for images and one for clips."""
        return _good(forms.models(services_of(request).model.bundle.model.name))

    @_answering
    async def model_info(self, request: Request) -> Response:
        """``GET /v1/models/{model}/info``."""
        name = request.path_params["model"]
        known = forms.models(services_of(request).model.bundle.model.name)
        forms.check_model(name)
        return _good({"model_id": name, **known[name]})

    @_answering
    async def predict(self, request: Request) -> Response:
        """``POST /v1/predict``: the masks of marks on an image."""
        services = services_of(request)
        longest = int(services.limits.upload_bytes * _BASE64) + (1 << 16)
        body = await json_body(request, forms.PREDICT, longest, _PATIENCE)
        forms.check_model(body["model"])
        params = body.get("params") or {}
        prompts = forms.prompts_of(params)
        content = await services.aside(lambda: forms.content_of(body["image"]))
        found = await services.turn(lambda: self._masks(services, content, prompts), urgent=True)
        share, least = forms.fineness(body), params.get("conf_threshold") or 0
        shapes = [
            shape
            for mask, score in found
            if score >= least
            for shape in forms.shapes_of(mask, share, score)
        ]
        replace = None if prompts else False
        return _good({"shapes": shapes, "description": "", "replace": replace})

    def _masks(self, services: Services, content: bytes, prompts: list[forms.Marks]) -> Any:
        """Mask and predicted IoU of each prompt, in the model's thread."""
        if self._images is None:
            self._images = EncodedImages(services.model.session)
        key = hashlib.sha256(content).digest()
        image = self._images.of(key, lambda: _image_of(content, services.limits))
        made = [image.predict(**prompt.asked(), multimask_output=False) for prompt in prompts]
        return [(masks[0], float(ious[0])) for masks, ious, _ in made]

    @_answering
    async def video_init(self, request: Request) -> Response:
        """``POST /v1/video/init``: a session on frames that the client sends."""
        services = services_of(request)
        longest = int(services.limits.upload_bytes * _BASE64) + (1 << 20)
        body = await json_body(request, forms.INIT, longest, _PATIENCE)
        forms.check_model(body["model"])
        session = await services.aside(lambda: _opened(services, body["frames"]))
        return _good({"session_id": session.id, "total_frames": session.medium.num_frames})

    @_answering
    async def video_prompt(self, request: Request) -> Response:
        """``POST /v1/video/prompt``: clicks on a frame, in fractions of its sides."""
        services = services_of(request)
        body = await json_body(request, forms.PROMPT)
        if body.get("text_prompt"):
            raise InputError(forms.NO_TEXT)
        with services.sessions.used(body["session_id"]) as session:
            height, width = session.size
            points = tuple((x * width, y * height) for x, y in body.get("points") or ())
            labels = tuple(body.get("point_labels") or ())
            obj, frame = body.get("obj_id", 1), body.get("frame_index", 0)
            asked = Prompt(obj, frame, points, labels)
            found = await services.click(session, lambda: session.prompt(asked))
            share = forms.fineness(body)
            masks = await services.aside(lambda: _shapes({obj: found[obj]}, share))
        return _good({"masks": masks, "frame_index": frame})

    @_answering
    async def video_propagate(self, request: Request) -> Response:
        """``POST /v1/video/propagate/stream``: progress as events, and at last all masks."""
        services = services_of(request)
        body = await json_body(request, forms.PROPAGATION)
        session = services.sessions.get(body["session_id"])
        if not isinstance(session, VideoSession):
            raise StateError("the session is on an image: expected one of /v1/video/init")
        start, end = body.get("start_frame"), body.get("end_frame")
        frames = None if end is None else end - (start or 0) + 1
        if frames is not None and frames < 1:
            raise InputError(f"end_frame is {end}: expected start_frame or later")
        lines = propagation(services, session, "forward", start, frames)
        events = _Events(session.medium.num_frames, start or 0, forms.fineness(body))
        seconds = services.limits.send_seconds
        return StreamResponse(session, lines, seconds, events.of, "text/event-stream")

    @_answering
    async def video_cleanup(self, request: Request) -> Response:
        """``POST /v1/video/cleanup/{session}``."""
        services, session = services_of(request), request.path_params["session"]
        await services.aside(lambda: services.sessions.end(session))
        return _good({"session_id": session})


def _image_of(content: bytes, limits: ServerLimits) -> Any:
    """A Pillow image of a file's content. NotMediaError, TooLargeError."""
    with temporary_folder() as folder:
        part = folder / "image"
        part.write_bytes(content)
        path = part.rename(folder / f"image{suffix_of(part)}")
        measured(path, "the image", "", limits)
        return upright(path)


def _opened(services: Services, frames: list[str]) -> WorkSession:
    """A session on frames as data URIs, kept in a folder that goes with it."""
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder()) / "frames"
        folder.mkdir()
        for number, text in enumerate(frames):
            part = folder / "part"
            part.write_bytes(forms.content_of(text))
            part.rename(folder / f"{number:06d}{suffix_of(part)}")
        name = hashlib.sha256(folder.parent.name.encode()).hexdigest()[:32]
        medium = measured(folder, "the clip", name, services.limits)
        session = services.sessions.open(medium)
        session.held = stack.pop_all()
        return session


def _shapes(masks: dict[int, ObjectMask], share: float) -> list[dict[str, Any]]:
    return [
        shape
        for found in masks.values()
        for shape in forms.shapes_of(mask_from_rle(found.mask), share, found.score)
    ]


class _Events:
    """Lines of a propagation as server-sent events; the masks come together at the end."""

    def __init__(self, total: int, start: int, share: float) -> None:
        self._total, self._start, self._share = total, start, share
        self._begun = False
        self._results: dict[str, Any] = {}

    def of(self, line: dict[str, Any]) -> bytes:
        """The events of a line."""
        events = []
        if not self._begun:
            self._begun = True
            started = {"total_frames": self._total, "start_frame_index": self._start}
            events.append({"type": "started", **started})
        if "frame" in line:
            shapes = [
                shape
                for found in line["objects"]
                for shape in forms.shapes_of(
                    mask_from_rle(found["mask"]), self._share, found["score"]
                )
            ]
            self._results[str(line["frame"])] = {"masks": shapes}
            events.append({"type": "progress", "current_frame": line["frame"]})
        elif line["end"] == "complete":
            done = {"frames_processed": line["done"], "results": self._results}
            events.append({"type": "completed", **done})
        else:
            message = line["error"] or "the tracking was cancelled"
            events.append({"type": "error", "message": message})
        return b"".join(b"data: " + json.dumps(event).encode() + b"\n\n" for event in events)
