"""Runs a server until it is told to stop, and lets the work in hand end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import AsyncIterator, Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import FrameType

import python_multipart
import uvicorn
import websockets
from starlette.applications import Starlette

from ...configs.errors import InputError
from ...configs.staging import temporary_folder
from ...runtime.session import Session
from ..sessions.limits import ServerLimits
from ..sessions.media import MediaStore
from ..sessions.model import Model
from ..sessions.store import SessionStore
from .metrics import Metrics
from .services import Services

#: what uvicorn and Starlette load late, when its absence is a traceback
NEEDED = (python_multipart, websockets)
#: seconds that work in hand has to end; between two looks at idle sessions
_GRACE, _LOOK = 10, 2.0
#: bytes of one message of a live stream
_LARGEST_MESSAGE = 32 << 20


@contextmanager
def opened_services(
    session: Session, data: Path | None, root: Path | None, limits: ServerLimits, backend: str
) -> Iterator[Services]:
    """The parts of a server, freed when the block ends.

    session: open, and lent. data: folder of uploaded media; None for one that goes with the block.
    Raises InputError for a data folder in use, or a root that is no folder.
    """
    if root is not None and not root.is_dir():
        raise InputError(f"root {root} is no folder: name the folder of the videos")
    with ExitStack() as stack:
        # the temporary folder itself is locked already, as one that is in use
        folder = data or stack.enter_context(temporary_folder()) / "data"
        model = stack.enter_context(Model(session))
        media = stack.enter_context(contextlib.closing(MediaStore(folder, root, limits)))
        sessions = stack.enter_context(SessionStore(model, media, limits))
        services = Services(model, media, sessions, limits, Metrics(), backend)
        stack.callback(services.pool.shutdown, wait=True, cancel_futures=True)
        _watch(services)
        yield services


def _watch(services: Services) -> None:
    metrics, sessions, model = services.metrics, services.sessions, services.model
    metrics.watch("sam2rt_sessions", "Open sessions and streams.", lambda: len(sessions))
    metrics.watch("sam2rt_sessions_opened", "Sessions since the start.", lambda: sessions.opened)
    metrics.watch("sam2rt_sessions_expired", "Sessions left idle.", lambda: sessions.expired)
    metrics.watch("sam2rt_turns_waiting", "Turns that wait.", lambda: model.waiting)


class PageServer(uvicorn.Server):
    """uvicorn with a sign before the stop: streams end by themselves, and new work is refused."""

    def __init__(self, config: uvicorn.Config, services: Services) -> None:
        super().__init__(config)
        self._services = services

    def stop(self) -> None:
        """Ask the server to stop; any thread may, and a signal's handler."""
        self._services.stopping = True
        self.should_exit = True

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._services.stopping = True
        super().handle_exit(sig, frame)

    @contextmanager
    def capture_signals(self) -> Generator[None, None, None]:
        """As uvicorn; the command line's own watcher would break off the frame in work."""
        with super().capture_signals():
            woken = _set_wakeup(-1)
            try:
                yield
            finally:
                _set_wakeup(woken)


def _set_wakeup(descriptor: int) -> int:
    try:
        return signal.set_wakeup_fd(descriptor)
    except ValueError:
        # another thread than the main one handles no signals
        return -1


def server_for(app: Starlette, services: Services) -> PageServer:
    """A server for :meth:`PageServer.serve` on sockets of :func:`listening`."""

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        looking = asyncio.ensure_future(_look(services))
        try:
            yield
        finally:
            looking.cancel()

    app.router.lifespan_context = lifespan
    config = uvicorn.Config(
        app,
        http="h11",
        ws="websockets-sansio",
        log_config=None,
        access_log=False,
        server_header=False,
        date_header=False,
        ws_max_size=_LARGEST_MESSAGE,
        ws_per_message_deflate=False,
        timeout_graceful_shutdown=_GRACE,
        timeout_keep_alive=30,
        h11_max_incomplete_event_size=64 << 10,
    )
    return PageServer(config, services)


async def _look(services: Services) -> None:
    """End idle sessions as time passes."""
    while True:
        await asyncio.sleep(min(_LOOK, services.limits.idle_seconds / 4))
        try:
            await services.aside(services.sessions.expire)
        except Exception:
            logging.getLogger(__name__).exception("idle sessions could not be ended")
