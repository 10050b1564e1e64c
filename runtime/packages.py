"""The optional packages for images, video and run lengths, imported on first use."""

from __future__ import annotations

import errno
import importlib
import os
from types import ModuleType
from typing import Any

from ..configs.errors import LowMemoryError, StateError, means_low_memory
from ..configs.extras import extras_of
from ..configs.remedies import line_of, machine_failed, remedy_of


def opencv(feature: str) -> Any:
    """The module ``cv2``; MissingExtraError naming `feature` without it."""
    return _module("cv2", feature)


def pyav(feature: str) -> Any:
    """The module ``av``, FFmpeg in a wheel; MissingExtraError naming `feature` without it.

    It prints nothing of what FFmpeg logs, unless the user asks it to.
    """
    return _module("av", feature)


def coco_mask() -> Any:
    """``pycocotools.mask``; MissingExtraError without it."""
    return _module("pycocotools.mask", "run-length encoding")


def pillow_image() -> Any:
    """``PIL.Image``; MissingExtraError without it."""
    return _module("PIL.Image", "reading and resizing frames")


def pillow_ops() -> Any:
    """``PIL.ImageOps``; MissingExtraError without it."""
    return _module("PIL.ImageOps", "turning photographs")


def supervision() -> Any:
    """The module ``supervision``; MissingExtraError without it."""
    return _module("supervision", "to_supervision")


def _module(name: str, feature: str) -> ModuleType:
    with extras_of(feature):
        try:
            return importlib.import_module(name)
        except (ImportError, OSError) as error:
            # a library that cannot be mapped is no missing package
            if means_low_memory(error):
                raise LowMemoryError(f"to load {name}") from None
            full = OSError(errno.EMFILE, os.strerror(errno.EMFILE))
            if machine_failed(error) or os.strerror(errno.EMFILE) in str(error):
                # the package is there: it is its files that cannot be opened now
                remedy = remedy_of(error, remedy_of(full, ""))
                raise StateError(f"{name} cannot be loaded ({line_of(error)}): {remedy}") from None
            if isinstance(error, ImportError) and error.name is None:
                # a library of the package that does not load names nothing
                error.name = name
            raise
