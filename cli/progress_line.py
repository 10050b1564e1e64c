"""Progress as a line on a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from types import TracebackType
from typing import TextIO


class ProgressLine:
    """A line on stderr that says what is being done, once that has taken two seconds.

    Silent where stderr is no terminal. Call it with what is done, how much of it and the whole
    (None where nobody knows); leaving the block clears the line.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        delay: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._next = clock() + delay
        self._shown = False

    def __call__(self, what: str, done: int = 0, total: int | None = None) -> None:
        now = self._clock()
        # None where the caller closed it
        if now < self._next or self._stream is None or not self._stream.isatty():
            return
        self._next = now + 0.1
        self._shown = True
        share = f" {100 * done // total} %" if total else f" {done}" if done else ""
        self._stream.write(f"\r\033[K{what}{share}")
        self._stream.flush()

    def __enter__(self) -> ProgressLine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:
            self._stream.write("\r\033[K")
            self._stream.flush()
