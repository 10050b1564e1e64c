"""Masks as COCO run-length encoding, the form datasets and annotation tools exchange.

Runs go down the columns and begin with background. ``counts`` is COCO's compressed text.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypedDict

import numpy as np

from ...configs.errors import InputError
from ..arrays import Array, Mask, host_array
from ..packages import coco_mask


class Rle(TypedDict):
    """One mask: ``size`` is [height, width]."""

    size: list[int]
    counts: str


def rle_from_mask(mask: Mask) -> Rle:
    """Encode a mask, bool or 0/1 [H, W]. InputError for another shape, MissingExtraError
    without pycocotools."""
    array = host_array(mask)
    if array.ndim != 2:
        raise InputError(f"a mask must be [H, W], got shape {array.shape}")
    return rles_from_masks(array[None])[0]


def rles_from_masks(masks: Mask) -> list[Rle]:
    """Encode masks, bool or 0/1 [N, H, W]; errors as of :func:`rle_from_mask`."""
    array = host_array(masks)
    if array.ndim != 3:
        raise InputError(f"masks must be [N, H, W], got shape {array.shape}")
    if len(array) == 0:
        return []
    columns = np.asfortranarray((array != 0).transpose(1, 2, 0).astype(np.uint8))
    encoded = coco_mask().encode(columns)
    return [
        {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
        for rle in encoded
    ]


def mask_from_rle(rle: Mapping[str, Any]) -> Mask:
    """Decode one mask: bool [H, W]. `counts` may be compressed text or a list of run lengths.

    Raises InputError where the runs do not fill the size (pycocotools would give whatever the
    memory held before).
    """
    try:
        height, width = (int(side) for side in rle["size"])
        runs = _runs(rle["counts"])
    except (KeyError, TypeError, ValueError, IndexError):
        raise InputError(
            f"not a run-length encoding ({rle!r:.80}): expected 'size' [H, W] and 'counts'"
        ) from None
    if min(height, width, *runs, 0) < 0 or sum(runs) != height * width:
        raise InputError(
            f"runs of {sum(runs)} pixels do not fill a mask of {height} x {width}: the encoding "
            "is damaged"
        )
    columns: Array = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    mask: Mask = columns.reshape(width, height).T
    return mask


def _runs(counts: str | bytes | Sequence[int]) -> list[int]:
    """Run lengths: five bits a character, low first; the third and later are differences."""
    if not isinstance(counts, (str, bytes)):
        return [int(run) for run in counts]
    codes = counts.encode("ascii") if isinstance(counts, str) else counts
    runs: list[int] = []
    at = 0
    while at < len(codes):
        value = shift = 0
        more = True
        while more:
            code = codes[at] - 48
            if not 0 <= code < 64:
                raise ValueError(f"character {codes[at]}")
            value |= (code & 31) << shift
            shift += 5
            more = bool(code & 32)
            if not more and code & 16:
                value -= 1 << shift
            at += 1
        runs.append(value + runs[-2] if len(runs) > 2 else value)
    return runs
