"""Which of its four masks the decoder chose, and whether its own outputs account for that."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ...configs.models import ModelConfig
from ...runtime.arrays import Array

#: logits as they are compared and as they are handed out may differ by this share of the largest
_ROUNDING = 1e-4


def chosen_masks(decoded: Mapping[str, Array]) -> Array:
    """Which of the four masks the decoder chose, [N]: the one whose IoU it gave."""
    distance = np.abs(decoded["all_ious"] - decoded["iou"])
    choice: Array = distance.argmin(axis=1)
    return choice


def valid_choices(decoded: Mapping[str, Array], multimask: bool, config: ModelConfig) -> Array:
    """Whether the decoder's own outputs lead to its taking mask 0 or passing it over, [N] bool.

    Mask 0 is never taken where several masks are asked for, and else exactly if it is stable.
    """
    distance = np.abs(decoded["all_ious"] - decoded["iou"])
    # masks of equal IoU cannot be told apart
    perhaps = distance == distance.min(axis=1, keepdims=True)
    zero, other = perhaps[:, 0], perhaps[:, 1:].any(axis=1)
    if multimask:
        return np.asarray(other)
    masks = np.asarray(decoded["all_mask_logits"])[:, 0]
    ranges = np.array([_stability_range(logits, config.stability_delta) for logits in masks])
    least, most = ranges.T
    threshold = config.stability_threshold
    return np.asarray((zero & (most >= threshold)) | (other & (least < threshold)))


def _stability_range(logits: Array, delta: float) -> tuple[float, float]:
    """Least and largest share of a mask's pixels above -delta that are above delta too."""
    error = _ROUNDING * float(np.abs(logits).max())

    def share(inner: float, outer: float) -> float:
        whole = np.count_nonzero(logits > outer)
        return np.count_nonzero(logits > inner) / whole if whole else 1.0

    return share(delta + error, -delta - error), share(delta - error, -delta + error)
