"""Records of masks found without prompts: their fields, encodings, and cleaning afterwards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np

from ...configs.checks import shown
from ...configs.errors import InputError
from ..arrays import Mask
from ..packages import coco_mask
from ..pixels.rle import mask_from_rle
from .automask import (
    Box,
    RunLengths,
    mask_box,
    non_maximum_suppression,
    remove_small_regions,
    run_lengths,
)

OutputMode = Literal["binary_mask", "uncompressed_rle", "coco_rle"]


def without_small_regions(
    records: Sequence[dict[str, Any]], min_area: float, nms_thresh: float
) -> list[dict[str, Any]]:
    """See :meth:`~sam2rt.MaskGenerator.postprocess_small_regions`."""
    _check_records(records)
    cleaned = [_cleaned(record, min_area) for record in records]
    boxes = np.reshape([box for _, box, _ in cleaned], (-1, 4))
    unchanged = np.array([float(not changed) for _, _, changed in cleaned])
    kept = non_maximum_suppression(boxes, unchanged, nms_thresh)
    return [cleaned[i][0] for i in kept]


def _cleaned(record: dict[str, Any], min_area: float) -> tuple[dict[str, Any], Box, bool]:
    """The record without small holes and islands, its mask's box, and whether it changed."""
    mode, mask = _decoded(record["segmentation"])
    mask, filled = remove_small_regions(mask, min_area, "holes")
    mask, removed = remove_small_regions(mask, min_area, "islands")
    box = mask_box(mask)
    if not (filled or removed):
        return record, box, False
    runs = run_lengths(mask, (0, 0), mask.shape)
    parts = {"segmentation": encoded_mask(runs, mode), "area": runs.area, "bbox": xywh(box)}
    return {**record, **parts}, box, True


def _check_records(records: Any) -> None:
    known = isinstance(records, Sequence) and all(
        isinstance(record, dict) and "segmentation" in record for record in records
    )
    if not known:
        raise InputError(f"records is {shown(records)}: expected what generate gives")


def xywh(box: Box) -> list[float]:
    """A box as x, y, width and height in pixels."""
    return [float(v) for v in (box[0], box[1], box[2] - box[0], box[3] - box[1])]


def encoded_mask(runs: RunLengths, mode: OutputMode) -> Any:
    """A mask as a record's `segmentation`: an array [H, W] bool or COCO's run lengths."""
    if mode == "binary_mask":
        return mask_from_rle(runs.rle())
    if mode == "uncompressed_rle":
        return runs.rle()
    packed = coco_mask().frPyObjects(runs.rle(), *runs.size)
    # text, so that records can be written as JSON
    return {"size": packed["size"], "counts": packed["counts"].decode("ascii")}


def _decoded(segmentation: Any) -> tuple[OutputMode, Mask]:
    if not isinstance(segmentation, dict):
        return "binary_mask", np.asarray(segmentation, np.bool_)
    packed = isinstance(segmentation["counts"], str)
    return "coco_rle" if packed else "uncompressed_rle", mask_from_rle(segmentation)
