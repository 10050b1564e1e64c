"""What one launch of each kernel beside the engine does, in numpy; arguments as the kernel's.

Arrays are flat, as memory is, and may be longer than what the launch reaches.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import cv2
import numpy as np

from sam2rt.plugins import pixels as op

Array = np.ndarray
Grid = tuple[int, ...]


def resize_rows(
    grid: Grid, x: Array, first: Array, weight: Array, n_out: int, n_in: int, n_tap: int, out: Array
) -> None:
    rows = grid[1]
    frame = x[: rows * n_in * 3].reshape(rows, n_in, 3)
    out[: rows * n_out * 3] = (
        op._resample(frame.transpose(1, 0, 2), n_out).transpose(1, 0, 2).ravel()
    )


def resize_columns_normalise(
    grid: Grid, x: Array, first: Array, weight: Array, table: Array, n_out: int, n_in: int,
    n_tap: int, out: Array,
) -> None:  # fmt: skip
    small = op._resample(x[: n_in * n_out * 3].reshape(n_in, n_out, 3), n_out)
    normal = table[: 3 * 256].reshape(3, 256)
    out[: 3 * n_out * n_out] = np.concatenate([normal[c][small[..., c]].ravel() for c in range(3)])


def antialias_rows(
    grid: Grid, x: Array, table: Array, first: Array, weight: Array, n_out: int, n_in: int,
    n_tap: int, out: Array,
) -> None:  # fmt: skip
    rows = grid[1]
    image = table[x[: rows * n_in * 3]].reshape(rows, n_in, 3)
    taps = first[:n_out], weight[: n_tap * n_out].reshape(n_tap, n_out)
    wide = op._weighted(image.transpose(1, 0, 2), taps).transpose(1, 0, 2)
    out[: rows * n_out * 3] = wide.ravel()


def antialias_columns_normalise(
    grid: Grid, x: Array, first: Array, weight: Array, mean: Array, std: Array, n_out: int,
    n_in: int, n_tap: int, out: Array,
) -> None:  # fmt: skip
    taps = first[:n_out], weight[: n_tap * n_out].reshape(n_tap, n_out)
    small = op._weighted(x[: n_in * n_out * 3].reshape(n_in, n_out, 3), taps)
    out[: 3 * n_out * n_out] = ((small - mean[:3]) / std[:3]).transpose(2, 0, 1).ravel()


def upsample_mask(
    grid: Grid, x: Array, y_low: Array, y_weight: Array, x_low: Array, x_weight: Array,
    threshold: float, h: int, w: int, n_rows: int, n_columns: int, out: Array,
) -> None:  # fmt: skip
    planes = grid[2]
    logits = x[: planes * h * w].reshape(planes, h, w)
    masks = op.upsample_mask(logits, (n_rows, n_columns), threshold)
    out[: masks.size] = masks.ravel()


def label_pixels(
    grid: Grid, logits: Array, threshold: float, above: int, h: int, w: int, label: Array,
    area: Array,
) -> None:  # fmt: skip
    count, level = grid[2] * h * w, np.float32(threshold)
    member = logits[:count] > level if above else logits[:count] <= level
    label[:count] = np.where(member, np.arange(count) % (h * w), -1)
    area[:count] = 0


def join_neighbours(grid: Grid, h: int, w: int, label: Array) -> None:
    for plane in label[: grid[2] * h * w].reshape(grid[2], h, w):
        count, found = cv2.connectedComponents((plane >= 0).astype(np.uint8), connectivity=8)
        labels, where = np.unique(found, return_index=True)
        # a plane that is all background, or all mask, lacks a label
        first = np.zeros(count, np.int64)
        first[labels] = where
        plane[...] = np.where(plane >= 0, first[found], -1)


def count_areas(grid: Grid, h: int, w: int, label: Array, area: Array) -> None:
    count = grid[2] * h * w
    planes = zip(label[:count].reshape(-1, h * w), area[:count].reshape(-1, h * w), strict=True)
    for plane, areas in planes:
        areas += np.bincount(plane[plane >= 0], minlength=h * w).astype(np.int32)


def fill_small(
    grid: Grid, logits: Array, label: Array, area: Array, most: int, value: float, h: int, w: int,
    out: Array,
) -> None:  # fmt: skip
    for i in range(grid[2]):
        part = slice(i * h * w, (i + 1) * h * w)
        small = (label[part] >= 0) & (area[part][label[part]] <= most)
        out[part] = np.where(small, np.float32(value), logits[part])


REFERENCES: dict[str, Callable[..., Any]] = {
    made.__name__: made
    for made in (
        resize_rows, resize_columns_normalise, antialias_rows, antialias_columns_normalise,
        upsample_mask, label_pixels, join_neighbours, count_areas, fill_small,
    )
}  # fmt: skip
