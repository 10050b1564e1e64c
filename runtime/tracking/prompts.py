"""Prompts from the caller's pixels to the model's, checked once at the door."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...configs.checks import shown
from ...configs.errors import InputError
from ..arrays import NO_ARRAY, Array, Coordinates, MaskPrompt, host_array
from ..pixels.antialias import resize_antialias
from .tracker import Points

_LABELS = (0, 1, 2, 3)
#: how far beyond the frame a coordinate may lie, as a share of its side: detectors' boxes overhang
_OVERHANG = 0.1


@dataclass(frozen=True)
class Clicks:
    """Clicks and a box of one object, checked and copied, in the units in which they were given.

    xy: [P, 2] float32, pixels of the frame or fractions 0..1 of it. labels: [P] int32.
    corners: [1, 2, 2] float32, the box's two corners, or None.
    """

    xy: Array
    labels: Array
    corners: Array | None

    def check(self, frame_size: tuple[int, int]) -> None:
        """InputError for what lies outside a frame whose (height, width) is known only now."""
        check_inside("point", self.xy, frame_size)
        if self.corners is not None:
            check_boxes(self.corners, frame_size)

    def scaled(self, frame_size: tuple[int, int] | None, image_size: int) -> Points:
        """In model-input pixels; frame_size as in :func:`points_from`."""
        xy, labels = self.xy, self.labels
        if self.corners is not None:
            xy = np.concatenate([self.corners[0], xy])
            labels = np.concatenate([np.array([2, 3], np.int32), labels])
        # the original divides, then multiplies, in float32
        scaled = xy / sides(frame_size) * np.float32(image_size)
        return Points(scaled.astype(np.float32), labels)


def points_from(
    points: Any | None,
    labels: Any | None,
    box: Any | None,
    *,
    frame_size: tuple[int, int] | None,
    image_size: int,
) -> Points:
    """Clicks and a box of one object as model-input pixels; see :func:`clicks_from`."""
    clicks = clicks_from(points, labels, box, frame_size=frame_size)
    return clicks.scaled(frame_size, image_size)


def clicks_from(
    points: Any | None,
    labels: Any | None,
    box: Any | None,
    *,
    frame_size: tuple[int, int] | None,
) -> Clicks:
    """Check clicks and a box of one object, and copy them.

    points: [P, 2] or [1, P, 2] x, y; labels: [P] (1 positive, 0 negative); box: x0, y0, x1, y1
    (any shape of four numbers). Either, or both; empty means none. frame_size: (height, width) of
    the frame the coordinates are pixels of, or None when they are fractions 0..1.

    Raises InputError: points without labels or the reverse, neither points nor box, unequal
    counts, unknown labels, coordinates that are NaN, infinite or more than a tenth beyond the
    frame, a box that is empty, reversed or outside.
    """
    points, labels = points_with_labels(points, labels)
    box = given(box)
    if points is None and box is None:
        raise InputError("no prompt: give points with labels, a box, or both")
    xy = _points([] if points is None else points, frame_size)
    codes = numbers("labels", [] if labels is None else labels)
    if codes.size != len(xy):
        raise InputError(f"{len(xy)} points but {codes.size} labels: give one label a point")
    if not np.isin(codes, _LABELS).all():
        shown_labels = host_array(labels).ravel().tolist()
        raise InputError(f"labels {shown_labels}: expected 1 (positive) or 0 (negative)")
    corners = None if box is None else _corners(box, frame_size)
    # the caller may fill its arrays anew before the prompt is used
    return Clicks(np.array(xy), codes.reshape(-1).astype(np.int32), corners)


def given(values: Any | None) -> Any | None:
    """What a caller gave; None where it is empty, as detectors give it that found nothing."""
    try:
        return None if values is None or host_array(values).size == 0 else values
    except NO_ARRAY:
        # what is no array is refused by name later
        return values


def points_with_labels(points: Any | None, labels: Any | None) -> tuple[Any, Any]:
    """Both, or both None, empty ones too. InputError when one comes without the other."""
    points, labels = given(points), given(labels)
    if (points is None) != (labels is None):
        there, lacking = ("points", "labels") if labels is None else ("labels", "points")
        raise InputError(f"{there} were given without {lacking}: give both or neither")
    return points, labels


def _points(values: Any, size: tuple[int, int] | None) -> Coordinates:
    """[P, 2]."""
    xy = numbers("points", values)
    if xy.size and (xy.shape[-1:] != (2,) or xy.shape[:-2] not in ((), (1,))):
        raise InputError(f"points must be x, y pairs [P, 2], got an array of shape {xy.shape}")
    xy = xy.reshape(-1, 2)
    check_inside("point", xy, size)
    return xy


def _corners(box: Any, size: tuple[int, int] | None) -> Array:
    """[1, 2, 2], a copy."""
    xyxy = numbers("box", box)
    if xyxy.size != 4:
        raise InputError(f"a box has 4 numbers x0, y0, x1, y1, got {xyxy.size}")
    corners = np.array(xyxy.reshape(1, 2, 2))
    check_boxes(corners, size)
    return corners


def numbers(what: str, values: Any) -> Array:
    """What a caller gave as float32; InputError for ragged lists, text and the like."""
    try:
        array = host_array(values)
        if array.dtype.kind in "biufO":
            # what is too large becomes infinite, which is refused
            with np.errstate(over="ignore"):
                return array.astype(np.float32, copy=False)
    except (*NO_ARRAY, OverflowError):
        pass
    raise InputError(f"{what} must be an array of numbers, got {shown(values)}")


def sides(size: tuple[int, int] | None) -> Array:
    """[width, height] float32 of what coordinates are pixels of; ones where they are fractions."""
    height, width = size or (1, 1)
    return np.array([width, height], np.float32)


def check_inside(what: str, xy: Coordinates, size: tuple[int, int] | None) -> None:
    """InputError for coordinates [..., 2] that are not finite or too far beyond (height, width)."""
    if not np.isfinite(xy).all():
        raise InputError(f"a {what} is NaN or infinite: {xy.reshape(-1, 2).tolist()!s:.80}")
    most = sides(size)
    beyond = ((xy < -_OVERHANG * most) | (xy > (1 + _OVERHANG) * most)).any(axis=-1)
    if not beyond.any():
        return
    found = f"the {what} {xy[beyond][0].tolist()} lies outside the image"
    if size is None:
        raise InputError(f"{found}: expected fractions 0 to 1, or normalize_coords=True for pixels")
    raise InputError(
        f"{found} of width {size[1]} and height {size[0]}: check the order x, y and the "
        "image's size"
    )


def check_boxes(corners: Coordinates, size: tuple[int, int] | None) -> None:
    """InputError for boxes [N, 2, 2] that hold no pixel of (height, width), or leave it by far."""
    check_inside("box corner", corners, size)
    first, last = corners[:, 0], corners[:, 1]
    outside = (last <= 0) | (first >= sides(size))
    for wrong, why in (
        (~(last > first), "is empty or reversed: expected x0 < x1, y0 < y1"),
        (outside, "lies outside the image: expected one that overlaps it"),
    ):
        if wrong.any():
            box = corners[wrong.any(axis=1)][0].ravel().tolist()
            raise InputError(f"box {box} {why}")


def joined(old: Points | None, new: Points) -> Points:
    """Earlier clicks followed by new ones."""
    if old is None:
        return new
    return Points(
        np.concatenate([old.coords, new.coords]), np.concatenate([old.labels, new.labels])
    )


def mask_array(mask: Any) -> Array:
    """What a caller gave as a mask prompt; InputError for what is not [H, W]."""
    try:
        array = host_array(mask)
    except NO_ARRAY:
        array = np.empty(0)
    if array.ndim != 2 or not array.size:
        found = f"shape {array.shape}" if array.size and array.ndim else f"{shown(mask)}"
        raise InputError(f"a mask prompt must be an array [H, W] of the frame's size, got {found}")
    return array


def mask_from(mask: Any, frame_size: tuple[int, int], image_size: int) -> MaskPrompt:
    """A mask prompt [H, W] at the model's size: [S, S] float32 of 0 and 1.

    Taken are bool, and 0 with 1 or 255 of any type. Antialiased bilinear, then at least one half,
    of a mask of any size, as the original. One that lies on its side is an InputError. So are
    other values: the original takes all but 0 as the object, a map of ids too.
    """
    array = mask_array(mask)
    if array.shape != frame_size and array.shape[::-1] == frame_size:
        raise InputError(
            f"mask has shape {array.shape}, expected the frame's (height, width) {frame_size}: it "
            "lies on its side, use mask.T"
        )
    if array.dtype != np.bool_:
        known = array.dtype.kind in "biuf"
        if not (known and any(np.isin(array, pair).all() for pair in ((0, 1), (0, 255)))):
            raise InputError("a mask must be bool or hold only 0 and 1: compare it with > 0 first")
        array = array.astype(bool)
    pixels = array.astype(np.float32)
    if array.shape != (image_size, image_size):
        pixels = (resize_antialias(pixels, (image_size, image_size)) >= 0.5).astype(np.float32)
    return np.ascontiguousarray(pixels)
