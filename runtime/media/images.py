"""Image files: which files of a folder are frames; reading and writing one file."""

from __future__ import annotations

import os
import re
import struct
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.errors import FrameError
from ...configs.remedies import line_of, machine_failed, remedy_of
from ...configs.staging import replaced_file
from ..arrays import Array
from ..packages import pillow_image
from ..pixels.frame_tensor import check_frame

#: what the name of an image file ends with, in lower case
IMAGE_SUFFIXES = {
    ".bmp", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".pnm", ".ppm", ".tif",
    ".tiff", ".webp",
}  # fmt: skip
#: others, which are read where the installed Pillow can; ".gif" on its own is opened as a video
_OTHER_SUFFIXES = {
    ".apng", ".avif", ".avifs", ".dib", ".dng", ".exr", ".gif", ".hdr", ".heic", ".heif", ".j2c",
    ".j2k", ".jp2", ".jpf", ".jpx", ".jxl", ".pbm", ".pcx", ".qoi", ".sgi", ".tga",
}  # fmt: skip
#: of one image: decoding takes seven bytes a pixel, 700 MB
LARGEST_PIXELS = 100_000_000
#: larger images leave Pillow in strips: the whole at once would be there four times
_STRIP_PIXELS = 1 << 22
#: what images begin with, and where; a stream of JPEGs has a name that says so
_MARKS = (
    (0, b"\x89PNG\r\n\x1a\n"), (0, b"\xff\xd8\xff"), (8, b"WEBP"), (0, b"II*\0"), (0, b"MM\0*"),
)  # fmt: skip
#: formats whose further images are pages, not previews as in a JPEG of a camera (MPO)
_PAGED = {"AVIF", "GIF", "PNG", "TIFF", "WEBP"}
#: what Pillow's readers meet in damaged files
_DAMAGED = (
    ArithmeticError, EOFError, LookupError, OSError, RuntimeError, SyntaxError, TypeError,
    ValueError, struct.error,
)  # fmt: skip
#: TIFF's NewSubfileType: bit 0 is set on a smaller copy of another page
_SUBFILE, _REDUCED = 254, 1


def is_image_name(path: Path) -> bool:
    """Whether the name is that of an image, readable here or not."""
    return path.suffix.lower() in IMAGE_SUFFIXES | _OTHER_SUFFIXES


def is_image(path: Path) -> bool:
    """Whether a file is that of an image: by its name or, where that ends in nothing, its start."""
    if path.suffix:
        return is_image_name(path)
    with suppress(OSError), path.open("rb") as file:
        start = file.read(16)
        return any(start[at:].startswith(mark) for at, mark in _MARKS)
    return False


def image_files(folder: Path) -> list[Path]:
    """The images of a folder in natural order; hidden files and folders are left out.

    An image left out would shift the index of every later frame. So FrameError names a link to
    nothing, an image that Pillow cannot read, and two files of one name but for the ending.
    """
    named = (p for p in folder.iterdir() if is_image_name(p) and not p.name.startswith("."))
    files = sorted((p for p in named if not p.is_dir()), key=_natural)
    stems: dict[str, Path] = {}
    for path in files:
        if not path.is_file():
            raise FrameError(
                f"{path} is a link to nothing, or no file: restore the image, or remove the link"
            )
        if not _is_read(path.suffix.lower()):
            raise FrameError(
                f"{path} is an image that the installed Pillow cannot read: convert it to PNG, or "
                "move it out of the folder"
            )
        if (other := stems.setdefault(path.stem, path)) is not path:
            raise FrameError(
                f"{other} and {path.name} have one name, so one is no frame: move the masks or "
                "copies out of the folder"
            )
    return files


def _is_read(suffix: str) -> bool:
    if suffix in IMAGE_SUFFIXES:
        return True
    image_module = pillow_image()
    return image_module.registered_extensions().get(suffix) in image_module.OPEN


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts], path.name


def read_image(path: str | os.PathLike[str]) -> Array:
    """An image file as uint8 RGB [H, W, 3]; alpha is dropped, EXIF rotation is not applied.

    As the original reads it: of colours with 16 bits the upper 8 count. Raises FrameError: missing,
    not an image, truncated, of several pages, of more than LARGEST_PIXELS, grey with 16 bits or
    floats (their range is not known).
    """
    with readable_image(path), pillow_image().open(path) as image:
        pages = len(page_indices(image))
        if pages > 1:
            raise FrameError(
                f"{os.fspath(path)} holds {pages} pages, expected an image of one: save the page "
                "that is wanted, or read them as frames with open_frames or 'sam2rt track'"
            )
        return image_pixels(path, image)


def count_pages(path: str | os.PathLike[str]) -> int:
    """How many pages an image file has: 1 but for stacks and animations. Raises FrameError."""
    with readable_image(path), pillow_image().open(path) as image:
        return len(page_indices(image))


def page_indices(image: Any) -> list[int]:
    """Where Pillow seeks for the pages of an open image; smaller copies and previews are none."""
    count = getattr(image, "n_frames", 1) if image.format in _PAGED else 1
    if count == 1:
        return [0]
    # of an animated PNG the image for programs that know no animation may be no part of it
    first = 1 if image.format == "PNG" and image.info.get("default_image") else 0
    if image.format != "TIFF":
        return list(range(first, count))
    pages = []
    for index in range(count):
        image.seek(index)
        if not int(image.tag_v2.get(_SUBFILE, 0)) & _REDUCED:
            pages.append(index)
    image.seek(pages[0] if pages else 0)
    return pages or [0]


def image_pixels(path: str | os.PathLike[str], image: Any) -> Array:
    """The present page of an open image as uint8 RGB [H, W, 3]. Raises FrameError."""
    if image.mode.startswith(("I", "F")):
        raise FrameError(f"{os.fspath(path)} has pixels of mode {image.mode}: convert it to 8 bits")
    width, height = image.size
    # the header says so; a few bytes can stand for all of them
    if width * height > LARGEST_PIXELS:
        raise FrameError(
            f"{os.fspath(path)} has {width} x {height} pixels, expected at most "
            f"{LARGEST_PIXELS // 10**6} million: make it smaller, or cut it into parts"
        )
    if width * height <= _STRIP_PIXELS:
        return check_frame(image)
    image.load()
    pixels = np.empty((height, width, 3), np.uint8)
    rows = max(_STRIP_PIXELS // width, 1)
    for top in range(0, height, rows):
        strip = (0, top, width, min(top + rows, height))
        pixels[top : strip[3]] = check_frame(image.crop(strip))
    return pixels


@contextmanager
def readable_image(path: str | os.PathLike[str]) -> Iterator[None]:
    """What Pillow raises in the block about the image of that path becomes a FrameError."""
    image_module = pillow_image()
    try:
        yield
    except FileNotFoundError:
        raise FrameError(f"{os.fspath(path)} does not exist: expected an image") from None
    except IsADirectoryError:
        raise FrameError(f"{os.fspath(path)} is a folder: expected an image") from None
    except FrameError:
        raise
    except image_module.UnidentifiedImageError as error:
        if (kind := _kind_of(path)) is not None and not _is_read(f".{kind.lower()}"):
            raise FrameError(
                f"{os.fspath(path)} is {kind}, which the installed Pillow cannot read: convert it "
                "to PNG"
            ) from None
        raise _unreadable(path, error) from None
    except (*_DAMAGED, image_module.DecompressionBombError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: str | os.PathLike[str], error: Exception) -> FrameError:
    remedy = remedy_of(error, "get it again, or save it as PNG")
    what = line_of(error) if machine_failed(error) else " ".join(str(error).split())
    return FrameError(f"cannot read the image {os.fspath(path)} ({what}): {remedy}")


def _kind_of(path: str | os.PathLike[str]) -> str | None:
    """HEIC, AVIF or JXL by the file's first bytes, whatever its name: not all Pillows read them."""
    with open(path, "rb") as file:
        start = file.read(64)
    if start[:2] == b"\xff\x0a" or start[4:8] == b"JXL ":
        return "JXL"
    if start[4:8] != b"ftyp":
        return None
    brands = {start[at : at + 4] for at in range(8, min(len(start), start[3]), 4)}
    if brands & {b"avif", b"avis"}:
        return "AVIF"
    return "HEIC" if brands & {b"heic", b"heix", b"heim", b"heis", b"hevc", b"msf1"} else None


def write_image(path: str | os.PathLike[str], pixels: Array) -> None:
    """Write PNG: uint8 RGB [H, W, 3] or grey [H, W], or a mask bool [H, W] as 0 and 255."""
    if pixels.dtype == np.bool_:
        pixels = pixels.astype(np.uint8) * np.uint8(255)
    with replaced_file(path, ".png") as part:
        # speed: on masks and frames higher levels save little
        pillow_image().fromarray(pixels).save(part, format="PNG", compress_level=1)
