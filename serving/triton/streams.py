"""The sessions of a stream model: one tracker a sequence of the server, gone after its time.

The server ends an idle sequence without a word to the model, and a START on a live id ends the
sequence that had it. So sessions expire here by themselves, and a live one is defended.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from ...configs.closing import Closing
from ...configs.errors import InputError, StateError
from ...runtime.predictors.stream import StreamTracker

T = TypeVar("T")


@dataclass
class SequenceStream:
    """One session. touched: when it had a request last; size: (height, width) of its frames."""

    tracker: StreamTracker
    touched: float
    size: tuple[int, int] | None = None


class StreamTable(Closing):
    """Trackers by the id of their sequence; all methods in one thread.

    idle_seconds: a session without a frame for that long is gone. most: sessions at once. The
    server lets no more sequences in, so with more the one left idle longest has ended there.
    """

    def __init__(
        self,
        make: Callable[[], StreamTracker],
        idle_seconds: float,
        most: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._make, self._idle, self._most, self._clock = make, idle_seconds, most, clock
        self._streams: dict[int, SequenceStream] = {}
        #: sessions that were left without an end
        self.expired = 0

    def __len__(self) -> int:
        return len(self._streams)

    def step(
        self, sequence: int | str, start: bool, end: bool, work: Callable[[SequenceStream], T]
    ) -> T:
        """What `work` gives of the sequence's session, a new one with `start`.

        A session is gone after `end`, whatever `work` raises, and a session that fails with its
        first frame was never there. Raises InputError for an id that is no number, StateError for
        a start on a live id, or without a start where no session is live.
        """
        number = _checked(sequence)
        self.expire()
        if start:
            self._start(number)
        stream = self._streams.get(number)
        if stream is None:
            raise StateError(
                f"sequence {number} has no session: it ended, or had no frame for "
                f"{self._idle:g} seconds; begin one with sequence_start"
            )
        kept = not start and not end
        try:
            made = work(stream)
            kept = not end
            return made
        finally:
            stream.touched = self._clock()
            if not kept:
                self._drop(number)

    def expire(self) -> None:
        """End the sessions that had no frame for their time."""
        latest = self._clock() - self._idle
        for number in [n for n, stream in self._streams.items() if stream.touched <= latest]:
            self._drop(number)
            self.expired += 1

    def close(self) -> None:
        for number in list(self._streams):
            self._drop(number)

    def _start(self, number: int) -> None:
        if (live := self._streams.get(number)) is not None:
            raise StateError(
                f"sequence {number} is live, with {live.tracker.frame_idx} frames: end it with "
                "sequence_end, or begin with another id"
            )
        if len(self._streams) >= self._most:
            self._drop(min(self._streams, key=lambda n: self._streams[n].touched))
            self.expired += 1
        self._streams[number] = SequenceStream(self._make(), self._clock())

    def _drop(self, number: int) -> None:
        tracker = self._streams.pop(number).tracker
        tracker.reset()
        tracker.close()


def _checked(sequence: int | str) -> int:
    """The number of a sequence; the server would take a hash of a name for it, without a word."""
    if isinstance(sequence, str):
        raise InputError(
            f"the sequence id is the text {sequence!r:.60}: expected a whole number from 1 on"
        )
    if sequence == 0:
        raise InputError("the request has no sequence id: expected a whole number from 1 on")
    return sequence
