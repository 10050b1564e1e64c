"""Prompts for one image, from the caller's pixels to the mask decoder's inputs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from ...configs.errors import InputError
from ...configs.models import ModelConfig
from ..arrays import Array, Coordinates, Logits, host_array
from ..tracking.prompts import (
    check_boxes,
    check_inside,
    given,
    numbers,
    points_with_labels,
    sides,
)

#: -1 padding, 0 negative, 1 positive, 2 and 3 a box's top-left and bottom-right corner
_LABELS = (-1, 0, 1, 2, 3)


@dataclass(frozen=True)
class ImagePrompts:
    """N prompts of one image, as the decoder takes them.

    coords: [N, P, 2] float32, model-input pixels, the padding point included; P may be 0.
    labels: [N, P] int32. mask_input: [N, 1, 4h, 4w] float32 logits, or None.
    """

    coords: Coordinates
    labels: Array
    mask_input: Logits | None

    def __len__(self) -> int:
        return len(self.coords)

    def part(self, first: int, count: int) -> ImagePrompts:
        rows = slice(first, first + count)
        mask = None if self.mask_input is None else self.mask_input[rows]
        return ImagePrompts(self.coords[rows], self.labels[rows], mask)


def image_prompts(
    point_coords: Any | None,
    point_labels: Any | None,
    box: Any | None,
    mask_input: Any | None,
    *,
    frame_size: tuple[int, int] | None,
    config: ModelConfig,
) -> ImagePrompts:
    """Check and convert prompts; all four may be None (the decoder then sees no prompt).

    Empty points, labels and boxes count as None.

    point_coords: [P, 2] or [N, P, 2] x, y. point_labels: [P] or [N, P]. box: [4] or [N, 4] x0,
    y0, x1, y1. mask_input: [1, 4h, 4w], or [N, 1, 4h, 4w], logits an earlier prediction gave.
    frame_size: (height, width) the coordinates are pixels of; None: they are fractions 0..1.

    Raises InputError: points without labels or the reverse, other shapes or labels, NaN or
    infinite coordinates, coordinates more than a tenth beyond the image, a box that is empty,
    reversed or outside, unequal numbers of prompts.
    """
    coords, labels = _points(point_coords, point_labels, frame_size)
    box = given(box)
    if box is not None:
        corners = _boxes(box, frame_size)
        if coords is not None and len(coords) != len(corners):
            raise InputError(
                f"{len(coords)} sets of points but {len(corners)} boxes: give as many of each"
            )
        codes = np.tile(np.array([2, 3], np.int32), (len(corners), 1))
        coords = corners if coords is None else np.concatenate([corners, coords], axis=1)
        labels = codes if labels is None else np.concatenate([codes, labels], axis=1)
    mask = None if mask_input is None else _mask(mask_input, config.mask_size)
    if coords is None or labels is None:
        count = 1 if mask is None else len(mask)
        return ImagePrompts(
            np.zeros((count, 0, 2), np.float32), np.zeros((count, 0), np.int32), mask
        )
    if mask is not None and len(mask) != len(coords):
        if len(mask) != 1:
            raise InputError(f"{len(coords)} prompts but {len(mask)} masks: give as many of each")
        mask = np.repeat(mask, len(coords), axis=0)
    # the original divides, then multiplies, in float32
    scaled = coords / sides(frame_size) * np.float32(config.image_size)
    padded = np.concatenate([scaled, np.zeros((len(scaled), 1, 2), np.float32)], axis=1)
    padding = np.full((len(labels), 1), -1, np.int32)
    return ImagePrompts(padded, np.concatenate([labels, padding], axis=1), mask)


def _points(
    coords: Any | None, labels: Any | None, size: tuple[int, int] | None
) -> tuple[Coordinates, Array] | tuple[None, None]:
    coords, labels = points_with_labels(coords, labels)
    if coords is None:
        return None, None
    xy = numbers("point_coords", coords)
    if xy.ndim not in (2, 3) or xy.shape[-1] != 2 or 0 in xy.shape:
        raise InputError(f"point_coords must be [P, 2] or [N, P, 2], got shape {xy.shape}")
    codes = numbers("point_labels", labels)
    if codes.shape != xy.shape[:-1]:
        raise InputError(
            f"point_labels has shape {codes.shape}, expected {xy.shape[:-1]}: one label a point"
        )
    if not np.isin(codes, _LABELS).all():
        raise InputError(
            f"labels {codes.ravel().tolist()!s:.80}: expected 1 (positive), 0 (negative) or "
            "-1 (padding)"
        )
    check_inside("point", xy[codes != -1], size)
    if xy.ndim == 2:
        xy, codes = xy[None], codes[None]
    return np.where(codes[..., None] == -1, np.float32(0), xy), codes.astype(np.int32)


def _boxes(box: Any, size: tuple[int, int] | None) -> Coordinates:
    """[N, 2, 2] corners."""
    xyxy = numbers("box", box)
    if xyxy.ndim == 0 or xyxy.size == 0 or xyxy.size % 4 or xyxy.shape[-1] not in (2, 4):
        raise InputError(f"box must be [4] or [N, 4] (x0, y0, x1, y1), got shape {xyxy.shape}")
    corners = xyxy.reshape(-1, 2, 2)
    check_boxes(corners, size)
    return corners


def _mask(mask_input: Any, side: int) -> Logits:
    mask = numbers("mask_input", mask_input)
    if host_array(mask_input).dtype == np.bool_:
        raise InputError(
            "mask_input takes the low-resolution logits of an earlier prediction, got a bool mask"
        )
    shape = mask.shape
    if mask.ndim in (2, 3) and mask.size:
        mask = mask.reshape(-1, 1, *shape[-2:]) if mask.ndim == 2 else mask[None]
    if mask.ndim != 4 or mask.shape[1:] != (1, side, side) or not mask.size:
        raise InputError(
            f"mask_input must be [1, {side}, {side}] or [N, 1, {side}, {side}], got shape {shape}: "
            "give one mask of an earlier prediction, low_res[best][None]"
        )
    if not np.isfinite(mask).all():
        raise InputError("mask_input holds NaN or infinite values")
    return mask
