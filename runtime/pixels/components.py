"""Small holes and specks of masks, by connected components (8 neighbours)."""

from __future__ import annotations

import numpy as np

from ..arrays import Logits, Mask
from ..packages import opencv


def fill_holes(logits: Logits, area: int, threshold: float = 0.0, value: float = 0.1) -> Logits:
    """Fill the background's components of at most `area` pixels.

    logits: [..., h, w] float32; a pixel is background where its logit <= threshold. Gives a copy
    with `value` in the filled pixels (the original's ``fill_holes_in_mask_scores``, which needs a
    GPU). Background that touches the border counts like any other. MissingExtraError without
    OpenCV.
    """
    filled: Logits = logits.copy()
    filled[small_components(logits <= threshold, area)] = value
    return filled


def clean_mask(logits: Logits, threshold: float, hole_area: float, sprinkle_area: float) -> Logits:
    """The image predictor's rule: small holes get threshold + 10, small specks threshold - 10.

    logits: [..., h, w] float32. Both kinds are looked for in the logits as they came, areas of 0
    leave their kind alone.
    """
    cleaned = logits
    if hole_area > 0:
        cleaned = fill_holes(cleaned, int(hole_area), threshold, threshold + 10.0)
    if sprinkle_area > 0:
        specks = small_components(logits > threshold, int(sprinkle_area))
        cleaned = np.where(specks, np.float32(threshold - 10.0), cleaned)
    return cleaned


def small_components(mask: Mask, area: int) -> Mask:
    """Pixels of components of at most `area` pixels: bool [..., h, w] -> bool [..., h, w]."""
    cv2 = opencv("filling holes")
    planes = mask.reshape(-1, *mask.shape[-2:])
    small = np.zeros(planes.shape, np.bool_)
    for plane, out in zip(planes, small, strict=True):
        _, labels, stats, _ = cv2.connectedComponentsWithStats(
            plane.astype(np.uint8), connectivity=8
        )
        within = stats[:, cv2.CC_STAT_AREA] <= area
        # label 0 is what the mask leaves out
        within[0] = False
        np.take(within, labels, out=out)
    return small.reshape(mask.shape)
