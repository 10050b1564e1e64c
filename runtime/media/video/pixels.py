"""Decoded frames as upright RGB, converted as FFmpeg converts them.

The matrix and the range are those of the frame's tags; without tags BT.601 and the limited range
(the full one of JPEG), which is FFmpeg's rule at every size. HDR is converted without tone mapping.
An odd shape of pixels (the sample aspect ratio) is not evened out.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...arrays import Frame
from ...packages import pyav


class UprightPixels:
    """Converts decoded frames to RGB [H, W, 3]; each in the size of the first.

    The conversion runs in FFmpeg's own filters, so that pixels equal those of
    ``ffmpeg -pix_fmt rgb24``.
    """

    def __init__(self) -> None:
        self._av = pyav("reading video")
        self._graph: Any = None
        self._built_for: Any = None
        #: (height, width) of the first frame, upright
        self._size: tuple[int, int] | None = None

    def rgb(self, frame: Any) -> Frame:
        """A decoded frame as uint8 [H, W, 3], read-only."""
        kind = (
            frame.format.name, frame.width, frame.height, frame.colorspace, frame.color_range,
            frame.rotation,
        )  # fmt: skip
        if kind != self._built_for:
            # not for each frame: one whose side data were asked for is freed late, in a cycle
            self._graph, self._built_for = self._built(frame, _turns(frame)), kind
        self._graph.push(frame)
        converted = self._graph.pull()
        height, width = converted.height, converted.width
        self._size = self._size or (height, width)
        plane = converted.planes[0]
        rows: Frame = np.frombuffer(plane, np.uint8).reshape(-1, plane.line_size)
        pixels = np.ascontiguousarray(rows[:height, : 3 * width]).reshape(height, width, 3)
        pixels.flags.writeable = False
        return pixels

    def _built(self, frame: Any, turns: tuple[str, ...]) -> Any:
        graph = self._av.filter.Graph()
        source = graph.add(
            "buffer",
            video_size=f"{frame.width}x{frame.height}",
            pix_fmt=frame.format.name,
            # stamps are not read off converted frames
            time_base="1/1",
            pixel_aspect="1/1",
            colorspace=str(int(frame.colorspace)),
            range=str(int(frame.color_range)),
        )
        # interlaced frames are converted whole, which is FFmpeg's default, too
        scale = {"interl": "0"}
        if self._size is not None:
            scale |= {"w": str(self._size[1]), "h": str(self._size[0])}
        steps = [graph.add(*turn.split("=")) for turn in turns]
        steps += [graph.add("scale", **scale), graph.add("format", "rgb24")]
        steps.append(graph.add("buffersink"))
        for one, next_one in zip([source, *steps], steps, strict=False):
            one.link_to(next_one)
        graph.configure()
        return graph


#: by right angles anticlockwise
_ROTATIONS = ((), ("transpose=cclock",), ("hflip", "vflip"), ("transpose=clock",))


def _turns(frame: Any) -> tuple[str, ...]:
    """The filters that set a frame upright: its display matrix, to the nearest right angle."""
    try:
        matrix = next((d for d in frame.side_data if d.type.name == "DISPLAYMATRIX"), None)
    except ValueError:
        # PyAV lists nothing where it does not know a kind, such as Exif; then mirrors are not told
        return _ROTATIONS[round(frame.rotation / 90) % 4]
    if matrix is None:
        return ()
    a, b, _, c, d = np.frombuffer(matrix, np.int32)[:5].tolist()
    turns = []
    if abs(b) > abs(a):
        # rows become columns
        turns.append("transpose=cclock_flip")
        a, d = c, b
    if a < 0:
        turns.append("hflip")
    if d < 0:
        turns.append("vflip")
    return tuple(turns)
