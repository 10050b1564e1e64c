"""What every source of frames promises: one size, any order, a rule for unreadable frames.

Frames are decoded when asked for, so that memory is bounded by a few frames whatever the length.
:func:`~sam2rt.runtime.media.open.open_frames` chooses the kind of source.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal, get_args

from ..configs.closing import PATIENCE, Closing
from ..configs.errors import FrameError, InputError
from .arrays import Array

OnError = Literal["raise", "skip", "hold"]
_POLICIES = get_args(OnError)


class NoMoreFrames(Exception):
    """An index past the last frame, for sources that learn their length by reading."""


class FrameSource(Closing, ABC):
    """Frames of one size, uint8 RGB [H, W, 3], read by index in any order.

    A frame that cannot be read is an error ("raise"), is left out when iterating ("skip";
    reading it by index is still an error), or is replaced by the last good one before it
    ("hold"). A frame of another size than the first counts as one that cannot be read. Frames
    may be read-only: copy one before drawing on it. A context manager; threads that share one
    wait for each other.

    A new kind of source fills in :meth:`_count` and :meth:`_load`, and :meth:`_free` if it holds
    files or memory.
    """

    #: frames per second, the mean where they vary; None where the source has none
    fps: float | None = None
    #: whether frames come once and in order, and nobody knows how many
    live = False

    def __init__(self, on_error: OnError = "raise") -> None:
        if on_error not in _POLICIES:
            raise InputError(f"on_error is {on_error!r}: expected one of {', '.join(_POLICIES)}")
        self.on_error = on_error
        self._size: tuple[int, int] | None = None
        #: the last good frame and its index, and up to which index it was shown ("hold")
        self._held: tuple[int, Array, int] | None = None
        # decoders abort the process when two threads are in them
        self._reading = threading.RLock()
        self._closed = False

    @property
    def num_frames(self) -> int:
        """Number of frames, unreadable ones included; a stream is pulled to its end."""
        with self._reading:
            self._open_still()
            return self._count()

    @abstractmethod
    def _count(self) -> int:
        """Number of frames, unreadable ones included."""

    @abstractmethod
    def _load(self, index: int) -> Array:
        """Frame `index` >= 0, uint8 RGB [H, W, 3].

        Raises FrameError if it cannot be read, NoMoreFrames past the end.
        """

    def close(self) -> None:
        """Free files and memory; reading again raises InputError."""
        self._closed = True
        self._held = None
        # a source that is stalled in another thread is freed when that thread ends
        if self._reading.acquire(timeout=PATIENCE):
            try:
                self._free()
            finally:
                self._reading.release()

    def _free(self) -> None:
        """Close files and drop what is kept."""
        return

    @property
    def height(self) -> int:
        """Pixels."""
        return self.measure()[0]

    @property
    def width(self) -> int:
        """Pixels."""
        return self.measure()[1]

    def measure(self) -> tuple[int, int]:
        """(height, width) in pixels; the first frame is read unless one was read before.

        Raises FrameError when there is none.
        """
        if self._size is None:
            next(self.items(), None)
        if self._size is None:
            raise FrameError("there is no frame to read: expected at least one")
        return self._size

    def read(self, index: int) -> Array:
        """Frame `index`, uint8 RGB [H, W, 3]. Raises FrameError."""
        try:
            return self._read(index)
        except NoMoreFrames:
            last = self.num_frames - 1
            raise FrameError(f"frame {index}: the video has frames 0 to {last}") from None

    def time_of(self, index: int) -> float | None:
        """The time stamp of a frame, seconds; None where the source has none.

        Of a live source, that of the frame read last alone.
        """
        return None

    def name_of(self, index: int) -> str | None:
        """The name of a frame's own file; None where frames have none, or two of one name."""
        return None

    def items(self) -> Iterator[tuple[int, Array]]:
        """Pairs of index and frame, in order; only "skip" leaves gaps."""
        index = 0
        while True:
            try:
                frame = self._read(index)
            except NoMoreFrames:
                return
            except FrameError:
                if self.on_error != "skip":
                    raise
            else:
                yield index, frame
            index += 1

    def _read(self, index: int) -> Array:
        if index < 0:
            raise NoMoreFrames
        with self._reading:
            self._open_still()
            try:
                frame = self._checked(index)
            except FrameError:
                if self.on_error != "hold":
                    raise
                held = self._before(index)
                if held is None:
                    raise
                good, frame = held
                self._held = good, frame, index
            else:
                self._held = (index, frame, index) if self.on_error == "hold" else None
            return frame

    def _before(self, index: int) -> tuple[int, Array] | None:
        """The last good frame before `index`, with its own index; None where there is none."""
        for earlier in range(index - 1, -1, -1):
            if self._held is not None and self._held[0] <= earlier <= self._held[2]:
                # a live source cannot go back for it
                return self._held[0], self._held[1]
            try:
                return earlier, self._checked(earlier)
            except FrameError:
                continue
        return None

    def _open_still(self) -> None:
        if self._closed:
            raise InputError("the frames are closed: open them again with open_frames")

    def _checked(self, index: int) -> Array:
        frame = self._load(index)
        size = (frame.shape[0], frame.shape[1])
        if self._size is None:
            self._size = size
        if size != self._size:
            raise FrameError(
                f"frame {index} is {size[1]} x {size[0]}, the first is {self._size[1]} x "
                f"{self._size[0]}: resize it, or use on_error='skip' or 'hold'"
            )
        return frame

    def __len__(self) -> int:
        return self.num_frames

    def __iter__(self) -> Iterator[Array]:
        return (frame for _, frame in self.items())
