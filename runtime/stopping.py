"""Ends native calls from outside: a signal's handler has to wait until such a call is over.

A backend that can be told to stop registers each of its calls here for as long as it runs.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from types import TracebackType

_lock = threading.Lock()
_running: set[Stoppable] = set()


class Stoppable:
    """A call that is running: a block in which `stop` may be called from another thread."""

    def __init__(self, stop: Callable[[], None]) -> None:
        self._stop = stop

    def __enter__(self) -> None:
        with _lock:
            _running.add(self)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with _lock:
            _running.discard(self)

    def stop(self) -> None:
        self._stop()


def stop_running() -> None:
    """Ask every native call that runs now, in whatever thread, to end with an error.

    The command line does so on Ctrl-C, SIGTERM and SIGHUP. A program that uses the package may,
    from any thread; the calls raise SessionError.
    """
    with _lock:
        running = list(_running)
    for call in running:
        call.stop()
