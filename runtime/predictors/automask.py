"""The parts of automatic mask generation: point grids, crops, boxes, run lengths, suppression.

Plain numpy, no model. The rules are those of the original's ``sam2/utils/amg.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np

from ...configs.checks import shown
from ...configs.errors import InputError
from ..arrays import Array, Logits, Mask
from ..packages import opencv
from ..pixels.upsample import upsampled_above

#: x0, y0, x1, y1 in pixels
Box = tuple[int, int, int, int]
#: boxes this close to a crop's edge (pixels) are taken for cut off by it
_EDGE = 20.0


def point_grid(per_side: int) -> Array:
    """per_side^2 points x, y in 0..1, the middles of equal cells, row by row: [K, 2] float64."""
    if per_side < 1:
        raise InputError(f"a grid of {per_side} points a side has no points: expected at least 1")
    middles = np.linspace(1 / (2 * per_side), 1 - 1 / (2 * per_side), per_side)
    x, y = np.meshgrid(middles, middles)
    return np.stack([x, y], axis=-1).reshape(-1, 2)


def layer_grids(per_side: int, layers: int, downscale: int) -> list[Array]:
    """A grid per crop layer; layer i has per_side / downscale^i points a side, rounded down."""
    return [point_grid(int(per_side / downscale**i)) for i in range(layers + 1)]


def crop_boxes(size: tuple[int, int], layers: int, overlap_ratio: float) -> list[tuple[int, Box]]:
    """(layer, box) of the whole image of (height, width), then of 4^i crops for layer i.

    Neighbouring crops of the first layer overlap by overlap_ratio of the shorter side, those of
    later layers by half as much each.
    """
    height, width = size
    boxes = [(0, (0, 0, width, height))]
    for layer in range(1, layers + 1):
        count = 2**layer
        overlap = int(overlap_ratio * min(size) * (2 / count))
        crop_w, crop_h = (math.ceil((overlap * (count - 1) + n) / count) for n in (width, height))
        lefts = [(crop_w - overlap) * i for i in range(count)]
        tops = [(crop_h - overlap) * i for i in range(count)]
        # an image of a few pixels has fewer crops: none is empty
        boxes += [
            (layer, (x, y, min(x + crop_w, width), min(y + crop_h, height)))
            for x, y in product(lefts, tops)
            if x < width and y < height
        ]
    return boxes


def mask_box(mask: Mask) -> Box:
    """First and last column and row of a mask [H, W] as x0, y0, x1, y1; zeros when empty."""
    return _box(np.any(mask, axis=1), np.any(mask, axis=0))


def _box(in_rows: Mask, in_cols: Mask) -> Box:
    rows, cols = np.flatnonzero(in_rows), np.flatnonzero(in_cols)
    if not rows.size:
        return 0, 0, 0, 0
    return int(cols[0]), int(rows[0]), int(cols[-1]), int(rows[-1])


def is_cut_off(box: Box, crop: Box, size: tuple[int, int]) -> bool:
    """Whether a box (image pixels) ends near a side of its crop that is no side of the image."""
    whole = (0, 0, size[1], size[0])
    return any(
        abs(side - edge) <= _EDGE < abs(side - border)
        for side, edge, border in zip(box, crop, whole, strict=True)
    )


def non_maximum_suppression(boxes: Array, scores: Array, threshold: float) -> Array:
    """Indices of the boxes [N, 4] XYXY kept, in descending order of score [N].

    A box is dropped when its IoU with a kept one of a higher score exceeds the threshold; equal
    scores count in the order given. Boxes without area overlap nothing.
    """
    order = np.argsort(-scores, kind="stable")
    xyxy = boxes.astype(np.float32)[order]
    areas = (xyxy[:, 2] - xyxy[:, 0]) * (xyxy[:, 3] - xyxy[:, 1])
    alive = np.ones(len(order), np.bool_)
    for i in range(len(order)):
        if not alive[i]:
            continue
        rest = slice(i + 1, None)
        width = np.minimum(xyxy[i, 2], xyxy[rest, 2]) - np.maximum(xyxy[i, 0], xyxy[rest, 0])
        height = np.minimum(xyxy[i, 3], xyxy[rest, 3]) - np.maximum(xyxy[i, 1], xyxy[rest, 1])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        with np.errstate(invalid="ignore"):
            alive[rest] &= ~(shared / (areas[i] + areas[rest] - shared) > threshold)
    kept: Array = order[alive]
    return kept


@dataclass(frozen=True)
class RunLengths:
    """A mask as lengths of runs, column by column: background first, COCO's uncompressed RLE."""

    size: tuple[int, int]
    counts: tuple[int, ...]

    @property
    def area(self) -> int:
        """Pixels of the mask."""
        return sum(self.counts[1::2])

    def rle(self) -> dict[str, list[int]]:
        """As COCO's tools take it."""
        return {"size": list(self.size), "counts": list(self.counts)}


def run_lengths(part: Mask, corner: tuple[int, int], size: tuple[int, int]) -> RunLengths:
    """Run lengths of a mask of `size` that is empty outside `part` [H', W'] bool.

    corner: row and column of the part's first pixel.
    """
    height, width = size
    columns = np.zeros((part.shape[1], part.shape[0] + 2), np.bool_)
    columns[:, 1:-1] = part.T
    column, row = np.nonzero(columns[:, 1:] != columns[:, :-1])
    flips = (corner[1] + column) * height + corner[0] + row
    # a run that goes on from one column's bottom to the next one's top ends and starts at once
    twice = np.flatnonzero(flips[1:] == flips[:-1])
    flips = np.delete(flips, np.concatenate([twice, twice + 1]))
    counts = np.diff(flips, prepend=0, append=height * width).tolist()
    if flips.size and flips[-1] == height * width:
        counts.pop()
    return RunLengths(size, tuple(counts))


def remove_small_regions(
    mask: Mask, area: float, mode: Literal["holes", "islands"]
) -> tuple[Mask, bool]:
    """Fill holes, or remove islands, of fewer than `area` pixels of a mask [H, W] bool.

    Returns the mask and whether it changed. Components touch by side or corner. When all islands
    are small the largest stays. Needs OpenCV.
    """
    cv2 = opencv("removing small regions")
    background = mode == "holes"
    _, labels, stats, _ = cv2.connectedComponentsWithStats(
        (mask ^ background).astype(np.uint8), connectivity=8
    )
    sizes = stats[1:, cv2.CC_STAT_AREA]
    small = sizes < area
    if not small.any():
        return mask, False
    if not background and small.all():
        small[int(sizes.argmax())] = False
    changed: Mask = np.append(False, small)[labels]
    return (mask | changed if background else mask & ~changed), True


@dataclass(frozen=True)
class LowRes:
    """Logits [h, w] of one candidate, cut to where they can matter above `level`."""

    part: Logits
    corner: tuple[int, int]
    shape: tuple[int, int]
    level: float

    @classmethod
    def cut(cls, logits: Logits, level: float) -> LowRes:
        """What decides which pixels exceed `level` at full size: taps above it and their like."""
        x0, y0, x1, y1 = mask_box(logits > level - 1e-3 * (1 + abs(level)))
        rows, cols = slice(max(y0 - 1, 0), y1 + 2), slice(max(x0 - 1, 0), x1 + 2)
        shape = (logits.shape[0], logits.shape[1])
        return cls(logits[rows, cols].copy(), (rows.start, cols.start), shape, level)

    def mask(self, size: tuple[int, int], threshold: float) -> tuple[Mask, tuple[int, int]]:
        """The part of the mask [H, W] of `size` that is not empty, and its first row and column."""
        plane = np.full(self.shape, self.level - 1, np.float32)
        (top, left), (height, width) = self.corner, self.part.shape
        plane[top : top + height, left : left + width] = self.part
        blocks = [
            (rows, cols, block > np.float32(threshold))
            for rows, cols, block in upsampled_above(plane, size, self.level)
        ]
        if not blocks:
            return np.zeros((0, 0), np.bool_), (0, 0)
        return np.concatenate([b for _, _, b in blocks]), (blocks[0][0].start, blocks[0][1].start)


def measure(
    logits: Logits, size: tuple[int, int], threshold: float, offset: float
) -> tuple[float, Box | None]:
    """Stability of a mask at full `size`, and its box; the box is None where the mask is empty.

    logits: [h, w] float32. Stability: pixels above threshold + offset per pixel above
    threshold - offset, NaN without any. Nothing of full size is made: a block at a time.
    """
    inner = outer = 0
    in_rows, in_cols = np.zeros(size[0], np.bool_), np.zeros(size[1], np.bool_)
    for rows, cols, block in upsampled_above(logits, size, threshold - abs(offset)):
        inner += np.count_nonzero(block > np.float32(threshold + offset))
        outer += np.count_nonzero(block > np.float32(threshold - offset))
        mask = block > np.float32(threshold)
        in_rows[rows] = mask.any(axis=1)
        in_cols[cols] |= mask.any(axis=0)
    stability = float(np.float32(inner) / np.float32(outer)) if outer else math.nan
    return stability, _box(in_rows, in_cols) if in_rows.any() else None


def checked_grids(grids: Sequence[Array], layers: int) -> list[Array]:
    """Point grids of the caller, one per crop layer: [K, 2] x, y in 0..1."""
    if not hasattr(grids, "__len__"):
        raise InputError(f"point_grids is {shown(grids)}: expected a list, a grid per crop layer")
    if len(grids) <= layers:
        raise InputError(f"{len(grids)} point grids for {layers} crop layers and the whole image")
    try:
        checked = [np.asarray(grid, np.float64) for grid in grids]
    except (TypeError, ValueError):
        raise InputError("a point grid must be an array [K, 2] of numbers in 0..1") from None
    for grid in checked:
        inside = grid.ndim == 2 and grid.shape[1] == 2 and ((grid >= 0) & (grid <= 1)).all()
        if not inside or not len(grid):
            raise InputError(
                f"a point grid must be [K, 2] with x, y in 0..1, got shape {grid.shape}"
            )
    return checked
