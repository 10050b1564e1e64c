"""Frames beside those of the programs ffmpeg and ffprobe: number, time stamps, pixels."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import copy_packets, marked, turn, write_clip

from sam2rt.runtime.media.open import open_frames

pytestmark = pytest.mark.skipif(
    shutil.which("ffprobe") is None or shutil.which("ffmpeg") is None,
    reason="the programs ffmpeg and ffprobe are not installed",
)
#: an overlay of chroma that moves: what a wrong conversion shows
_NOISE = [
    np.maximum(marked(i), np.random.default_rng(i).integers(0, 90, (96, 128, 3), np.uint8))
    for i in range(40)
]
_FIELDS = {"flags": "+ildct+ilme"}
_BT2020 = {"colorspace": 9, "color_primaries": 9, "color_trc": 18}
_VP8 = {"auto-alt-ref": "1", "lag-in-frames": "16"}
_MADE: dict[str, tuple[str, dict[str, Any]]] = {
    "h264.mp4": ("libx264", {"b_frames": 2, "options": {"preset": "veryfast"}}),
    "h264.mov": ("libx264", {}),
    "h264.mkv": ("libx264", {"sound": 4}),
    "h264.ts": ("libx264", {"sound": 4}),
    "h264.avi": ("libx264", {}),
    "h264-tagged.mp4": ("libx264", {"tags": {"colorspace": 1, "color_range": 1}}),
    "h264-full.mp4": ("libx264", {"pix_fmt": "yuvj420p"}),
    "h264-444.mp4": ("libx264", {"pix_fmt": "yuv444p"}),
    "h264-422-10.mp4": ("libx264", {"pix_fmt": "yuv422p10le"}),
    "h264-interlaced.ts": ("libx264", {"options": {**_FIELDS, "x264-params": "interlaced=1"}}),
    "h264-uneven.mp4": ("libx264", {"times": [n * n / 100 for n in range(40)]}),
    "h264-uneven.mkv": ("libx264", {"times": [n * n / 100 for n in range(40)]}),
    "hevc.mp4": ("libx265", {}),
    "hevc-hdr.mp4": ("libx265", {"pix_fmt": "yuv420p10le", "tags": _BT2020}),
    "vp8.webm": ("libvpx", {"options": _VP8, "sound": 4}),
    "vp9.webm": ("libvpx-vp9", {}),
    "av1.mp4": ("libsvtav1", {}),
    "mpeg2-interlaced.ts": ("mpeg2video", {"options": _FIELDS, "b_frames": 2}),
    "mpeg2-interlaced.vob": ("mpeg2video", {"options": _FIELDS, "format": "vob"}),
    "mpeg4.avi": ("mpeg4", {}),
    "mjpeg.avi": ("mjpeg", {"pix_fmt": "yuvj420p"}),
    "ffv1.mkv": ("ffv1", {}),
    "prores.mov": ("prores_ks", {"pix_fmt": "yuv422p10le"}),
    "animation.gif": ("gif", {"pix_fmt": "rgb8"}),
}


@pytest.mark.parametrize("name", _MADE)
def test_frames_equal_those_of_ffmpeg(name: str, tmp_path: Path) -> None:
    codec, more = _MADE[name]
    _compare(write_clip(tmp_path / name, codec, 40, frames=_NOISE, **more))


def test_a_turned_one_and_a_trimmed_one_do_so_too(tmp_path: Path) -> None:
    path = write_clip(tmp_path / "c.mp4", "libx264", 40, frames=_NOISE, gop=20)
    _compare(copy_packets(path, tmp_path / "trimmed.mp4", shift=-0.6))
    turn(path, (0, 1, -1, 0))
    _compare(path)


def _compare(path: Path) -> None:
    with open_frames(path) as frames:
        found = np.stack(list(frames))
        stamps = [frames.time_of(i) for i in range(frames.num_frames)]
    expected = _stamps(path)
    assert len(found) == len(stamps) == len(expected)
    told = np.isfinite(expected)
    assert np.count_nonzero(told) >= len(told) - 1
    # half of the last digit that ffprobe gives
    np.testing.assert_allclose(np.array(stamps, float)[told], expected[told], atol=6e-7)
    decoded = _run(
        "ffmpeg", "-v", "error", "-i", str(path), "-map", "0:v:0", "-fps_mode", "passthrough",
        "-pix_fmt", "rgb24", "-f", "rawvideo", "-",
    )  # fmt: skip
    pixels = np.frombuffer(decoded, np.uint8).reshape(found.shape)
    # versions of FFmpeg round the transforms of old codecs differently
    assert np.abs(found.astype(int) - pixels).max() <= 2


def _stamps(path: Path) -> Any:
    """Seconds, NaN where ffprobe knows none."""
    lines = _run(
        "ffprobe", "-v", "error", "-select_streams", "v:0", "-of", "csv=p=0",
        "-show_entries", "frame=best_effort_timestamp_time", str(path),
    )  # fmt: skip
    told = [line.split(",")[0] for line in lines.decode().split()]
    return np.array([np.nan if stamp == "N/A" else float(stamp) for stamp in told if stamp])


def _run(*command: str) -> bytes:
    return subprocess.run(command, capture_output=True, check=True).stdout
