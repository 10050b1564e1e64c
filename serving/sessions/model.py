"""One open model, one thread that runs it, and fair turns for all who want it.

Graphs use all cores, so two at once only slow each other. A turn is one answer to a click or one
frame of one session. Whoever tracks a clip asks anew for each frame and so stands behind the
others; clicks go before frames. So a click waits for the frame in work, however long a clip is.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from typing import Any, TypeVar

from ...configs.bundle import Bundle
from ...configs.closing import Closing
from ...runtime.arrays import Array
from ...runtime.session import Into, Session, SessionWrapper
from .limits import StoppingError

T = TypeVar("T")
#: clicks that go before a waiting frame, so that no crowd of clicks holds up all tracking
_URGENT_IN_A_ROW = 8
_Job = tuple["Future[Any]", Callable[[], Any]]


class Model(Closing):
    """A bundle's session, run by one thread, a turn at a time; any thread may ask for one."""

    def __init__(self, session: Session) -> None:
        self.session = session
        self.bundle: Bundle = session.bundle
        self._changed = threading.Condition()
        self._urgent: deque[_Job] = deque()
        self._ordinary: deque[_Job] = deque()
        self._in_a_row = 0
        self._closed = False
        self._thread = threading.Thread(target=self._serve, name="sam2rt-model", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Turns that were asked for and have not begun."""
        return len(self._urgent) + len(self._ordinary)

    def submit(self, work: Callable[[], T], *, urgent: bool = False) -> Future[T]:
        """Ask for a turn in which `work` is called; the future holds what it gives or raises.

        urgent: somebody waits for an answer, such as to a click. Raises StoppingError once closed.
        """
        future: Future[T] = Future()
        with self._changed:
            if self._closed:
                raise StoppingError("the server stops: ask again later")
            (self._urgent if urgent else self._ordinary).append((future, work))
            self._changed.notify()
        return future

    def run(self, work: Callable[[], T], *, urgent: bool = False) -> T:
        """What `work` gives, once its turn came; a turn within a turn is taken at once."""
        if threading.current_thread() is self._thread:
            return work()
        return self.submit(work, urgent=urgent).result()

    def close(self) -> None:
        """Let the turn in work end, refuse the waiting ones, and end the thread."""
        with self._changed:
            self._closed = True
            left = [*self._urgent, *self._ordinary]
            self._urgent.clear()
            self._ordinary.clear()
            self._changed.notify()
        for future, _ in left:
            if future.set_running_or_notify_cancel():
                future.set_exception(StoppingError("the server stops: ask again later"))
        if threading.current_thread() is not self._thread:
            self._thread.join()

    def _serve(self) -> None:
        while (job := self._next()) is not None:
            future, work = job
            if not future.set_running_or_notify_cancel():
                continue
            try:
                made = work()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(made)
            # what the turn made belongs to whoever asked, and to nobody else until the next turn
            del job, future, work
            made = None

    def _next(self) -> _Job | None:
        with self._changed:
            while not self._closed and not self._urgent and not self._ordinary:
                self._changed.wait()
            if self._closed:
                return None
            rests = self._in_a_row >= _URGENT_IN_A_ROW and self._ordinary
            if self._urgent and not rests:
                self._in_a_row += 1
                return self._urgent.popleft()
            self._in_a_row = 0
            return self._ordinary.popleft()


class TurnSession(SessionWrapper):
    """The model's session for work of many calls in a thread of its own: each call is a turn.

    stopped: asked before each call; True ends the work with StoppingError.
    """

    def __init__(self, model: Model, stopped: Callable[[], bool]) -> None:
        super().__init__(model.session)
        self._model, self._stopped = model, stopped

    def run(
        self, graph: str, inputs: Mapping[str, Array], into: Into | None = None
    ) -> dict[str, Array]:
        if self._stopped():
            raise StoppingError("the work was cancelled")
        return self._model.run(lambda: self.session.run(graph, inputs, into))
