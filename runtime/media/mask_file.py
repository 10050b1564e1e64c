"""Masks from image files: one mask of two values, or a picture of object ids."""

from __future__ import annotations

import os
from collections.abc import Iterator

import numpy as np

from ...configs.errors import FrameError
from ..arrays import Array, Mask
from ..packages import pillow_image
from .images import page_indices, readable_image

#: what annotations of 8 bits write where nobody knows what is there
_VOID = 255
#: objects of one picture; each id of a photo of 16 bits would be a mask of the whole frame
_MOST_IDS = 1024
#: values that an error lists at most
_MOST_SHOWN = 6


def read_mask(path: str | os.PathLike[str]) -> Mask:
    """A mask [H, W] bool from an image of 0 with 1 or 255, grey, of one bit or with a palette.

    Raises FrameError for other values, colours, transparency, and where no pixel is marked.
    """
    pixels, name = _values(path), os.fspath(path)
    found = np.unique(pixels)
    if not any(np.isin(found, pair).all() for pair in ((0, 1), (0, 255))):
        raise FrameError(
            f"{name} holds the values {_shown(found)}: expected 0 with 1 or 255; give object "
            "ids as mask ids, and save masks as PNG, since JPEG changes values"
        )
    mask: Mask = pixels != 0
    if not mask.any():
        raise FrameError(f"{name} marks no pixel: expected 1 or 255 where the object is")
    return mask


def read_mask_ids(path: str | os.PathLike[str]) -> Iterator[tuple[int, Mask]]:
    """Ids and masks [H, W] bool of a picture whose values are object ids, ids rising.

    One mask at a time is in memory. 0 is background; in 8 bits 255 is left out too, which
    annotations write for "not known". Raises FrameError, before the first is given, for colours,
    transparency, more than 1,024 ids, and where no object is left.
    """
    pixels, name = _values(path), os.fspath(path)
    ids = np.unique(pixels)
    kept = [int(i) for i in ids if i != 0 and not (pixels.dtype == np.uint8 and i == _VOID)]
    if not kept:
        raise FrameError(
            f"{name} holds the values {_shown(ids)}: expected object ids from 1 on (254 at most in "
            "8 bits); give the mask of one object, 0 and 255, as a mask"
        )
    if len(kept) > _MOST_IDS:
        raise FrameError(
            f"{name} holds {len(kept)} values: expected ids of {_MOST_IDS} objects at most, is it "
            "a picture?"
        )
    return ((obj_id, pixels == obj_id) for obj_id in kept)


def _values(path: str | os.PathLike[str]) -> Array:
    """The pixel values [H, W] as they are stored: of a palette the indices."""
    with readable_image(path), pillow_image().open(path) as image:
        pages = len(page_indices(image))
        if pages > 1:
            raise FrameError(f"{os.fspath(path)} holds {pages} pages: expected a mask of one")
        pixels = np.asarray(image)
        mode = image.mode
    if mode.startswith("F"):
        raise FrameError(f"{os.fspath(path)} has pixels of mode {mode}: expected whole numbers")
    if pixels.ndim == 2:
        return pixels.astype(np.uint8) if pixels.dtype == np.bool_ else pixels
    if mode in ("LA", "PA", "RGBA"):
        if (pixels[..., -1] != 255).any():
            raise FrameError(
                f"{os.fspath(path)} is transparent in places: expected a mask in grey, flatten it"
            )
        pixels = pixels[..., :-1]
    if (pixels != pixels[..., :1]).any():
        raise FrameError(
            f"{os.fspath(path)} has colours (mode {mode}): expected a mask in grey or with a "
            "palette, whose values count"
        )
    return pixels[..., 0]


def _shown(values: Array) -> str:
    listed = ", ".join(str(value) for value in values[:_MOST_SHOWN].tolist())
    return listed + (", ..." if len(values) > _MOST_SHOWN else "")
