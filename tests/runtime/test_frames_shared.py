"""Frames that are read by several threads or kept in a temporary file."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from sam2rt import FrameError, InputError, StateError
from sam2rt.runtime.arrays import Array
from sam2rt.runtime.frames import FrameSource, NoMoreFrames, OnError
from sam2rt.runtime.media.open import open_frames
from sam2rt.runtime.media.sequences import SpooledFrames


class _Busy(FrameSource):
    """Notes when two threads are in it at a time."""

    inside = crowded = 0

    def _count(self) -> int:
        return 40

    def _load(self, index: int) -> Any:
        if index >= 40:
            raise NoMoreFrames
        self.inside += 1
        self.crowded = max(self.crowded, self.inside)
        time.sleep(0.001)
        self.inside -= 1
        return np.zeros((4, 4, 3), np.uint8)


def test_threads_that_share_a_source_take_turns() -> None:
    source = _Busy()
    threads = [threading.Thread(target=lambda: list(source)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert source.crowded == 1


def test_closed_frames_say_so() -> None:
    frames = open_frames(np.zeros((2, 4, 4, 3), np.uint8))
    frames.close()
    for use in (lambda: frames.read(0), lambda: frames.num_frames, lambda: list(frames)):
        with pytest.raises(InputError, match="the frames are closed"):
            use()


class _Live(FrameSource):
    """Gives each frame once, in order; some cannot be read."""

    def __init__(self, damaged: set[int]) -> None:
        super().__init__("hold")
        self.damaged, self.next = damaged, 0

    def _count(self) -> int:
        return 12

    def _load(self, index: int) -> Any:
        assert index == self.next, "a live source cannot go back"
        self.next += 1
        if index == 12:
            raise NoMoreFrames
        if index in self.damaged:
            raise FrameError("damaged")
        return np.full((4, 4, 3), index, np.uint8)


def test_a_live_source_holds_the_last_good_frame() -> None:
    shown = [int(frame[0, 0, 0]) for frame in _Live({3, 4, 5, 8})]
    assert shown == [0, 1, 2, 2, 2, 2, 6, 7, 7, 9, 10, 11]


@pytest.mark.parametrize("first_asked", [3, 5])
def test_a_frame_that_cannot_be_kept_moves_no_other(first_asked: int) -> None:
    with SpooledFrames(np.full((8, 8, 3), t, np.uint8) for t in range(6)) as frames:
        write, writes = frames._file.write, []

        def full_once(data: Any) -> int:
            writes.append(data)
            if len(writes) == 4:
                raise OSError(28, "No space left on device")
            return write(data)

        frames._file = SimpleNamespace(
            write=full_once,
            **{n: getattr(frames._file, n) for n in ("seek", "flush", "read", "close")},
        )
        if first_asked == 5:
            assert int(frames.read(5)[0, 0, 0]) == 5
        with pytest.raises(FrameError, match="cannot keep frame 3 in"):
            frames.read(3)
        assert [int(frames.read(t)[0, 0, 0]) for t in (0, 1, 2, 4, 5)] == [0, 1, 2, 4, 5]
        assert frames.num_frames == 6


@pytest.mark.parametrize("policy", ["raise", "skip", "hold"])
@pytest.mark.parametrize("error", [RuntimeError("camera\nlost"), FrameError("bad"), SystemExit()])
def test_a_source_that_broke_off_never_passes_for_whole(
    policy: OnError, error: BaseException
) -> None:
    def produce() -> Iterator[Array]:
        for t in range(3):
            yield np.full((8, 8, 3), t, np.uint8)
        raise error

    with open_frames(produce(), on_error=policy) as frames:
        seen: list[int] = []
        with pytest.raises((type(error), StateError)):
            seen.extend(int(frame[0, 0, 0]) for frame in frames)
        assert seen == [0, 1, 2]
        for ask in (lambda: list(frames), lambda: frames.num_frames, lambda: frames.read(3)):
            with pytest.raises(StateError) as refused:
                ask()
            found = {"RuntimeError": "RuntimeError: camera lost", "FrameError": "FrameError: bad"}
            name = type(error).__name__
            assert str(refused.value) == (
                f"the source broke off before frame 3 ({found.get(name, name)}): make it again, "
                "and open that"
            )
        # what came stays readable
        assert frames.read(2)[0, 0, 0] == 2
