"""Prefetching: later frames are read, resized and encoded while the present one is tracked."""

from __future__ import annotations

import contextlib
import queue
import threading
import time
from collections.abc import Callable, Generator, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

from ...configs.errors import InputError
from ..session import Session
from .tracker import Features

#: seconds to wait for a source that is to stop; for a frame that is being encoded, which takes
#: the largest model its time
_PATIENCE, _SLOW_FRAME = 2.0, 60.0
T = TypeVar("T")


@dataclass(frozen=True)
class EncodedFrame:
    """A frame encoded before its turn; ``StreamTracker.step`` takes it in the frame's place.

    size: (height, width) of the frame, pixels.
    """

    size: tuple[int, int]
    features: Features


def check_prefetch(session: Session) -> None:
    """InputError for a session whose graphs are queued on a GPU: nothing is left to overlap."""
    if not session.overlaps:
        raise InputError(
            "prefetch=True overlaps work on the CPU, this session runs on a GPU: leave it out"
        )


def prefetched_features(
    encode: Callable[[T], Features], items: Iterable[T]
) -> Generator[tuple[T, Features], None, None]:
    """Each item with its features, made by a thread one or two items before they are asked for.

    An error is raised where its item would have come; closing the generator stops the thread.
    """
    pairs = ((item, encode(item)) for item in items)
    with contextlib.closing(prefetched(pairs, depth=1, patience=_SLOW_FRAME)) as made:
        yield from made


def prefetched(
    items: Iterable[T], depth: int = 2, patience: float = _PATIENCE
) -> Generator[T, None, None]:
    """The same items, made by a background thread, up to `depth` before they are asked for.

    An error of the source is raised where its item would have come. Closing the iterator (or
    leaving the loop) stops the thread; one that is stalled is left behind after `patience`
    seconds. `items` must not be used elsewhere meanwhile.
    """
    if depth < 1:
        raise InputError(f"prefetch depth is {depth}: expected at least 1")
    ready: queue.Queue[tuple[str, Any]] = queue.Queue(depth)
    stop = threading.Event()
    worker = threading.Thread(target=_fill, args=(items, ready, stop), daemon=True)
    worker.start()
    try:
        while True:
            kind, value = ready.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value
    finally:
        stop.set()
        until = time.monotonic() + patience
        while worker.is_alive() and time.monotonic() < until:
            # a worker that waits for room sees the stop once its item fits
            with contextlib.suppress(queue.Empty):
                ready.get_nowait()
            worker.join(0.01)


def _fill(items: Iterable[Any], ready: queue.Queue[tuple[str, Any]], stop: threading.Event) -> None:
    try:
        for item in items:
            ready.put(("item", item))
            if stop.is_set():
                return
        ready.put(("end", None))
    except BaseException as error:
        # an exit or an interruption too: the reader would wait for ever
        ready.put(("error", error))
