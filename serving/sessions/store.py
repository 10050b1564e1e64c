"""All open sessions: how many, how long, and that they are gone when they are gone."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ...configs.closing import Closing
from .image import ImageSession
from .limits import NotFoundError, ServerLimits, StoppingError, TooManyError
from .media import MediaStore, Medium
from .model import Model
from .session import WorkSession
from .video import VideoSession


class SessionStore(Closing):
    """The sessions by id; any thread may call, and waits while a session opens or closes."""

    def __init__(self, model: Model, media: MediaStore, limits: ServerLimits) -> None:
        self.model, self.media, self.limits = model, media, limits
        #: counted since the start: opened, and gone for want of requests
        self.opened = self.expired = 0
        self._sessions: dict[str, WorkSession] = {}
        self._places = 0
        self._changing = threading.Lock()

    def __len__(self) -> int:
        return self._places

    def open(self, medium: Medium, *, no_overlap: bool = False) -> WorkSession:
        """A new session on a medium. TooManyError."""
        self._take_place()
        self.media.hold(medium)
        try:
            kind = ImageSession if medium.kind == "image" else VideoSession
            session: WorkSession = kind(self.model, medium, self.limits, no_overlap)
        except BaseException:
            self.media.let_go(medium)
            self._give_place()
            raise
        self._sessions[session.id] = session
        return session

    def get(self, session_id: str) -> WorkSession:
        """An open session, which counts as used now. NotFoundError."""
        try:
            session = self._sessions[session_id]
        except KeyError:
            raise NotFoundError(
                f"no session {session_id:.40}: sessions end after {self.limits.idle_seconds} "
                "seconds without a request, open a new one"
            ) from None
        session.touched = time.monotonic()
        return session

    @contextmanager
    def used(self, session_id: str) -> Iterator[WorkSession]:
        """An open session that does not expire while the block lasts. NotFoundError."""
        session = self.get(session_id)
        session.in_use += 1
        try:
            yield session
        finally:
            session.in_use -= 1
            session.touched = time.monotonic()

    def end(self, session_id: str) -> None:
        """Close a session, once its turn in work is over. NotFoundError."""
        self.get(session_id)
        session = self._sessions.pop(session_id, None)
        if session is not None:
            self._free(session)

    def expire(self) -> int:
        """Close the sessions that nobody asked for in `idle_seconds`; how many those were."""
        before = time.monotonic() - self.limits.idle_seconds
        idle = [
            session.id
            for session in list(self._sessions.values())
            if session.touched < before and not session.in_use
        ]
        for session_id in idle:
            with suppress(NotFoundError):
                self.end(session_id)
                self.expired += 1
        return len(idle)

    @contextmanager
    def place(self) -> Iterator[None]:
        """Count a live stream as a session while the block lasts. TooManyError."""
        self._take_place()
        try:
            yield
        finally:
            self._give_place()

    def close(self) -> None:
        """Close all sessions."""
        for session_id in list(self._sessions):
            with suppress(NotFoundError, StoppingError):
                self.end(session_id)

    def _free(self, session: WorkSession) -> None:
        try:
            session.close()
        finally:
            self.media.let_go(session.medium)
            self._give_place()

    def _take_place(self) -> None:
        with self._changing:
            if self._places >= self.limits.sessions:
                raise TooManyError(
                    f"{self._places} sessions are open, the most there may be: close one, or wait"
                )
            self._places += 1
            self.opened += 1

    def _give_place(self) -> None:
        with self._changing:
            self._places -= 1
