"""The optional packages for pictures and video, imported on first use."""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType
from typing import Any

from ..configs.errors import MissingExtraError

_FFMPEG_LEVEL = "OPENCV_FFMPEG_LOGLEVEL"


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
    level = logging.getLogLevel()
    theirs = os.environ.get(_FFMPEG_LEVEL)
    os.environ[_FFMPEG_LEVEL] = theirs if theirs is not None else "-8"
    logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        yield
    finally:
        logging.setLogLevel(level)
        if theirs is None:
            del os.environ[_FFMPEG_LEVEL]


def coco_mask() -> Any:
    """``pycocotools.mask``; MissingExtraError without it."""
    return _module("pycocotools.mask", "run-length encoding", "pycocotools")


def pillow_image() -> Any:
    """``PIL.Image``; MissingExtraError without it."""
    return _module("PIL.Image", "reading and resizing frames", "pillow")


def _module(name: str, feature: str, package: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise MissingExtraError(feature, package, "media") from None
