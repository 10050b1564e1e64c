"""The optional packages for images, video and run lengths, imported on first use."""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import Any

from ..configs.errors import MissingExtraError


def opencv(feature: str) -> Any:
    """The module ``cv2``; MissingExtraError naming `feature` without it."""
    return _module("cv2", feature, "opencv-python-headless")


def pyav(feature: str) -> Any:
    """The module ``av``, FFmpeg in a wheel; MissingExtraError naming `feature` without it.

    It prints nothing of what FFmpeg logs, unless the user asks it to.
    """
    return _module("av", feature, "av")


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
