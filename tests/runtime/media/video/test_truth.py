"""What a file holds is told from its frames and stamps, whatever its header says of them.

Each clip shows its own indices; a reader that believes a header refuses some as damaged, counts
others wrong, or gives black for interlaced frames.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from clips import copy_packets, index_of, write_clip

from sam2rt import FrameError
from sam2rt.runtime.media.open import open_frames

_UNEVEN = [n / 10 if n < 30 else 3 + (n - 30) / 60 for n in range(61)]
_LATE_END = [*(n / 30 for n in range(60)), 12.0]
_FIELDS = {"flags": "+ildct+ilme"}
_H264_FIELDS = {**_FIELDS, "x264-params": "interlaced=1:tff=1"}


@dataclass(frozen=True)
class Held:
    """What a clip holds: the indices that its frames show, their seconds, frames a second."""

    path: Path
    shown: Sequence[int]
    times: Sequence[float]
    fps: float = 25
    #: how far a container's clock may be from the seconds
    clock: float = field(default=0.001)


def _even(path: Path, count: int = 60, start: float = 0, first: int = 0) -> Held:
    shown = range(first, first + count)
    return Held(path, shown, [start + i / 25 for i in range(count)])


def _uneven(path: Path) -> Held:
    clip = write_clip(path, "libx264", 61, 60, times=_UNEVEN)
    return Held(clip, range(61), _UNEVEN, fps=60 / 3.5)


def _part(path: Path) -> Held:
    """The third part of a segmented file: its stamps go on where those of the second ended."""
    pattern = path.with_name("part%d.mkv")
    muxing = {"segment_time": "1", "segment_format": "matroska"}
    write_clip(pattern, "libx264", 100, gop=25, format="segment", muxing=muxing)
    return _even(path.with_name("part2.mkv"), 25, start=2, first=50)


def _trimmed(path: Path) -> Held:
    """As ``ffmpeg -ss 3 -c copy`` leaves it: from the key frame on, 25 frames before the cut."""
    long = write_clip(path.with_name("long.mp4"), "libx264", 120, gop=50, sound=0)
    return _even(copy_packets(long, path, first=50, shift=-3), 45, first=75)


def _copied_stamps(path: Path) -> Held:
    long = write_clip(path.with_name("long.mp4"), "libx264", 120, gop=50)
    return _even(copy_packets(long, path, first=50), 70, start=2, first=50)


def _sound_first(path: Path) -> Held:
    times = [1.5 + i / 25 for i in range(60)]
    return Held(write_clip(path, "libx264", 60, times=times, sound=5), range(60), times)


def _interlaced(path: Path, codec: str, **more: Any) -> Held:
    options = _H264_FIELDS if codec == "libx264" else _FIELDS
    return _even(write_clip(path, codec, 60, options=options, **more))


_KINDS: dict[str, Callable[[Path], Held]] = {
    "trimmed.mp4": _trimmed,
    "longer-sound.mkv": lambda p: _even(write_clip(p, "libx264", sound=6)),
    "longer-sound.ts": lambda p: _even(write_clip(p, "libx264", sound=6)),
    "longer-sound.webm": lambda p: _even(write_clip(p, "libvpx", sound=6)),
    "longer-sound.mp4": lambda p: _even(write_clip(p, "libx264", sound=6)),
    "segment.mkv": _part,
    "copyts.mkv": _copied_stamps,
    "copyts.ts": _copied_stamps,
    "sound-first.mkv": _sound_first,
    "sound-first.mp4": _sound_first,
    "uneven.mkv": _uneven,
    "uneven.ts": _uneven,
    "uneven.mp4": _uneven,
    "late-end.mp4": lambda p: Held(
        write_clip(p, "libx264", 61, times=_LATE_END), range(61), _LATE_END, fps=5
    ),
    "held-end.mp4": lambda p: _even(
        write_clip(p, "libx264", b_frames=2, hold=10, options={"preset": "veryfast"})
    ),
    "interlaced.mp4": lambda p: _interlaced(p, "libx264"),
    "interlaced.mkv": lambda p: _interlaced(p, "libx264"),
    "interlaced-avchd.ts": lambda p: _interlaced(p, "libx264", format="mpegts"),
    "interlaced-mpeg2.ts": lambda p: _interlaced(p, "mpeg2video", b_frames=2),
    "interlaced-mpeg2.vob": lambda p: _interlaced(p, "mpeg2video", b_frames=2, format="vob"),
    "dv.avi": lambda p: _even(write_clip(p, "dvvideo", 15, size=(576, 720), options=_FIELDS), 15),
    "alternate-references.webm": lambda p: _even(
        write_clip(p, "libvpx", options={"auto-alt-ref": "1", "lag-in-frames": "16"})
    ),
    "av1.mp4": lambda p: _even(write_clip(p, "libsvtav1", 30), 30),
    "hevc-10-bit.mp4": lambda p: _even(write_clip(p, "libx265", pix_fmt="yuv420p10le")),
    "b-frames.avi": lambda p: _even(
        write_clip(p, "libx264", b_frames=2, options={"preset": "veryfast"})
    ),
    "prores.mov": lambda p: _even(write_clip(p, "prores_ks", 20, pix_fmt="yuv422p10le"), 20),
    "animation.gif": lambda p: _even(write_clip(p, "gif", pix_fmt="rgb8")),
    "fragmented.mp4": lambda p: _even(
        write_clip(p, "libx264", muxing={"movflags": "frag_keyframe+empty_moov"})
    ),
    "one-frame.mp4": lambda p: _even(write_clip(p, "mpeg4", 1), 1),
    "no-stamps.h264": lambda p: _even(write_clip(p, "libx264")),
}


@pytest.mark.parametrize("name", _KINDS)
def test_frames_and_stamps_are_those_in_the_file(name: str, tmp_path: Path) -> None:
    held = _KINDS[name](tmp_path / name)
    count = len(held.shown)
    with open_frames(held.path) as frames:
        assert frames.num_frames == count
        # sound may shift all stamps by its own priming, and some formats begin later than at zero
        stamps = np.array([frames.time_of(i) for i in range(count)], float)
        offset = stamps[0] - held.times[0]
        assert 0 <= offset < 0.6
        np.testing.assert_allclose(stamps - offset, held.times, atol=held.clock)
        assert frames.fps == pytest.approx(held.fps, rel=0.02)
        first = list(frames)
        assert [index_of(frame) for frame in first] == list(held.shown)
        # a second pass, in reverse
        for i in range(count - 1, -1, -1):
            np.testing.assert_array_equal(frames.read(i), first[i])


def test_a_trimmed_file_begins_at_its_cut(tmp_path: Path) -> None:
    """The stamps, too: 0 is the first frame that is shown."""
    with open_frames(_trimmed(tmp_path / "trimmed.mp4").path) as frames:
        assert [frames.time_of(i) for i in (0, 1, 44)] == pytest.approx([0, 0.04, 1.76])
        assert frames.time_of(45) is None
        assert frames.time_of(-1) is None


@pytest.mark.parametrize(
    ("name", "codec", "more"),
    [
        ("c.mp4", "mpeg4", {"muxing": {"movflags": "faststart"}}),
        ("c.mkv", "libx264", {}),
        ("c.webm", "libvpx", {}),
        ("c.avi", "mjpeg", {"pix_fmt": "yuvj420p"}),
    ],
)
@pytest.mark.parametrize("share", [0.3, 0.6, 0.9])
def test_a_file_that_was_cut_is_told_as_such(
    name: str, codec: str, more: Any, share: float, tmp_path: Path
) -> None:
    path = write_clip(tmp_path / name, codec, 100, **more)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with open_frames(path) as frames:
        with pytest.raises(FrameError, match=r"ends after \d+( of 100)? frames \(truncated"):
            _ = frames.num_frames
        with pytest.raises(FrameError, match=r"ends after \d+( of 100)? frames \(truncated"):
            list(frames)
    with open_frames(path, on_error="skip") as frames:
        found = [index_of(frame) for frame in frames]
        assert 0 < len(found) < 100
        assert found[:-1] == list(range(len(found) - 1))
        assert frames.num_frames == len(found)


def test_a_wrong_header_is_no_damage(tmp_path: Path) -> None:
    """Duration and count of a header are multiplied; the frames are all there."""
    path = write_clip(tmp_path / "c.mkv", "libx264", 60)
    content = bytearray(path.read_bytes())
    at = content.index(bytes.fromhex("4489")) + 3
    content[at : at + 8] = np.array([99_000.0], ">f8").tobytes()
    path.write_bytes(content)
    with open_frames(path) as frames:
        assert frames.num_frames == len(list(frames)) == 60
    path = write_clip(tmp_path / "c.avi", "mpeg4", 60)
    content = bytearray(path.read_bytes())
    for place in (content.index(b"avih") + 8 + 16, content.index(b"strh") + 8 + 32):
        content[place : place + 4] = (600).to_bytes(4, "little")
    path.write_bytes(content)
    with open_frames(path) as frames:
        assert frames.num_frames == len(list(frames)) == 60
