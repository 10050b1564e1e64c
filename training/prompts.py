"""Simulated users: clicks and boxes drawn from ground truth and from mistakes.

Masks are [N, R, R] bool at the resolution losses are computed at; points come out in
model-input pixels [N, 2] float32. SAM 2 paper, appendix "Data and training": the first click is
drawn from the object, later ones from where prediction and truth differ.
"""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Bool = NDArray[np.bool_]
Float = NDArray[np.float32]
Rng = np.random.Generator


def first_clicks(rng: Rng, masks: Bool, size: int) -> Float:
    """One point inside each mask: half the time its innermost one, else any."""
    points: Float = np.stack([_point_in(rng, mask) for mask in masks])
    points *= np.float32(size / masks.shape[-1])
    return points


def corrections(
    rng: Rng, predicted: Bool, truth: Bool, size: int
) -> tuple[Float, NDArray[np.int32]]:
    """One click per object where prediction and truth differ; labels 1 missed, 0 too much.

    The larger kind of mistake is clicked more often. Without any mistake the click lands inside
    the object, or outside with label 0 where there is none.
    """
    points, labels = [], []
    for found, wanted in zip(predicted, truth, strict=True):
        missed, extra = wanted & ~found, found & ~wanted
        total = missed.sum() + extra.sum()
        if total == 0:
            positive = bool(wanted.any())
            region = wanted if positive else ~wanted
        else:
            positive = bool(rng.random() < missed.sum() / total)
            region = missed if positive else extra
        points.append(_point_in(rng, region))
        labels.append(int(positive))
    scale = size / truth.shape[-1]
    return np.stack(points) * np.float32(scale), np.array(labels, np.int32)


def boxes(rng: Rng, masks: Bool, size: int, jitter: float = 0.05) -> Float:
    """Box corners [N, 2, 2] of each mask, each side moved by up to `jitter` of its length."""
    scale = size / masks.shape[-1]
    corners = []
    for mask in masks:
        y, x = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        box = np.array([[x[0], y[0]], [x[-1] + 1, y[-1] + 1]], np.float32)
        side = box[1] - box[0]
        box += rng.uniform(-jitter, jitter, (2, 2)).astype(np.float32) * side
        corners.append(np.clip(box * scale, 0, size))
    return np.stack(corners).astype(np.float32)


def _point_in(rng: Rng, region: Bool) -> Float:
    """A pixel centre inside `region` (which must not be empty), x and y in its own pixels."""
    if rng.random() < 0.5:
        padded = np.pad(region, 1).astype(np.uint8)
        depth = cv2.distanceTransform(padded, cv2.DIST_L2, 3)[1:-1, 1:-1]
        y, x = np.unravel_index(int(depth.argmax()), depth.shape)
    else:
        chosen = np.flatnonzero(region)
        y, x = np.divmod(int(chosen[rng.integers(len(chosen))]), region.shape[1])
    return np.array([x + 0.5, y + 0.5], np.float32)
