"""Written videos: what plays everywhere, at any rate and size, whole or absent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

from sam2rt import InputError
from sam2rt.runtime.media.open import open_frames
from sam2rt.runtime.media.video import writer as writing
from sam2rt.runtime.media.video.writer import VideoWriter, open_video_writer

_COLOURS = [(10 * i, 200 - 9 * i, 90) for i in range(20)]


def _write(path: Path, fps: float, size: tuple[int, int], times: Any = None) -> Path:
    with open_video_writer(path, fps, size) as writer:
        for i, colour in enumerate(_COLOURS):
            writer.write(np.full((*size, 3), colour, np.uint8), None if times is None else times[i])
    return path


def _boxes(path: Path) -> Iterator[str]:
    """Names of the top-level boxes of an MP4 (ISO 14496-12), in their order."""
    content, at = path.read_bytes(), 0
    while at < len(content):
        yield content[at + 4 : at + 8].decode()
        at += int.from_bytes(content[at : at + 4], "big")


@pytest.mark.parametrize(
    ("size", "filled"),
    [
        ((48, 64), (48, 64)),
        ((49, 65), (50, 66)),
        ((200, 1), (200, 16)),
        ((1, 200), (16, 200)),
        ((1, 1), (16, 16)),
    ],
)
@pytest.mark.parametrize("fps", [12.5, 25, 30000 / 1001, 66.6667, 239.123, 0.5, 999])
def test_any_rate_and_size_is_written_as_what_browsers_play(
    fps: float, size: tuple[int, int], filled: tuple[int, int], tmp_path: Path
) -> None:
    path = _write(tmp_path / "out.mp4", fps, size)
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    # the index comes first, so that playing begins before all is loaded
    boxes = list(_boxes(path))
    assert boxes.index("moov") < boxes.index("mdat")
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.name, codec.pix_fmt) == ("h264", "yuv420p")
        assert (codec.height % 2, codec.width % 2) == (0, 0)
        assert (codec.colorspace, codec.color_primaries, codec.color_trc) == (1, 1, 1)
        assert codec.color_range == 1
    with open_frames(path) as read:
        assert (read.num_frames, read.height, read.width) == (20, *filled)
        assert read.fps == pytest.approx(fps, rel=0.002)
        for i, (found, colour) in enumerate(zip(read, _COLOURS, strict=True)):
            assert np.abs(found.astype(int) - colour).max() <= 6
            assert read.time_of(i) == pytest.approx(i / fps, abs=2e-5 * (i + 1))


def test_uneven_stamps_are_kept(tmp_path: Path) -> None:
    """The first is shown at once; a clock that stands or leaps gives frames at the rate."""
    times = [5 + n * n / 300 for n in range(20)]
    with open_frames(_write(tmp_path / "out.mp4", 25, (48, 64), times)) as read:
        found = [read.time_of(i) for i in range(read.num_frames)]
    np.testing.assert_allclose(np.array(found, float), np.array(times) - 5, atol=2e-5)
    times = [0, 1, 1, 0.5, 1, 90_000, 90_001, *range(90_002, 90_015)]
    with open_frames(_write(tmp_path / "out.mp4", 25, (48, 64), times)) as read:
        found = [read.time_of(i) for i in range(read.num_frames)]
    steps = [0, 1, 0.04, 0.04, 0.5, 0.04, *[1] * 14]
    np.testing.assert_allclose(np.array(found, float), np.cumsum(steps), atol=2e-5)


def test_a_long_video_does_not_drift(tmp_path: Path) -> None:
    """Stamps are rounded from the start, not from the frame before."""
    with open_video_writer(tmp_path / "out.mp4", 70, (16, 16)) as writer:
        for i in range(2000):
            writer.write(np.zeros((16, 16, 3), np.uint8), i / 70.001)
    with open_frames(tmp_path / "out.mp4") as read:
        assert read.time_of(1999) == pytest.approx(1999 / 70.001, abs=2e-5)


def test_vp9_where_there_is_no_encoder_of_h264(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    vp9 = {name: how for name, how in writing._ENCODERS.items() if "vp9" in name}
    monkeypatch.setattr(writing, "_ENCODERS", vp9)
    path = _write(tmp_path / "out.mp4", 25, (49, 64))
    boxes = list(_boxes(path))
    assert boxes.index("moov") < boxes.index("mdat")
    with av.open(str(path)) as container:
        codec = container.streams.video[0].codec_context
        assert (codec.codec.canonical_name, codec.pix_fmt) == ("vp9", "yuv420p")
    with open_frames(path) as read:
        for found, colour in zip(read, _COLOURS, strict=True):
            assert np.abs(found.astype(int) - colour).max() <= 6


def test_a_video_no_encoder_takes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writing, "_ENCODERS", {"one": {}, "another": {}})
    with (
        pytest.raises(InputError) as refused,
        open_video_writer(tmp_path / "out.mp4", 25, (48, 64)),
    ):
        pass
    assert str(refused.value) == (
        f"cannot write a video of 64 x 48 at 25 frames a second to {tmp_path} (the installed PyAV "
        "has none of the encoders one, another): leave the video out"
    )
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_named() -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("this system has no /dev/full")
    writer = VideoWriter(full, 25, (48, 64))
    writer.write(np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(InputError, match=r"cannot write a video .* \(No space left on device\)"):
        writer.close()


def test_a_video_interrupted_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "out.mp4"
    path.write_bytes(b"earlier")

    def interrupted() -> None:
        with open_video_writer(path, 25, (48, 64)) as writer:
            writer.write(np.zeros((48, 64, 3), np.uint8))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert [p.name for p in tmp_path.iterdir()] == ["out.mp4"]
    assert path.read_bytes() == b"earlier"
