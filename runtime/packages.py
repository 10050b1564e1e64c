"""The optional packages for images, video and run lengths, imported on first use."""

from __future__ import annotations

import importlib
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ..configs.errors import LowMemoryError, MissingExtraError, means_low_memory

_FFMPEG_LEVEL = "OPENCV_FFMPEG_LOGLEVEL"


class _Quiet:
    """Log levels belong to the process: the first thread in saves them, the last out restores."""

    lock = threading.Lock()
    inside = 0
    level: Any = None
    set_here = False


_QUIET = _Quiet()


def opencv(feature: str) -> Any:
    """The module ``cv2``; MissingExtraError naming `feature` without it."""
    return _module("cv2", feature, "opencv-python-headless")


@contextmanager
def quiet_opencv() -> Iterator[None]:
    """OpenCV and its FFmpeg print nothing: what fails is raised, as one line.

    FFmpeg's level is taken from the environment once, when a process first opens a video; a level
    that the user set stays.
    """
    logging = opencv("video").utils.logging
    with _QUIET.lock:
        if _QUIET.inside == 0:
            _QUIET.level = logging.getLogLevel()
            _QUIET.set_here = _FFMPEG_LEVEL not in os.environ
            os.environ.setdefault(_FFMPEG_LEVEL, "-8")
            logging.setLogLevel(logging.LOG_LEVEL_SILENT)
        _QUIET.inside += 1
    try:
        yield
    finally:
        with _QUIET.lock:
            _QUIET.inside -= 1
            if _QUIET.inside == 0:
                logging.setLogLevel(_QUIET.level)
                if _QUIET.set_here:
                    os.environ.pop(_FFMPEG_LEVEL, None)


def opencv_opens(path: str | os.PathLike[str]) -> bool:
    """Whether OpenCV can be given the path: a name that is no UTF-8 crashes the process."""
    try:
        os.fspath(path).encode()
    except UnicodeEncodeError:
        return False
    return True


def coco_mask() -> Any:
    """``pycocotools.mask``; MissingExtraError without it."""
    return _module("pycocotools.mask", "run-length encoding", "pycocotools")


def pillow_image() -> Any:
    """``PIL.Image``; MissingExtraError without it."""
    return _module("PIL.Image", "reading and resizing frames", "pillow")


def _module(name: str, feature: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        # a library that cannot be mapped is no missing package
        if means_low_memory(error):
            raise LowMemoryError(f"to load {package}") from None
        raise MissingExtraError(feature, package, "media") from None
