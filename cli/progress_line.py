"""Progress on stderr: a line that is rewritten on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from types import TracebackType
from typing import TextIO

from ..configs.errors import printable

#: columns where nobody knows how wide the terminal is
_COLUMNS = 80
#: seconds between two lines where stderr is no terminal
EVERY = 10.0
#: counts from here on are shown in millions, such as the bytes of a download
_MANY = 1_000_000


@dataclass(frozen=True)
class _State:
    """What was reported last, and where the stage that it belongs to began."""

    what: str
    done: int
    total: int | None
    now: float
    first_done: int
    since: float

    def moved(self, what: str, done: int, total: int | None, now: float) -> _State:
        """The next report; a stage goes on while its whole, or else its name, is the same."""
        same = total == self.total if total is not None else what == self.what
        if same and done >= self.done:
            return replace(self, what=what, done=done, total=total, now=now)
        return _State(what, done, total, now, done, now)

    def text(self, now: float) -> str:
        """Such as ``tracking 12 of 200 (6 %), 3.1/s, 1:01 left``."""
        if not self.total:
            if not self.done:
                # nothing else says that it goes on
                passed = round(now - self.since)
                return f"{self.what}, {_time(passed)}" if passed else self.what
            return ", ".join([f"{self.what} {_count(self.done)}", *self._rate()])
        # "3 of 20 videos" brings its count, of which done and total are parts
        counted = self.what[:1].isdigit()
        share = f"({100 * self.done // self.total} %)"
        count = "" if counted else f"{_count(self.done)} of {_count(self.total)} "
        left = [f"{_time(s)} left"] if (s := self._seconds_left()) is not None else []
        return ", ".join([f"{self.what} {count}{share}", *([] if counted else self._rate()), *left])

    def _speed(self) -> float | None:
        """Counts a second; None until there is something to go by."""
        done, seconds = self.done - self.first_done, self.now - self.since
        return done / seconds if done > 0 and seconds > 0 else None

    def _rate(self) -> list[str]:
        speed = self._speed()
        if speed is None:
            return []
        return [f"{_count(speed, 1)}/s" if speed >= 1 else f"{1 / speed:.1f} s each"]

    def _seconds_left(self) -> float | None:
        speed = self._speed()
        if speed is None or self.total is None or self.done >= self.total:
            return None
        return (self.total - self.done) / speed


class ProgressLine:
    """Says on stderr what is being done, how far it is, how fast, and how long it will take.

    On a terminal a line appears once the work has taken `delay` seconds, is rewritten, and goes
    when the block is left. Elsewhere a line is written every `every` seconds (EVERY unless given),
    and a last one when the block ends well after there was one. Call it with what is done, how
    much of it and the whole (None where nobody knows). quiet: nothing is said. tick: seconds after
    which a thread looks whether a line is due, so that a step that takes long is seen while it
    runs; without it only calls are.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        delay: float = 2.0,
        every: float | None = None,
        clock: Callable[[], float] = time.monotonic,
        quiet: bool = False,
        tick: float | None = None,
    ) -> None:
        # None where the caller closed it
        self._stream = None if quiet else stream or sys.stderr
        self._clock = clock
        every = EVERY if every is None else every
        self._terminal = self._stream is not None and self._stream.isatty()
        self._pause = 0.1 if self._terminal else every
        self._next = clock() + (delay if self._terminal else every)
        self._shown = False
        self._state: _State | None = None
        self._lock = threading.Lock()
        self._left = threading.Event()
        self._tick = tick if self._stream is not None else None
        self._ticker: threading.Thread | None = None

    def __call__(self, what: str, done: int = 0, total: int | None = None) -> None:
        now = self._clock()
        with self._lock:
            if self._state is None:
                self._state = _State(what, done, total, now, done, now)
            self._state = self._state.moved(what, done, total, now)
            self._show_if_due(now)

    def __enter__(self) -> ProgressLine:
        if self._tick is not None:
            self._ticker = threading.Thread(target=self._look, args=(self._tick,), daemon=True)
            self._ticker.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._left.set()
        if self._ticker is not None:
            self._ticker.join()
        if not self._shown or self._stream is None:
            return
        if self._terminal:
            self._stream.write("\r\033[K")
            self._stream.flush()
        elif error is None and self._state is not None:
            self._show(self._state.text(self._clock()))

    def _look(self, tick: float) -> None:
        """Show the last report again when a line is due."""
        while not self._left.wait(tick):
            try:
                with self._lock:
                    self._show_if_due(self._clock())
            except (OSError, ValueError):
                # the reader has gone: the next call says so where it can be handled
                return

    def _show_if_due(self, now: float) -> None:
        if self._state is None or now < self._next:
            return
        self._next = now + self._pause
        self._show(self._state.text(now))

    def _show(self, text: str) -> None:
        if self._stream is None:
            return
        self._shown = True
        # names of files may hold what a terminal obeys, and a line of progress is one line
        text = printable(" ".join(text.split()))
        if self._terminal:
            # a line that wraps is not rewritten whole
            self._stream.write(f"\r\033[K{text:.{_columns(self._stream) - 1}}")
        else:
            self._stream.write(f"{text}\n")
        self._stream.flush()


def _columns(stream: TextIO) -> int:
    try:
        # 0 where the terminal does not say
        return max(os.get_terminal_size(stream.fileno()).columns or _COLUMNS, 2)
    except (OSError, ValueError):
        return _COLUMNS


def _count(number: float, digits: int = 0) -> str:
    if number >= _MANY:
        return f"{number / _MANY:.1f}M"
    return f"{number:.{digits}f}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
