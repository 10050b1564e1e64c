"""Writing RGB frames as an MPEG-4 file, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ...configs.errors import InputError
from ...configs.staging import replaced_file
from ..arrays import Array
from ..packages import opencv, opencv_opens, quiet_opencv


class VideoWriter:
    """Writes RGB frames of one size as MPEG-4; made by :func:`open_video_writer`."""

    def __init__(self, path: Path, fps: float, size: tuple[int, int]) -> None:
        self._cv2 = opencv("writing video")
        #: encoders want even sides: an odd last row or column is left out
        self._height, self._width = size[0] // 2 * 2, size[1] // 2 * 2
        if not opencv_opens(path):
            raise InputError(
                f"cannot write a video to {path.parent}: it is no name in UTF-8, which OpenCV "
                "needs; leave the video out"
            )
        code = self._cv2.VideoWriter.fourcc(*"mp4v")
        with quiet_opencv():
            self._writer = self._cv2.VideoWriter(str(path), code, fps, (self._width, self._height))
        if not self._writer.isOpened():
            raise InputError(
                f"cannot write a video of {size[1]} x {size[0]} at {fps:g} frames a second to "
                f"{path.parent}: OpenCV has no MPEG-4 encoder for it; leave the video out"
            )

    def write(self, rgb: Array) -> None:
        """Append a frame, uint8 [H, W, 3] of the size the writer was opened with."""
        even = np.ascontiguousarray(rgb[: self._height, : self._width])
        self._writer.write(self._cv2.cvtColor(even, self._cv2.COLOR_RGB2BGR))

    def close(self) -> None:
        self._writer.release()


@contextmanager
def open_video_writer(
    path: str | os.PathLike[str], fps: float, size: tuple[int, int]
) -> Iterator[VideoWriter]:
    """A writer whose file becomes `path` when the block ends without an error.

    size: (height, width) pixels. Raises InputError where the file cannot be encoded or written.
    """
    with replaced_file(path, ".mp4") as part:
        writer = VideoWriter(part, fps, size)
        try:
            yield writer
        finally:
            writer.close()
        if part.stat().st_size == 0:
            raise InputError(f"no video was written to {path}: is the disk full?")
