"""Which frames of a video a call means: indices checked, the order of a propagation."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ...configs.checks import whole_number
from ...configs.errors import FrameError, InputError
from ..arrays import Frame
from ..frames import FrameSource


def frame_index(name: str, value: Any, num_frames: int) -> int:
    """`value` as the index of one of `num_frames` frames; InputError for anything else."""
    index = whole_number(name, value)
    if not 0 <= index < num_frames:
        raise InputError(f"frame {index}: the video has frames 0 to {num_frames - 1}")
    return index


def propagation_order(start: Any, most: Any | None, reverse: bool, num_frames: int) -> range:
    """Frames from `start_frame_idx` on, `max_frame_num_to_track` + 1 at most; None: all."""
    start = frame_index("start_frame_idx", start, num_frames)
    count = num_frames
    if most is not None:
        count = whole_number("max_frame_num_to_track", most, 0, ", or None for all")
    if reverse:
        # from the first frame there is nothing to track backwards
        return range(start, max(start - count, 0) - 1, -1) if start > 0 else range(0)
    return range(start, min(start + count, num_frames - 1) + 1)


def readable(frames: FrameSource, order: Iterable[int]) -> Iterator[tuple[int, Frame]]:
    """Frames in this order with their indices; "skip" leaves out those that cannot be read."""
    for index in order:
        try:
            frame = frames.read(index)
        except FrameError:
            if frames.on_error != "skip":
                raise
            continue
        yield index, frame
