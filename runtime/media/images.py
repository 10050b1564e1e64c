"""Image files: which files of a folder are frames; reading and writing one file."""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

from ...configs.errors import FrameError
from ...configs.staging import replaced_file
from ..arrays import Array
from ..packages import pillow_image
from ..pixels.frame_tensor import check_frame

#: what the name of an image file ends with, in lower case
IMAGE_SUFFIXES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def image_files(folder: Path) -> list[Path]:
    """The images of a folder in natural order; hidden files are left out."""
    files = (p for p in folder.iterdir() if p.suffix.lower() in IMAGE_SUFFIXES and p.is_file())
    return sorted((p for p in files if not p.name.startswith(".")), key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts], path.name


def read_image(path: str | os.PathLike[str]) -> Array:
    """An image file as uint8 RGB [H, W, 3]; alpha is dropped, EXIF rotation is not applied.

    As the original reads it: of colours with 16 bits the upper 8 count. Raises FrameError: missing,
    not an image, truncated, grey with 16 bits or floats (their range is not known).
    """
    image_module = pillow_image()
    try:
        with image_module.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise FrameError(
                    f"{os.fspath(path)} has pixels of mode {image.mode}: convert it to 8 bits"
                )
            return check_frame(image)
    except FileNotFoundError:
        raise FrameError(f"{os.fspath(path)} does not exist: expected an image") from None
    except IsADirectoryError:
        raise FrameError(f"{os.fspath(path)} is a folder: expected an image") from None
    except FrameError:
        raise
    except (OSError, ValueError, SyntaxError, image_module.DecompressionBombError) as error:
        what = " ".join(str(error).split())
        raise FrameError(
            f"cannot read the image {os.fspath(path)} ({what}): get it again, or save it as PNG"
        ) from None


def write_image(path: str | os.PathLike[str], pixels: Array) -> None:
    """Write PNG: uint8 RGB [H, W, 3] or grey [H, W], or a mask bool [H, W] as 0 and 255."""
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    with replaced_file(path, ".png") as part:
        # speed: on masks and frames higher levels save little
        pillow_image().fromarray(pixels).save(part, format="PNG", compress_level=1)
