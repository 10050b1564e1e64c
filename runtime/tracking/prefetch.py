"""Prefetching: later frames are read, resized and encoded while the present one is tracked."""

from __future__ import annotations

import atexit
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from typing import Any, TypeVar

from ...configs.errors import InputError
from ..session import Session
from .tracker import Features

#: seconds to wait for a source that is to stop; for a frame that is being encoded, which takes
#: the largest model its time
_PATIENCE, _SLOW_FRAME = 2.0, 60.0
T = TypeVar("T")


def check_prefetch(session: Session) -> None:
    """InputError for a session whose graphs are all queued one after the other."""
    if not session.overlaps:
        raise InputError(
            "prefetch=True overlaps the work of two threads, this session has one queue on a GPU: "
            "leave it out"
        )


def prefetched_features(
    encode: Callable[[T], Features],
    items: Iterable[T],
    leave: Callable[[], None] = lambda: None,
) -> Generator[tuple[T, Features], None, None]:
    """Each item with its features, made by a thread one or two items before they are asked for.

    An error is raised where its item would have come; closing the generator stops the thread,
    which calls `leave` last.
    """
    pairs = ((item, encode(item)) for item in items)
    with contextlib.closing(prefetched(pairs, 1, _SLOW_FRAME, leave)) as made:
        yield from made


def prefetched(
    items: Iterable[T],
    depth: int = 2,
    patience: float = _PATIENCE,
    leave: Callable[[], None] = lambda: None,
) -> Generator[T, None, None]:
    """The same items, made by a background thread, up to `depth` before they are asked for.

    An error of the source is raised where its item would have come. Closing the iterator (or
    leaving the loop, or the end of the program) stops the thread; one that is stalled is left
    behind after `patience` seconds. The thread calls `leave` when it ends. `items` must not be used
    elsewhere meanwhile.
    """
    if depth < 1:
        raise InputError(f"prefetch depth is {depth}: expected at least 1")
    worker = _Worker(items, depth, patience, leave)
    try:
        while True:
            kind, value = worker.ready.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        worker.stop()


class _Worker:
    """A thread that makes items ahead; stopped at the latest when the program ends.

    A thread that wakes after the interpreter is gone, inside a library's C++, aborts the process:
    it is ended by an exception that such code does not let through.
    """

    def __init__(
        self, items: Iterable[Any], depth: int, patience: float, leave: Callable[[], None]
    ) -> None:
        self.ready: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
        self._stopping = threading.Event()
        self._patience, self._leave = patience, leave
        # a daemon, since a source that is stalled for ever must not hold up the program's end
        self._thread = threading.Thread(target=self._fill, args=(items,), daemon=True)
        self._thread.start()
        # runs while threads still can, unlike the end of a generator that is still referenced
        atexit.register(self.stop)

    def stop(self) -> None:
        """End the thread; one that is stalled is left behind after the patience."""
        atexit.unregister(self.stop)
        self._stopping.set()
        until = time.monotonic() + self._patience
        while self._thread.is_alive() and time.monotonic() < until:
            # a thread that waits for room sees the stop once its item fits
            with contextlib.suppress(queue.Empty):
                self.ready.get_nowait()
            self._thread.join(0.01)

    def _fill(self, items: Iterable[Any]) -> None:
        try:
            for item in items:
                self.ready.put(("item", item))
                if self._stopping.is_set():
                    return
            self.ready.put(("end", None))
        except BaseException as error:
            # an exit or an interruption too: the reader would wait for ever
            self.ready.put(("error", error))
        finally:
            # the session may have been closed meanwhile, or its GPU be gone
            with contextlib.suppress(Exception):
                self._leave()
