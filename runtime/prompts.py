"""Prompts from the caller's pixels to the model's, checked once at the door."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..configs.errors import InputError
from .pixels import resize_antialias
from .session import Array
from .tracker import Points

_LABELS = (0, 1, 2, 3)


def points_from(
    points: Any | None,
    labels: Any | None,
    box: Any | None,
    *,
    frame_size: tuple[int, int] | None,
    image_size: int,
) -> Points:
    """Clicks and a box of one object as model-input pixels.

    points: [P, 2] or [1, P, 2] x, y; labels: [P] (1 positive, 0 negative); box: x0, y0, x1, y1
    (any shape of four numbers). Either, or both. frame_size: (height, width) of the frame the
    coordinates are pixels of, or None when they are fractions 0..1.

    Raises InputError: points without labels or the reverse, neither points nor box, unequal
    counts, unknown labels, NaN or infinite or outside coordinates, an empty or reversed box.
    """
    if (points is None) != (labels is None):
        given, lacking = ("points", "labels") if labels is None else ("labels", "points")
        raise InputError(f"{given} were given without {lacking}: give both or neither")
    if points is None and box is None:
        raise InputError("no prompt: give points with labels, a box, or both")
    height, width = frame_size or (1, 1)
    coords = _coords("point", [] if points is None else points, (height, width))
    codes = np.asarray([] if labels is None else labels)
    if box is None and not len(coords):
        raise InputError("no prompt: give points with labels, a box, or both")
    if codes.size != len(coords):
        raise InputError(f"{len(coords)} points but {codes.size} labels: give one label a point")
    if not np.isin(codes, _LABELS).all():
        raise InputError(f"labels {codes.ravel().tolist()}: expected 1 (positive) or 0 (negative)")
    codes = codes.reshape(-1).astype(np.int32)
    if box is not None:
        corners = _coords("box corner", box, (height, width))
        if corners.shape != (2, 2):
            raise InputError(f"a box has 4 numbers x0, y0, x1, y1, got {np.asarray(box).size}")
        if not (corners[1] > corners[0]).all():
            raise InputError(
                f"box {corners.ravel().tolist()} is empty or reversed: expected x0 < x1, y0 < y1"
            )
        coords = np.concatenate([corners, coords])
        codes = np.concatenate([np.array([2, 3], np.int32), codes])
    # the original divides, then multiplies, in float32
    scaled = coords / np.array([width, height], np.float32) * np.float32(image_size)
    return Points(scaled.astype(np.float32), codes)


def _coords(what: str, values: Any, size: tuple[int, int]) -> Array:
    try:
        coords = np.asarray(values, np.float32)
    except (TypeError, ValueError):
        raise InputError(f"{what}s must be numbers, got {values!r:.80}") from None
    if coords.size % 2 or (coords.ndim and coords.size and coords.shape[-1] not in (2, 4)):
        raise InputError(f"{what}s must be x, y pairs, got an array of shape {coords.shape}")
    coords = coords.reshape(-1, 2)
    height, width = size
    if not np.isfinite(coords).all():
        raise InputError(f"a {what} is NaN or infinite: {coords.tolist()}")
    if ((coords < 0) | (coords > np.array([width, height], np.float32))).any():
        raise InputError(
            f"a {what} lies outside the image of width {width} and height {height}: "
            f"{coords.tolist()}"
        )
    return coords


def joined(old: Points | None, new: Points) -> Points:
    """Earlier clicks followed by new ones."""
    if old is None:
        return new
    return Points(
        np.concatenate([old.coords, new.coords]), np.concatenate([old.labels, new.labels])
    )


def mask_from(mask: Any, frame_size: tuple[int, int], image_size: int) -> Array:
    """A mask prompt [H, W] (bool, or 0/1) at the model's size: [S, S] float32 of 0 and 1.

    Antialiased bilinear, then at least one half, as the original. Raises InputError for
    another shape, or values other than two.
    """
    array = np.asarray(mask)
    if array.shape != frame_size:
        raise InputError(
            f"mask has shape {array.shape}, expected the frame's (height, width) {frame_size}"
        )
    if array.dtype != np.bool_:
        if array.dtype.kind not in "biuf" or not np.isin(array, (0, 1)).all():
            raise InputError("a mask must be bool or hold only 0 and 1: compare it with > 0 first")
        array = array.astype(bool)
    pixels = array.astype(np.float32)
    if frame_size != (image_size, image_size):
        pixels = (resize_antialias(pixels, (image_size, image_size)) >= 0.5).astype(np.float32)
    return np.ascontiguousarray(pixels)
