"""Small video files of every kind, made with PyAV; each frame shows its own index."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np

SIZE = (96, 128)
_MILLISECONDS = Fraction(1, 1000)
#: lossless enough for bars, and decoded the same by every version of FFmpeg
_OPTIONS: dict[str, dict[str, str]] = {
    "libx264": {"preset": "ultrafast", "crf": "12"},
    "libx265": {"preset": "ultrafast", "x265-params": "log-level=none"},
    "libvpx": {"deadline": "realtime", "cpu-used": "8"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8"},
    "libsvtav1": {"preset": "12", "svtav1-params": "lp=1"},
}


def marked(index: int, size: tuple[int, int] = SIZE) -> Any:
    """An image that shows its index as eight black or white bars, legible after compression."""
    bits = [(index >> k) & 1 for k in range(8)]
    row = np.repeat(np.array(bits, np.uint8) * 255, -(-size[1] // 8))[: size[1]]
    return np.ascontiguousarray(np.broadcast_to(row[None, :, None], (*size, 3)))


def index_of(frame: Any) -> int:
    """The index that a marked image shows, modulo 256."""
    bars = [bar.mean() > 127 for bar in np.array_split(frame, 8, axis=1)]
    return int(sum(1 << k for k, on in enumerate(bars) if on))


def write_clip(
    path: Path,
    codec: str = "mpeg4",
    count: int = 60,
    fps: float = 25,
    *,
    format: str | None = None,
    times: Sequence[float] | None = None,
    size: tuple[int, int] = SIZE,
    pix_fmt: str = "yuv420p",
    gop: int = 12,
    b_frames: int = 0,
    sound: float = 0,
    hold: float = 0,
    options: Mapping[str, str] | None = None,
    muxing: Mapping[str, str] | None = None,
    tags: Mapping[str, int] | None = None,
    frames: Sequence[Any] | None = None,
) -> Path:
    """Marked frames as a video; times: seconds of each frame; sound: seconds of silence beside;
    hold: seconds that the last frame is shown.

    tags: colour tags of the stream, by the names of the codec context's fields.
    """
    with av.open(str(path), "w", format=format, options=dict(muxing or {})) as container:
        stream: Any = container.add_stream(
            codec, rate=Fraction(fps).limit_denominator(1001), options=options_of(codec, options)
        )
        stream.height, stream.width = size
        stream.pix_fmt, stream.gop_size = pix_fmt, gop
        if b_frames:
            stream.codec_context.max_b_frames = b_frames
        for name, value in (tags or {}).items():
            setattr(stream.codec_context, name, value)
        if times is not None:
            stream.codec_context.time_base = _MILLISECONDS
        silence: Any = container.add_stream(*_sound(path)) if sound else None
        for i in range(count):
            pixels = frames[i] if frames is not None else marked(i, size)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24").reformat(format=pix_fmt)
            frame.pts, frame.time_base = i, 1 / Fraction(fps).limit_denominator(1001)
            if times is not None:
                frame.pts, frame.time_base = round(times[i] * 1000), _MILLISECONDS
            container.mux(stream.encode(frame))
        left = stream.encode(None)
        if hold:
            left[-1].duration = round(hold / left[-1].time_base)
        container.mux(left)
        if silence is not None:
            _write_silence(container, silence, sound)
    return path


def options_of(codec: str, more: Mapping[str, str] | None) -> dict[str, str]:
    return {**_OPTIONS.get(codec, {}), **(more or {})}


def _sound(path: Path) -> tuple[str, int]:
    return ("libopus", 48_000) if path.suffix == ".webm" else ("aac", 48_000)


def _write_silence(container: Any, stream: Any, seconds: float) -> None:
    size = 960 if stream.codec_context.name == "libopus" else 1024
    for start in range(0, int(seconds * 48_000), size):
        frame = av.AudioFrame.from_ndarray(np.zeros((2, size), np.float32), "fltp", "stereo")
        frame.sample_rate, frame.pts, frame.time_base = 48_000, start, Fraction(1, 48_000)
        container.mux(stream.encode(frame))
    container.mux(stream.encode(None))


def copy_packets(
    source: Path,
    target: Path,
    *,
    first: int = 0,
    shift: float = 0,
    format: str | None = None,
    muxing: Mapping[str, str] | None = None,
) -> Path:
    """The packets of a video from one on, its stamps moved by so many seconds, not encoded anew.

    Moved before zero in MP4, packets become a lead-in that an edit list hides.
    """
    with (
        av.open(str(source)) as old,
        av.open(str(target), "w", format=format, options=dict(muxing or {})) as new,
    ):
        track = old.streams.video[0]
        copy = new.add_stream_from_template(track)
        assert track.time_base is not None
        offset = round(shift / track.time_base)
        for number, packet in enumerate(p for p in old.demux(track) if p.size):
            if number >= first:
                packet.pts, packet.dts = packet.pts + offset, packet.dts + offset
                packet.stream = copy
                new.mux(packet)
    return target


def turn(path: Path, matrix: tuple[int, int, int, int]) -> None:
    """Write a display matrix (a, b, c, d) into an MP4, as phones do that were held otherwise."""
    content = bytearray(path.read_bytes())
    # version 0 of the box: flags, five words, two reserved, four of two bytes
    at = content.index(b"tkhd") + 4 + 4 + 20 + 8 + 8
    a, b, c, d = (value << 16 for value in matrix)
    content[at : at + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    path.write_bytes(content)
