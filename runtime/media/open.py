"""Frames from anything: chooses the source for a path, an array or an iterable."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.errors import FrameError
from ..frames import FrameSource, OnError
from .images import IMAGE_SUFFIXES, count_pages, image_files, is_image
from .pages import PagedImage
from .sequences import SequenceFrames, SpooledFrames
from .video.container import is_address
from .video.file import VideoFile
from .video.live import open_address
from .video.pipes import copied, is_read_once


def open_frames(source: Any, *, on_error: OnError = "raise") -> FrameSource:
    """Open `source` as frames; its first frame is read, to learn the size.

    source: path of a video or image (a stack of TIFF or an animation has a frame a page), path of
    a pipe (copied to a temporary file until its writer closes it), address of a video (a live one
    gives each frame once, in order), folder of images (any names, natural order: 2 before 10),
    array [T, H, W, 3], sequence of frames or of paths of images, any iterable of frames (kept in a
    temporary file while open), or a FrameSource (given back).
    Frames: whatever :func:`~sam2rt.runtime.pixels.frame_tensor.check_frame` takes. `on_error`: see
    FrameSource.

    Paths are of the working folder at the time of the call. Raises FrameError for a source that
    is missing, unreadable or empty, and for a folder some of whose images cannot be frames.
    """
    if isinstance(source, FrameSource):
        return source
    frames = _source(source, on_error)
    try:
        frames.measure()
    except BaseException:
        frames.close()
        raise
    return frames


def _source(source: Any, on_error: OnError) -> FrameSource:
    if isinstance(source, (str, os.PathLike)):
        return _from_path(os.fspath(source), on_error)
    if isinstance(source, np.ndarray):
        if source.ndim != 4:
            raise FrameError(
                f"an array of frames must be [T, H, W, 3], got shape {source.shape}: "
                "for one frame use frame[None]"
            )
        return SequenceFrames(source, on_error)
    if hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        return SequenceFrames(source, on_error)
    if isinstance(source, Iterable):
        return SpooledFrames(source, on_error)
    raise FrameError(
        f"cannot read frames from {type(source).__name__}: expected a path, an array, a list "
        "or an iterable of frames"
    )


def _from_path(name: str, on_error: OnError) -> FrameSource:
    if not name:
        # it would be the working folder, and its images a video
        raise FrameError("the path is empty: expected a video file or a folder of images")
    path = Path(name)
    if is_address(name):
        return open_address(name, on_error)
    if not path.exists():
        raise FrameError(f"{name} does not exist: expected a video file or a folder of images")
    if path.is_dir():
        images = image_files(path)
        if not images:
            kinds = " ".join(sorted(IMAGE_SUFFIXES))
            raise FrameError(f"folder {name} holds no images: expected files {kinds}")
        return SequenceFrames(images, on_error)
    if is_read_once(path):
        place, remove = copied(path)
        return _closing_on_failure(place, name, on_error, remove)
    # FFmpeg plays a GIF as it plays a video
    if is_image(path) and path.suffix.lower() != ".gif":
        paged = count_pages(path) > 1
        return PagedImage(path, on_error) if paged else SequenceFrames([path], on_error)
    return VideoFile(name, on_error)


def _closing_on_failure(
    place: str, name: str, on_error: OnError, remove: Callable[[], None]
) -> FrameSource:
    try:
        return VideoFile(place, on_error, shown=name, on_close=remove)
    except BaseException:
        remove()
        raise
