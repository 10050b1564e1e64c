"""What the machine lacks is named as such: the file at hand is not called damaged."""

from __future__ import annotations

import errno
import itertools
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cv2
import numpy as np
import pytest
from no_descriptors import no_descriptors
from numpy.typing import NDArray
from PIL import Image

from sam2rt import FrameError, Sam2rtError, StateError, open_frames
from sam2rt.runtime.media import sequences
from sam2rt.runtime.media.images import count_pages, read_image

FRAME = np.full((8, 8, 3), 90, np.uint8)
FULL = "(Too many open files): close files and videos, or raise this process's limit, 'ulimit -n'"


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "a.png"
    Image.fromarray(FRAME).save(path)
    read_image(path)  # Pillow's plugins are loaded now
    return path


@pytest.fixture
def video(tmp_path: Path) -> Path:
    path = tmp_path / "a.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), 10, (64, 48))
    for _ in range(3):
        writer.write(np.full((48, 64, 3), 90, np.uint8))
    writer.release()
    open_frames(path).close()  # PyAV is loaded now
    return path


def refused(call: Callable[[], Any], message: str, error: type[Exception] = FrameError) -> None:
    with pytest.raises(error) as caught:
        call()
    assert str(caught.value) == message
    assert isinstance(caught.value, Sam2rtError)


def test_too_many_open_files_are_no_damaged_image(image: Path, tmp_path: Path) -> None:
    stack = tmp_path / "stack.tif"
    pages = [Image.fromarray(FRAME)] * 2
    pages[0].save(stack, save_all=True, append_images=pages[1:])
    for call, path in (
        (lambda: read_image(image), image),
        (lambda: count_pages(stack), stack),
        (lambda: open_frames(stack), stack),
    ):
        with no_descriptors():
            refused(call, f"cannot read the image {path} {FULL}")
    with no_descriptors():
        refused(lambda: open_frames([image]), f"frame 0: cannot read the image {image} {FULL}")
    assert read_image(image).shape == (8, 8, 3)


def test_too_many_open_files_are_no_truncated_video(video: Path) -> None:
    with no_descriptors():
        refused(lambda: open_frames(video), f"{video} cannot be opened {FULL}")
    # one for the packets and one for the pictures
    with no_descriptors(left=2), open_frames(video) as frames:
        refused(lambda: frames.num_frames, f"{video} cannot be read {FULL}")
    with no_descriptors(left=3), open_frames(video) as frames:
        assert frames.num_frames == 3


def test_a_truncated_video_is_called_so(video: Path) -> None:
    video.write_bytes(video.read_bytes()[:40])
    with pytest.raises(FrameError, match="truncated"):
        open_frames(video)


def test_no_descriptor_for_a_temporary_file() -> None:
    tempfile.gettempdir()
    with no_descriptors():
        refused(
            lambda: open_frames(iter([FRAME])),
            f"frames cannot be kept in a temporary file {FULL}",
        )


@pytest.mark.parametrize("code", [errno.ENOENT, errno.EROFS, errno.ENOSPC, errno.EACCES])
def test_no_temporary_folder(code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    def none(**_: Any) -> Any:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(tempfile, "TemporaryFile", none)
    message = f"^frames cannot be kept in a temporary file \\({os.strerror(code)}\\): "
    fix = "free space on that disk" if code == errno.ENOSPC else "set TMPDIR to a folder of yours"
    with pytest.raises(FrameError, match=message + fix):
        open_frames(iter([FRAME]))


def endless(pulled: list[int]) -> Iterator[NDArray[np.uint8]]:
    for t in itertools.count():
        pulled.append(t)
        yield FRAME


def test_frames_without_an_end_leave_room_on_the_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """The disk here has 1000 bytes more than what is left to others."""
    pulled: list[int] = []
    usage = SimpleNamespace(total=40 * sequences._ROOM, free=2 * sequences._ROOM + 1000)

    def disk_usage(_: Any) -> Any:
        return SimpleNamespace(total=usage.total, free=usage.free - FRAME.nbytes * len(pulled))

    monkeypatch.setattr(sequences.shutil, "disk_usage", disk_usage)
    monkeypatch.setattr(sequences, "_ASK_EVERY", 1)
    frames = open_frames(endless(pulled))
    with pytest.raises(FrameError, match=r"^cannot keep frame 5 in .* \(511 MiB are free\): free"):
        frames.num_frames  # noqa: B018
    assert len(pulled) == 6
    # asked again it pulls no more, and what there is can be read
    with pytest.raises(StateError, match="the source broke off before frame 5"):
        frames.num_frames  # noqa: B018
    assert len(pulled) == 6
    np.testing.assert_array_equal(frames.read(4), FRAME)
    frames.close()


@pytest.mark.parametrize("policy", ["raise", "skip", "hold"])
def test_frames_without_an_end_on_a_full_disk_end(policy: Any) -> None:
    pulled: list[int] = []
    frames: Any = open_frames(endless(pulled), on_error=policy)

    def full(_: Any) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    real = frames._file
    frames._file = SimpleNamespace(
        write=full, **{n: getattr(real, n) for n in ("seek", "flush", "read", "close")}
    )
    with pytest.raises(FrameError, match=r"in .* \(No space left on device\): free space or set"):
        frames.num_frames  # noqa: B018
    assert len(pulled) == 1 + sequences._MOST_LOST
    frames.close()


class Lying:
    """Says it has more frames than it gives."""

    def __init__(self, said: Any, error: type[Exception] = IndexError) -> None:
        self.said, self.error = said, error

    def __len__(self) -> int:
        return self.said  # type: ignore[no-any-return]

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        if index >= 3:
            raise self.error("out of range")
        return FRAME


@pytest.mark.parametrize("error", [IndexError, KeyError])
def test_a_length_that_is_too_great(error: type[Exception]) -> None:
    frames = open_frames(Lying(9, error))
    said = "IndexError: out of range" if error is IndexError else "KeyError: 'out of range'"
    refused(
        lambda: list(frames),
        f"frame 3: there is none ({said}), though len() says 9: expected a sequence, indexed "
        "from 0",
    )
    # there are no frames to skip behind the end
    assert len(list(open_frames(Lying(10**6, error), on_error="skip"))) == 3


@pytest.mark.parametrize("said", [-1, 1.5, 1 << 80])
def test_a_length_that_is_none(said: Any) -> None:
    with pytest.raises(FrameError, match=r"^the frames' length cannot be told \(.*\): expected a"):
        open_frames(Lying(said))
