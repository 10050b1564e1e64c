"""Simulated prompts: where a careful user would click, given what is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...configs.errors import InputError
from ...runtime.packages import opencv
from .metrics import Mask


@dataclass(frozen=True)
class Click:
    """A click on the pixel in column x and row y; label 1 adds, 0 takes away."""

    x: int
    y: int
    label: int


def interior_point(mask: Mask) -> Click:
    """The pixel of a mask [H, W] that lies farthest from its outside, as a positive click.

    What lies beyond the image is outside. SAM 2 paper, appendix F.1: "the mask pixel that has
    the largest Euclidean distance to the mask boundary". InputError when the mask is empty.
    """
    depth = _depth(mask)
    y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    if not mask[y, x]:
        raise InputError("a click needs a mask with at least one pixel, got an empty one")
    return Click(int(x), int(y), 1)


def error_click(mask: Mask, truth: Mask) -> Click | None:
    """The click that corrects a predicted mask [H, W]; None when it is right everywhere.

    The interior-most pixel of what is missing (positive) or of what is too much (negative),
    whichever lies deeper; negative when both are equally deep, as in the original's training.
    """
    missing, extra = truth & ~mask, mask & ~truth
    if not missing.any() and not extra.any():
        return None
    depths = [_depth(region) for region in (extra, missing)]
    label = int(depths[1].max() > depths[0].max())
    y, x = np.unravel_index(int(depths[label].argmax()), mask.shape)
    return Click(int(x), int(y), label)


def bounding_box(mask: Mask) -> tuple[int, int, int, int]:
    """First and last column and row of a mask [H, W] as x0, y0, x1, y1.

    A box prompt has to have an extent: where the mask is one pixel wide x1 = x0 + 1 (or at the
    image's far side x0 = x1 - 1). InputError when the mask is empty.
    """
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        raise InputError("a box needs a mask with at least one pixel, got an empty one")
    x0, x1 = _widened(int(cols[0]), int(cols[-1]), mask.shape[1])
    y0, y1 = _widened(int(rows[0]), int(rows[-1]), mask.shape[0])
    return x0, y0, x1, y1


def _widened(first: int, last: int, size: int) -> tuple[int, int]:
    if first < last:
        return first, last
    return (first, last + 1) if last + 1 < size or first == 0 else (first - 1, last)


def _depth(mask: Mask) -> np.ndarray[tuple[int, int], np.dtype[np.float32]]:
    cv2 = opencv("simulated clicks")
    padded = np.pad(mask, 1).astype(np.uint8)
    distance = cv2.distanceTransform(padded, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    return np.asarray(distance[1:-1, 1:-1], np.float32)
