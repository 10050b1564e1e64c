"""The eight mutations of Meta's page, on our sessions."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from starlette.datastructures import UploadFile

from ...configs.errors import FrameError, InputError
from ...configs.staging import temporary_folder
from ...runtime.pixels.rle import rle_from_mask
from ..sessions.limits import NotFoundError, NotMediaError
from ..sessions.media import Medium, Upload, suffix_of
from ..sessions.prompts import MOST_ID, ObjectMask, Prompt
from ..sessions.session import WorkSession
from ..web.services import Services
from .videos import described, for_browsers, gallery, medium_at

_BLOCK = 1 << 20
_Input = Mapping[str, Any]


class Resolvers:
    """The root of a request: fields of Query and Mutation by name.

    base: the address under which the client reached the server.
    """

    def __init__(self, services: Services, base: str) -> None:
        self._services, self._base = services, base

    def videos(self, _: Any, **page: Any) -> dict[str, Any]:
        """All videos on one page; the cursors are there for form's sake."""
        nodes = [self._described(medium) for medium in gallery(self._services.media)]
        edges = [{"cursor": str(i), "node": node} for i, node in enumerate(nodes)]
        ends = (edges[0]["cursor"], edges[-1]["cursor"]) if edges else (None, None)
        info = {
            "hasNextPage": False, "hasPreviousPage": False, "startCursor": ends[0],
            "endCursor": ends[1],
        }  # fmt: skip
        return {"pageInfo": info, "edges": edges}

    def defaultVideo(self, _: Any) -> dict[str, Any]:
        """The first video."""
        return self._described(gallery(self._services.media)[0])

    async def uploadVideo(
        self,
        _: Any,
        file: Any,
        startTimeSec: float | None = None,
        durationTimeSec: float | None = None,
    ) -> dict[str, Any]:
        """Take an upload; what browsers may not decode is encoded anew."""
        if not isinstance(file, UploadFile):
            raise InputError("file is no upload: send it as a part of a form, see 'map'")
        for name, seconds in (("startTimeSec", startTimeSec), ("durationTimeSec", durationTimeSec)):
            if seconds is not None and not (math.isfinite(seconds) and seconds >= 0):
                raise InputError(f"{name} is {seconds}: expected seconds, 0 or more")
        services = self._services
        with services.media.upload(file.filename or "", file.size) as upload:
            with temporary_folder() as folder:
                source = folder / "upload"
                with source.open("wb") as copy:
                    while block := await file.read(_BLOCK):
                        copy.write(block)
                content = await services.aside(
                    lambda: for_upload(source, startTimeSec, durationTimeSec)
                )
            medium = await services.aside(lambda: _finished(upload, content))
        if medium.kind != "video":
            raise InputError("the file is an image: expected a video")
        return self._described(medium)

    async def startSession(self, _: Any, input: _Input) -> dict[str, Any]:
        """A session on a video by its path."""
        services = self._services
        medium = medium_at(input["path"], services.media)
        session = await services.aside(lambda: services.sessions.open(medium))
        return {"sessionId": session.id}

    async def closeSession(self, _: Any, input: _Input) -> dict[str, Any]:
        """End a session; one that is gone is no error, the page closes on leaving, too."""
        services = self._services
        try:
            await services.aside(lambda: services.sessions.end(input["sessionId"]))
        except NotFoundError:
            return {"success": False}
        return {"success": True}

    async def addPoints(self, _: Any, input: _Input) -> dict[str, Any]:
        """Clicks in fractions of the frame."""
        with self._services.sessions.used(input["sessionId"]) as session:
            height, width = session.size
            if any(len(point) != 2 for point in input["points"]):
                raise InputError("points must be x, y pairs")
            asked = Prompt.of(
                {
                    "object": _object(input["objectId"]),
                    "frame": _frame(input["frameIndex"]),
                    "points": [[x * width, y * height] for x, y in input["points"]],
                    "labels": input["labels"],
                    "clear": input["clearOldPoints"],
                }
            )
            found = await self._services.click(session, lambda: session.prompt(asked))
            return on_frame(asked.frame, found)

    async def clearPointsInFrame(self, _: Any, input: _Input) -> dict[str, Any]:
        """Forget an object's clicks on a frame; an object left without any has an empty mask."""
        frame, obj_id = _frame(input["frameIndex"]), _object(input["objectId"])
        with self._services.sessions.used(input["sessionId"]) as session:
            found = await self._services.click(session, lambda: session.clear(frame, obj_id))
            if obj_id not in found:
                empty = rle_from_mask(np.zeros(session.size, np.bool_))
                found = {**found, obj_id: ObjectMask(obj_id, empty, 0)}
            return on_frame(frame, found)

    async def clearPointsInVideo(self, _: Any, input: _Input) -> dict[str, Any]:
        """Forget all objects."""
        with self._services.sessions.used(input["sessionId"]) as session:
            await self._services.click(session, session.reset)
        return {"success": True}

    async def removeObject(self, _: Any, input: _Input) -> list[dict[str, Any]]:
        """Forget an object; what is left on the frames where it had clicks."""
        obj_id = _object(input["objectId"])
        with self._services.sessions.used(input["sessionId"]) as session:

            def removed(session: WorkSession) -> list[int]:
                frames = sorted(frame for frame, known in session.prompts if known == obj_id)
                session.remove(obj_id)
                return frames

            frames = await self._services.click(session, lambda: removed(session))
            return [on_frame(t, session.masks.get(t, {})) for t in frames]

    def cancelPropagateInVideo(self, _: Any, input: _Input) -> dict[str, Any]:
        """End a propagation after the frame in work."""
        self._services.sessions.get(input["sessionId"]).cancelled = True
        return {"success": True}

    def _described(self, medium: Medium) -> dict[str, Any]:
        return described(medium, self._services.media, self._base)


def for_upload(source: Path, start: float | None, duration: float | None) -> bytes:
    """The bytes to keep of an upload. NotMediaError."""
    # a reader would open what a playlist names
    suffix_of(source)
    try:
        content = for_browsers(source, start, duration)
    except FrameError as error:
        message = str(error).replace(str(source), "it")
        raise NotMediaError(f"the file cannot be read: {message}") from None
    return source.read_bytes() if content is None else content


def _finished(upload: Upload, content: bytes) -> Medium:
    upload.write(content)
    return upload.finish()


def on_frame(frame: int, masks: Mapping[int, ObjectMask]) -> dict[str, Any]:
    """Masks of a frame in the page's form."""
    return {
        "frameIndex": frame,
        "rleMaskList": [
            {"objectId": found.object, "rleMask": {**found.mask, "order": "F"}}
            for found in masks.values()
        ],
    }


def _object(obj_id: int) -> int:
    if not 0 <= obj_id <= MOST_ID:
        raise InputError(f"objectId is {obj_id}: expected 0 to {MOST_ID}")
    return obj_id


def _frame(frame: int) -> int:
    if frame < 0:
        raise InputError(f"frameIndex is {frame}: expected 0 or more")
    return frame
