"""Ranges of frames: their order, what they refuse, and sources whose length nobody knows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sam2rt.configs.errors import InputError
from sam2rt.runtime.frames import FrameSource, NoMoreFrames
from sam2rt.runtime.tasks.frame_range import FrameRange


class Stream(FrameSource):
    """Ten frames, each of its number; what it read is kept, and its length is not told."""

    def __init__(self) -> None:
        super().__init__()
        self.read_indices: list[int] = []

    def _count(self) -> int:
        raise AssertionError("a stream has no length")

    def _load(self, index: int) -> Any:
        if index >= 10:
            raise NoMoreFrames
        self.read_indices.append(index)
        return np.full((4, 6, 3), index, np.uint8)


@pytest.mark.parametrize(
    ("chosen", "expected"),
    [
        (FrameRange(), range(10)),
        (FrameRange(2), range(2, 10)),
        (FrameRange(2, 5), range(2, 6)),
        (FrameRange(0, 0), range(1)),
        (FrameRange(reverse=True), range(7, -1, -1)),
        (FrameRange(3, reverse=True), range(7, 2, -1)),
        (FrameRange(3, 9, reverse=True), range(9, 2, -1)),
    ],
)
def test_the_order(chosen: FrameRange, expected: range) -> None:
    inside = [frame for frame in (3, 7) if frame in expected] or [expected[0]]
    assert chosen.order(inside, 10) == expected


@pytest.mark.parametrize(
    ("start", "end", "expected"),
    [(0, None, range(10)), (4, None, range(4, 10)), (4, 6, range(4, 7))],
)
def test_a_stream_is_read_no_further_than_asked(
    start: int, end: int | None, expected: range
) -> None:
    chosen, source = FrameRange(start, end), Stream()
    order = chosen.order([5], None)
    assert order is None
    found = [(index, int(frame[0, 0, 0])) for index, frame in chosen.items(source, order)]
    assert found == [(index, index) for index in expected]
    assert source.read_indices[-1] == expected[-1]


def test_a_stream_cannot_be_tracked_backwards() -> None:
    with pytest.raises(InputError) as refused:
        FrameRange(reverse=True).order([5], None)
    assert str(refused.value) == (
        "a stream has no last frame to go back from: save it as a file, or track forward"
    )


@pytest.mark.parametrize("value", ["3", 1.0, True])
def test_numbers_of_frames_are_whole(value: Any) -> None:
    with pytest.raises(InputError, match=r"^(start|end) is .*: expected a whole number"):
        FrameRange(value)
    with pytest.raises(InputError, match=r"^(start|end) is .*: expected a whole number"):
        FrameRange(0, value)
