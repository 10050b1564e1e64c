"""Which frames a video file holds: their time stamps, and where decoding can start."""

from __future__ import annotations

from array import array
from bisect import bisect_left
from dataclasses import dataclass
from fractions import Fraction


@dataclass(frozen=True)
class Key:
    """A frame that decoding can start at: its index, its stamps in units of the time base."""

    index: int
    pts: int
    dts: int


@dataclass(frozen=True)
class VideoIndex:
    """The frames of a video file in presentation order.

    stamps: one a frame, in units of `time_base`, as ffprobe gives them. by_stamp: they are the
    frames' own and grow, so that a frame is known by its stamp; otherwise only by counting from
    the start. cut: the file ends before its end, or cannot be read to it.
    """

    stamps: array[int]
    time_base: Fraction
    by_stamp: bool
    keys: tuple[Key, ...]
    cut: bool

    def __len__(self) -> int:
        return len(self.stamps)

    def seconds(self, index: int) -> float:
        """The time stamp of a frame."""
        return float(self.stamps[index] * self.time_base)

    def place(self, stamp: int | None) -> int | None:
        """The index of the frame with that stamp, None where there is none."""
        if stamp is None:
            return None
        at = bisect_left(self.stamps, stamp)
        return at if at < len(self.stamps) and self.stamps[at] == stamp else None

    def key_before(self, index: int) -> Key | None:
        """The last key at or before a frame, None where only the start is left."""
        at = bisect_left(self.keys, index + 1, key=lambda key: key.index)
        return self.keys[at - 1] if at else None
