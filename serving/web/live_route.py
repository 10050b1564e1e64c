"""The WebSocket of live streams: frames in, masks out, the newest frame wins."""

from __future__ import annotations

import asyncio
import secrets
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from starlette.websockets import WebSocket, WebSocketDisconnect

from ...configs.errors import InputError, Sam2rtError
from ..sessions.limits import StoppingError, TooManyError
from ..sessions.live import LiveResult, LiveSession
from . import schemas
from .bodies import checked_json, query_flag
from .errors import BadRequestError, line_of_error, status_of
from .services import Services, services_of

_POLICY, _GOING = 1008, 1001
#: actions that wait for a frame at most, and characters of the masks in them
_MOST_WAITING, _MOST_CHARACTERS = 1000, 32 << 20


@dataclass
class _Inbox:
    """What came and was not worked on: one frame, with all that was asked before it."""

    count: int = 0
    dropped: int = 0
    frame: tuple[int, bytes] | None = None
    #: asked before that frame, and after it
    before: list[dict[str, Any]] = field(default_factory=list)
    after: list[dict[str, Any]] = field(default_factory=list)
    came: asyncio.Event = field(default_factory=asyncio.Event)

    def ask(self, action: dict[str, Any]) -> None:
        """Note an action for the next frame. TooManyError."""
        waiting = [*self.before, *self.after]
        if len(waiting) >= _MOST_WAITING:
            raise TooManyError(f"{_MOST_WAITING} actions wait for a frame: send one")
        if sum(map(_characters, [*waiting, action])) > _MOST_CHARACTERS:
            raise TooManyError(
                f"the masks that wait for a frame have more than {_MOST_CHARACTERS} characters: "
                "send one"
            )
        self.after.append(action)

    def put(self, content: bytes) -> None:
        """Note a frame; one that waits is left out for it."""
        self.dropped += self.frame is not None
        self.frame = self.count, content
        self.count += 1
        self.before += self.after
        self.after = []
        self.came.set()

    async def take(self) -> tuple[int, bytes, list[dict[str, Any]]]:
        """The newest frame and what was asked before it."""
        await self.came.wait()
        self.came.clear()
        assert self.frame is not None
        (index, content), actions = self.frame, self.before
        self.frame, self.before = None, []
        return index, content, actions


async def live(websocket: WebSocket) -> None:
    """A stream of its own as long as the connection lasts."""
    services = services_of(websocket)
    await websocket.accept()
    try:
        as_text = _as_text(websocket)
        no_overlap = query_flag(websocket.query_params, "no_overlap")
        with services.sessions.place():
            await _served(websocket, services, as_text, no_overlap)
    except Sam2rtError as error:
        code = _GOING if isinstance(error, StoppingError) else _POLICY
        # a reason has at most 123 bytes
        await _close(websocket, code, line_of_error(error).encode()[:123].decode(errors="ignore"))
    except WebSocketDisconnect:
        pass


def _as_text(websocket: WebSocket) -> bool:
    form = websocket.query_params.get("format", "binary")
    if form not in ("binary", "json"):
        raise BadRequestError(f"format is {form!r:.40}: expected binary or json")
    return form == "json"


async def _served(
    websocket: WebSocket, services: Services, as_text: bool, no_overlap: bool
) -> None:
    model, limits = services.model, services.limits
    stream = await services.turn(lambda: LiveSession(model, limits, no_overlap), urgent=True)
    inbox = _Inbox()
    hello = {
        "session": secrets.token_hex(16),
        "model": model.bundle.model.name,
        "image_size": model.bundle.model.image_size,
    }
    work = None
    try:
        await websocket.send_json(hello)
        work = asyncio.ensure_future(_worked(websocket, services, stream, inbox, as_text))
        received = asyncio.ensure_future(_received(websocket, inbox, limits.idle_seconds))
        done, left = await asyncio.wait((work, received), return_when=asyncio.FIRST_COMPLETED)
        for task in left:
            task.cancel()
        await asyncio.gather(*left, return_exceptions=True)
        for task in done:
            task.result()
    finally:
        services.metrics.dropped.inc(inbox.dropped)
        with suppress(StoppingError):
            model.submit(stream.close, urgent=True)


async def _received(websocket: WebSocket, inbox: _Inbox, idle_seconds: float) -> None:
    """Note what comes, until the client leaves. TooManyError for one that sends nothing."""
    while True:
        try:
            message = await asyncio.wait_for(websocket.receive(), idle_seconds)
        except asyncio.TimeoutError:
            raise TooManyError(f"no message in {idle_seconds} seconds: connect again") from None
        if message["type"] == "websocket.disconnect":
            return
        if (content := message.get("bytes")) is not None:
            inbox.put(content)
            continue
        try:
            inbox.ask(_action(message["text"]))
        except Sam2rtError as error:
            await _tell(websocket, error)


def _characters(action: dict[str, Any]) -> int:
    """How long the run lengths of its mask are."""
    return len(action.get("prompt", {}).get("mask", {}).get("counts", ""))


def _action(text: str) -> dict[str, Any]:
    action = checked_json(text.encode("utf-8", "replace"), schemas.ACTION)
    if len(action) != 1:
        raise BadRequestError("the message: expected one of 'prompt', 'remove' and 'reset'")
    return action


async def _worked(
    websocket: WebSocket, services: Services, stream: LiveSession, inbox: _Inbox, as_text: bool
) -> None:
    """Track the newest frame, again and again."""
    while True:
        index, content, actions = await inbox.take()
        try:
            frame = await services.aside(lambda content=content: stream.decoded(content))  # type: ignore[misc]
        except InputError as error:
            # what was asked for it holds for the next one
            inbox.before = actions + inbox.before
            await _tell(websocket, error)
            continue
        dropped = inbox.dropped

        def step(index: int = index, frame: Any = frame, actions: Any = actions) -> Any:
            return _stepped(stream, index, frame, actions, dropped)  # noqa: B023

        result, errors = await services.turn(step, urgent=False)
        for wrong in errors:
            await _tell(websocket, wrong)
        if result is None:
            continue
        services.metrics.frames.labels("live").inc()
        answer = (
            websocket.send_json(result.described())
            if as_text
            else websocket.send_bytes(result.packed())
        )
        try:
            await asyncio.wait_for(answer, services.limits.send_seconds)
        except asyncio.TimeoutError:
            raise TooManyError("the client takes no masks: read faster") from None


def _stepped(
    stream: LiveSession, index: int, frame: Any, actions: list[dict[str, Any]], dropped: int
) -> tuple[LiveResult | None, list[Exception]]:
    """A frame's work, in the model's thread; what was wrong is told, the stream goes on."""
    errors: list[Exception] = []
    for action in actions:
        try:
            stream.act(action)
        except Sam2rtError as error:
            errors.append(error)
    try:
        return stream.step(frame, index, dropped), errors
    except Sam2rtError as error:
        return None, [*errors, error]


async def _tell(websocket: WebSocket, error: Exception) -> None:
    await websocket.send_json({"error": line_of_error(error), "status": status_of(error)})


async def _close(websocket: WebSocket, code: int, reason: str) -> None:
    # the client may have left
    with suppress(RuntimeError, WebSocketDisconnect):
        await websocket.close(code, reason)
