"""Which frames of a video a command works on, and in which order."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass

from ...configs.checks import whole_number
from ...configs.errors import InputError
from ..arrays import Array
from ..frames import FrameSource
from ..predictors.frame_order import frame_index, readable


@dataclass(frozen=True)
class FrameRange:
    """Frames `start` to `end`, both included, from 0; numbers stay those of the source.

    end: None for the last one. reverse: from the end to the start; without an end, from the last
    frame that has a prompt.
    """

    start: int = 0
    end: int | None = None
    reverse: bool = False

    def __post_init__(self) -> None:
        whole_number("start", self.start, 0)
        if self.end is not None and whole_number("end", self.end, 0) < self.start:
            raise InputError(
                f"frames {self.start} to {self.end}: expected an end that is not before the start"
            )

    def order(self, prompted: Collection[int], num_frames: int | None) -> range | None:
        """The frames in the order of the work; None where nobody knows how many there are.

        prompted: frames with a prompt, at least one; num_frames: of the source, None if it has no
        end. Raises InputError for a range the source does not have, or a prompt outside it.
        """
        end = self.end
        if num_frames is not None:
            frame_index("start", self.start, num_frames)
            if end is not None:
                frame_index("end", end, num_frames)
        elif self.reverse:
            raise InputError(
                "a stream has no last frame to go back from: save it as a file, or track forward"
            )
        if self.reverse and end is None:
            end = max(prompted)
        for frame in sorted(prompted):
            if frame < self.start or (end is not None and frame > end):
                last = "the last one" if end is None else end
                raise InputError(
                    f"a prompt is on frame {frame}, but frames {self.start} to {last} are tracked: "
                    "prompt one of these, or track more"
                )
        if num_frames is None:
            return None
        whole = range(self.start, num_frames if end is None else end + 1)
        return whole[::-1] if self.reverse else whole

    def items(self, frames: FrameSource, order: range | None) -> Iterator[tuple[int, Array]]:
        """Pairs of index and frame in that order; only "skip" leaves gaps."""
        if order is not None and (self.reverse or self.start or self.end is not None):
            yield from readable(frames, order)
            return
        # a source tells its end best itself
        for index, frame in frames.items():
            if self.end is not None and index > self.end:
                return
            if index >= self.start:
                yield index, frame
                if index == self.end:
                    return
