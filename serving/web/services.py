"""What all routes share: the model, media, sessions, and how work is waited for."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import TypeVar

from starlette.requests import HTTPConnection

from ..sessions.limits import ServerLimits, StoppingError
from ..sessions.media import MediaStore
from ..sessions.model import Model
from ..sessions.session import WorkSession
from ..sessions.store import SessionStore
from .metrics import Metrics

T = TypeVar("T")


@dataclass
class Services:
    """The parts of one server; made by :func:`~sam2rt.serving.web.server.opened_services`."""

    model: Model
    media: MediaStore
    sessions: SessionStore
    limits: ServerLimits
    metrics: Metrics
    backend: str
    #: set on the event loop when the server is to stop
    stopping: bool = False
    #: frames, files and results: work beside the model
    pool: ThreadPoolExecutor = field(
        default_factory=lambda: ThreadPoolExecutor(8, thread_name_prefix="sam2rt-files")
    )
    #: drawing a video takes long: so many at once, so that others get a thread
    drawing: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(2))
    _locks: weakref.WeakKeyDictionary[WorkSession, asyncio.Lock] = field(
        default_factory=weakref.WeakKeyDictionary
    )

    async def aside(self, work: Callable[[], T]) -> T:
        """What `work` gives, called in a thread beside the model."""
        return await asyncio.get_running_loop().run_in_executor(self.pool, work)

    async def turn(self, work: Callable[[], T], *, urgent: bool) -> T:
        """What `work` gives, called in a turn on the model."""
        if self.stopping:
            raise StoppingError("the server stops: ask again later")
        return await asyncio.wrap_future(self.model.submit(work, urgent=urgent))

    async def click(self, session: WorkSession, work: Callable[[], T]) -> T:
        """What `work` gives, called in an urgent turn; a session has one of them at a time.

        However fast one client asks, another's click stands right behind its first one.
        """
        lock = self._locks.setdefault(session, asyncio.Lock())
        async with lock:
            with self.metrics.click.time():
                return await self.turn(work, urgent=True)

    def used(self, request: HTTPConnection) -> AbstractContextManager[WorkSession]:
        """The session of a request, in use while the block lasts. NotFoundError."""
        return self.sessions.used(request.path_params["session"])


def services_of(request: HTTPConnection) -> Services:
    """The services of the server that a request came to."""
    services: Services = request.app.state.services
    return services
