"""Writing RGB frames as a video that browsers, notebooks and editors play, whole or not at all.

H.264 in MP4, planes 4:2:0 of even sides, colours tagged BT.709, the index in front of the frames.
Where the installed PyAV has no H.264 encoder, VP9 in MP4.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

from ....configs.checks import shown_line
from ....configs.errors import InputError
from ....configs.staging import replaced_file
from ...arrays import Array
from ...packages import pyav

#: by preference; the quality shows no blocks, and a faster encoder is worth larger files here:
#: on a GPU it works beside the tracking
_ENCODERS = {
    "libx264": {"preset": "ultrafast", "crf": "20"},
    "libopenh264": {"b": "8M"},
    "libvpx-vp9": {"deadline": "realtime", "cpu-used": "8", "crf": "24", "b": "0"},
}
#: stamps a second: the usual rates, 1000/1001 of them included, are whole numbers of these
_CLOCK = 90_000
#: seconds between two frames after which the clock must have leapt
_LONGEST = 3600
#: encoders refuse smaller sides
_SMALLEST = 16
#: as in ITU-T H.273 and in FFmpeg: primaries, transfer and matrix; range
_BT709, _LIMITED = 1, 1


class VideoWriter:
    """Writes RGB frames of one size into a file, which is complete once the writer is closed.

    size: (height, width) pixels; odd sides, and those below 16, are filled up by repeating the
    last row or column. Every method raises InputError where the file cannot be encoded or written.
    """

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        self._av = pyav("writing video")
        self._what = f"a video of {size[1]} x {size[0]} at {fps:g} frames a second to {path.parent}"
        self._nominal = max(1, round(_CLOCK / fps))
        #: the stamp of the frame written last, its time, and the time that counts as zero
        self._clock = -self._nominal
        self._last_time: float | None = None
        self._zero = 0.0
        #: rows and columns that are repeated to fill up to even sides
        self._padding = [(0, max(_SMALLEST, side + side % 2) - side) for side in size]
        height, width = (side + more for side, (_, more) in zip(size, self._padding, strict=True))
        self._container: Any = None
        with self._errors():
            self._container = self._av.open(
                f"file:{path}", "w", format="mp4", options={"movflags": "+faststart"}
            )
            self._stream = _stream(self._av, self._container, fps, height, width)

    def write(self, rgb: Array, time: float | None = None) -> None:
        """Append a frame, uint8 [H, W, 3] of the size the writer was opened with.

        time: its time stamp in seconds, from any zero; without one, the frame comes at the rate
        that the writer was opened with.
        """
        if any(more for _, more in self._padding):
            rgb = np.pad(rgb, (*self._padding, (0, 0)), mode="edge")
        frame = self._av.VideoFrame.from_ndarray(np.ascontiguousarray(rgb), format="rgb24")
        planes = frame.reformat(
            format="yuv420p", dst_colorspace="ITU709", dst_color_range="MPEG", interpolation="AREA"
        )
        self._clock = self._stamp(time)
        planes.pts, planes.time_base = self._clock, Fraction(1, _CLOCK)
        with self._errors():
            self._mux(planes)

    def close(self) -> None:
        """Encode what is left and complete the file."""
        if self._container is None:
            return
        with self._errors():
            self._mux(None)
            self._container.close()
            self._container = None

    @contextmanager
    def _errors(self) -> Iterator[None]:
        try:
            yield
        except (OSError, self._av.FFmpegError, LookupError) as error:
            container, self._container = self._container, None
            if container is not None:
                with suppress(self._av.FFmpegError):
                    container.close()
            what = shown_line(getattr(error, "strerror", None) or str(error))
            raise InputError(f"cannot write {self._what} ({what}): leave the video out") from None

    def _mux(self, planes: Any | None) -> None:
        for packet in self._stream.encode(planes):
            # how long a frame is shown; for all but the last the next one's stamp decides
            packet.duration = packet.duration or self._nominal
            self._container.mux(packet)

    def _stamp(self, time: float | None) -> int:
        planned = self._clock + self._nominal
        if time is None:
            return planned
        since = time - self._last_time if self._last_time is not None else 0.0
        self._last_time = time
        if not 0 < since < _LONGEST:
            # the first frame, or a clock that leapt
            self._zero = time - planned / _CLOCK
        return max(self._clock + 1, round((time - self._zero) * _CLOCK))


def _stream(av: Any, container: Any, fps: float, height: int, width: int) -> Any:
    """An opened stream of the best encoder that the installed PyAV has."""
    name = next((name for name in _ENCODERS if _is_there(av, name)), None)
    if name is None:
        raise LookupError(f"the installed PyAV has none of the encoders {', '.join(_ENCODERS)}")
    rate = Fraction(fps).limit_denominator(10_000)
    stream = container.add_stream(name, rate=max(rate, Fraction(1, 10_000)))
    codec = stream.codec_context
    codec.width, codec.height, codec.pix_fmt = width, height, "yuv420p"
    codec.time_base = Fraction(1, _CLOCK)
    codec.options = _ENCODERS[name]
    codec.color_primaries = codec.color_trc = codec.colorspace = _BT709
    codec.color_range = _LIMITED
    codec.open()
    return stream


def _is_there(av: Any, name: str) -> bool:
    try:
        av.codec.Codec(name, "w")
    except av.codec.codec.UnknownCodecError:
        return False
    return True


@contextmanager
def open_video_writer(
    path: str | os.PathLike[str], fps: float, size: tuple[int, int]
) -> Iterator[VideoWriter]:
    """A writer whose file becomes `path` when the block ends without an error.

    size: (height, width) pixels. Raises InputError where the file cannot be encoded or written.
    """
    with replaced_file(path, ".mp4") as part, closing(VideoWriter(part, fps, size)) as writer:
        yield writer
