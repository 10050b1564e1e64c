"""Masks as boxes and polygons, and back: the shapes that labelling tools draw."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ...configs.errors import InputError
from ...runtime.arrays import Array, Mask
from ...runtime.packages import opencv

#: x0, y0, x1, y1: the box's edges in pixels, so that its width is x1 - x0
Edges = tuple[float, float, float, float]


def edges_of(mask: Mask) -> Edges | None:
    """The edges of a mask's pixels; None for an empty one. mask: [H, W] bool."""
    rows, cols = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return float(cols[0]), float(rows[0]), float(cols[-1] + 1), float(rows[-1] + 1)


def polygons_of(mask: Mask, tolerance: float = 0.0, share: float = 0.0) -> list[Array]:
    """Outlines [P, 2] float64 x, y of a mask's parts, the largest part first; holes are left out.

    Points are middles of pixels, counted as the pixels are. tolerance: pixels that an outline may
    stray to need fewer points; share: the same, as a share of an outline's length. With 0 both
    :func:`mask_of_polygon` gives the parts back exactly. A part of fewer than three points is left
    out, for tools draw no such polygon.
    """
    cv2 = opencv("outlines of masks")
    found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    found = sorted(found, key=cv2.contourArea, reverse=True)
    if tolerance > 0 or share > 0:
        strays = [tolerance + share * cv2.arcLength(part, True) for part in found]
        found = [cv2.approxPolyDP(p, s, True) for p, s in zip(found, strays, strict=True)]
    return [part.reshape(-1, 2).astype(np.float64) for part in found if len(part) >= 3]


def mask_of_polygon(points: Sequence[float] | Array, size: tuple[int, int]) -> Mask:
    """The mask [H, W] bool of a polygon x, y, x, y, ... with its outline.

    size: (height, width). InputError for fewer than three points, or what is no number.
    """
    cv2 = opencv("polygons")
    try:
        xy = np.asarray(points, np.float64).reshape(-1, 2)
    except (TypeError, ValueError):
        raise InputError("a polygon is x, y, x, y, ...: expected pairs of numbers") from None
    if len(xy) < 3 or not np.isfinite(xy).all():
        raise InputError(f"a polygon of {len(xy)} points: expected at least three, all finite")
    filled = np.zeros(size, np.uint8)
    # OpenCV's integers; what lies farther out than a frame's side is outside all the same
    most = 4 * max(size)
    cv2.fillPoly(filled, [np.rint(np.clip(xy, -most, most)).astype(np.int32)], 1)
    mask: Mask = filled > 0
    return mask
