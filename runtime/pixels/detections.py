"""Masks as supervision takes them, to be drawn, counted and written by its tools."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...configs.errors import InputError
from ..arrays import Mask, Scores, host_array
from ..packages import supervision


def detections_from_masks(
    masks: Mask, obj_ids: Sequence[int] | None = None, scores: Scores | None = None
) -> Any:
    """A ``supervision.Detections`` of the objects that are seen: those whose mask is not empty.

    masks: [N, H, W] bool; obj_ids: [N], its ``tracker_id``; scores: [N], its ``confidence``. Boxes
    are those of ``supervision.mask_to_xyxy``: first and last column and row. Raises InputError for
    other shapes, MissingExtraError without supervision.
    """
    array = host_array(masks)
    if array.ndim != 3:
        raise InputError(f"masks must be [N, H, W], got shape {array.shape}")
    for name, values in (("obj_ids", obj_ids), ("scores", scores)):
        if values is not None and len(values) != len(array):
            raise InputError(f"{len(array)} masks but {len(values)} {name}: give one a mask")
    pixels = array.astype(np.bool_, copy=False)
    seen = pixels.any(axis=(1, 2))
    tools = supervision()
    return tools.Detections(
        xyxy=tools.mask_to_xyxy(pixels[seen]),
        mask=pixels[seen],
        confidence=None if scores is None else np.asarray(scores, np.float32)[seen],
        tracker_id=None if obj_ids is None else np.asarray(obj_ids, int)[seen],
    )
