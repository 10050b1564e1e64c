"""Routes that answer line by line: propagation and automatic masks, cancelled by either side."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, Callable, Iterator
from contextlib import suppress
from typing import Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from ...configs.errors import StateError
from ..sessions.automatic import automatic_masks
from ..sessions.limits import StoppingError
from ..sessions.prompts import ObjectMask, frame_masks
from ..sessions.session import WorkSession
from ..sessions.video import Direction, VideoSession, direction_of
from . import schemas
from .bodies import json_body
from .errors import line_of_failure
from .services import Services, services_of

Lines = AsyncGenerator[dict[str, Any], None]


class StreamResponse(StreamingResponse):
    """Work of a session that answers part by part, and keeps others from starting such work.

    A closed connection ends it, and so does a client that takes nothing for `seconds`.
    """

    def __init__(
        self,
        session: WorkSession,
        lines: Lines,
        seconds: float,
        encode: Callable[[dict[str, Any]], bytes],
        media_type: str,
    ) -> None:
        self._session, self._lines, self._seconds = session, lines, seconds
        self._at_work = True
        super().__init__(self._parts(encode), media_type=media_type)
        self.headers["Cache-Control"] = "no-store"

    async def _parts(self, encode: Callable[[dict[str, Any]], bytes]) -> AsyncGenerator[bytes]:
        async for line in self._lines:
            if "end" in line:
                # whoever reads this line may start other work at once
                self._leave()
            yield encode(line)

    def _leave(self) -> None:
        if self._at_work:
            self._at_work = self._session.propagating = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def sent(message: Any) -> None:
            await asyncio.wait_for(send(message), self._seconds)

        try:
            with suppress(asyncio.TimeoutError):
                await super().__call__(scope, receive, sent)
        finally:
            # at once, not when the garbage is collected; a client may leave before the first line
            await self._lines.aclose()
            self._leave()
            self._session.in_use -= 1


def lines_response(session: WorkSession, lines: Lines, seconds: float) -> StreamResponse:
    """A line of JSON for each part."""

    def encode(line: dict[str, Any]) -> bytes:
        return json.dumps(line, separators=(",", ":")).encode() + b"\n"

    return StreamResponse(session, lines, seconds, encode, "application/x-ndjson")


def begin(session: WorkSession) -> None:
    """Note that a session works part by part, until its :class:`StreamResponse` is over."""
    session.propagating, session.cancelled = True, False
    session.in_use += 1


async def propagate(request: Request) -> Response:
    """Track all objects through the video; the masks frame by frame."""
    services = services_of(request)
    session = services.sessions.get(request.path_params["session"])
    body = await json_body(request, schemas.PROPAGATION)
    direction = direction_of(body.get("direction", "forward"))
    lines = propagation(services, session, direction, body.get("start"), body.get("frames"))
    return lines_response(session, lines, services.limits.send_seconds)


def propagation(
    services: Services,
    session: WorkSession,
    direction: Direction,
    start: int | None,
    frames: int | None,
) -> Lines:
    """The masks of each frame, and at last how it ended, for a :class:`StreamResponse`.

    Raises StateError, NotFoundError.
    """
    if not isinstance(session, VideoSession):
        raise StateError("a session on an image has no other frames: use a video")
    _check_free(session)
    ways = session.plan(direction, start, frames)
    begin(session)
    return _propagated(services, session, ways)


async def _propagated(services: Services, session: VideoSession, ways: list[range]) -> Lines:
    done, total = 0, sum(len(way) for way in ways)
    end, error = "complete", None
    steps: Iterator[tuple[int, dict[int, ObjectMask]]] | None = None
    try:
        for way in ways:
            steps = session.propagation(way)
            while not (session.cancelled or services.stopping):
                step = await services.turn(lambda steps=steps: next(steps, None), urgent=False)  # type: ignore[misc]
                if step is None:
                    break
                done += 1
                services.metrics.frames.labels("video").inc()
                yield {**frame_masks(*step), "done": done, "total": total}
    except (StoppingError, GeneratorExit, asyncio.CancelledError) as stop:
        session.cancelled = True
        if not isinstance(stop, StoppingError):
            raise
    except Exception as failure:
        end, error = "failed", line_of_failure(failure)
    finally:
        _close(services, steps)
        if end == "complete" and (session.cancelled or services.stopping):
            end = "cancelled"
    yield {"end": end, "done": done, "total": total, "error": error}


def _close(services: Services, steps: Any) -> None:
    """End a generator in the model's thread, where it may be in work just now."""
    if steps is not None:
        with suppress(StoppingError):
            services.model.submit(steps.close, urgent=True)


async def automatic(request: Request) -> Response:
    """Masks of everything on a frame; progress, then the masks."""
    services = services_of(request)
    session = services.sessions.get(request.path_params["session"])
    options = await json_body(request, schemas.AUTOMATIC)
    frame = options.pop("frame", 0)
    session.check_frame(frame)
    _check_free(session)
    begin(session)
    lines = _automatic(services, session, frame, options)
    return lines_response(session, lines, services.limits.send_seconds)


async def _automatic(
    services: Services, session: WorkSession, frame: int, options: dict[str, Any]
) -> Lines:
    loop = asyncio.get_running_loop()
    lines: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    stopped: Callable[[], bool] = lambda: session.cancelled or services.stopping

    def progress(what: str, done: int = 0, total: int | None = None) -> None:
        loop.call_soon_threadsafe(lines.put_nowait, {"done": done, "total": total})

    def work() -> None:
        end: dict[str, Any] = {"end": "complete", "error": None, "masks": []}
        try:
            image = session.view(frame)
            end["masks"] = automatic_masks(services.model, image, options, progress, stopped)
        except StoppingError:
            end["end"] = "cancelled"
        except Exception as failure:
            end |= {"end": "failed", "error": line_of_failure(failure)}
        with suppress(RuntimeError):
            loop.call_soon_threadsafe(lines.put_nowait, end)

    loop.run_in_executor(services.pool, work)
    line: dict[str, Any] = {}
    try:
        while "end" not in line:
            line = await lines.get()
            yield line
    finally:
        # the client left: the thread ends before its next turn
        if "end" not in line:
            session.cancelled = True


def _check_free(session: WorkSession) -> None:
    if session.closed:
        raise StateError("the session was closed: open a new one")
    if session.propagating:
        raise StateError("the session tracks already: wait for its end, or cancel it")


async def cancel(request: Request) -> Response:
    """End what is propagated, after the frame in work."""
    session = services_of(request).sessions.get(request.path_params["session"])
    session.cancelled = True
    return Response(status_code=204)
