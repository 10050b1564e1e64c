"""What training minimises: focal and dice on masks, IoU regression, object score.

SAM 2 paper, appendix "Data and training": focal and dice 20 to 1, mean absolute error on the
IoU, cross-entropy on the object score; of several masks only the best is pulled towards the
truth. Here the others follow at a small weight: synthetic objects are not ambiguous, and a
short training otherwise leaves the mask that is chosen far behind the best one. The first steps
of an untrained model put class-balanced cross-entropy in the place of the focal loss: objects
cover a few per cent of an image, and focal and dice alone rest for long on empty masks.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from ..export.model.decoder import DecoderOutput
from .recipe import LossWeights


def focal(logits: Tensor, truth: Tensor, alpha: float = 0.25, gamma: float = 2.0) -> Tensor:
    """Mean sigmoid focal loss (arXiv 1708.02002) over the last two axes."""
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    p = logits.sigmoid()
    wrong = p + truth - 2 * p * truth
    balance = alpha * truth + (1 - alpha) * (1 - truth)
    return (balance * wrong**gamma * cross_entropy).mean((-2, -1))


def balanced(logits: Tensor, truth: Tensor, rivals: Tensor) -> Tensor:
    """Cross-entropy over the last two axes: object, other objects and ground count a third each.

    `rivals` [..., R, R] in 0..1 is where other objects of the image are. As a part of the ground
    they would weigh next to nothing, and marking every object would nearly do.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
    rivals = torch.minimum(rivals, 1 - truth)
    regions = (truth, rivals, 1 - truth - rivals)
    means = [(cross_entropy * r).sum((-2, -1)) / (r.sum((-2, -1)) + 1) for r in regions]
    return torch.stack(means).sum(0) / 3


def balanced_score(score: Tensor, visible: Tensor) -> Tensor:
    """Cross-entropy of object scores [N]: present and absent objects count half each.

    Few objects are absent; weighed alike they would hardly be learned.
    """
    cross_entropy = F.binary_cross_entropy_with_logits(score, visible, reduction="none")
    means = [(cross_entropy * m).sum() / m.sum().clamp(min=1) for m in (visible, 1 - visible)]
    return (means[0] + means[1]) / 2


def dice(logits: Tensor, truth: Tensor) -> Tensor:
    """Soft dice loss over the last two axes; one added to both sides of the fraction."""
    p = logits.sigmoid()
    shared = (p * truth).sum((-2, -1))
    return 1 - (2 * shared + 1) / (p.sum((-2, -1)) + truth.sum((-2, -1)) + 1)


def iou(logits: Tensor, truth: Tensor) -> Tensor:
    """Intersection over union of logits > 0 with truth > 0.5; 1 where both are empty."""
    found, wanted = logits > 0, truth > 0.5
    shared = (found & wanted).sum((-2, -1)).float()
    union = (found | wanted).sum((-2, -1)).float()
    return torch.where(union > 0, shared / union.clamp(min=1), 1.0)


@dataclass(frozen=True)
class Scored:
    """The loss of one decoder call, and what it says about quality (detached)."""

    loss: Tensor
    #: IoU of the mask that would be chosen, and of the best one, over present objects
    chosen_iou: float
    best_iou: float
    #: index 0..3 of the mask that would be chosen, [N]
    chosen: Tensor


def score_output(
    output: DecoderOutput,
    truth: Tensor,
    rivals: Tensor,
    present: Tensor,
    multimask: bool,
    weights: LossWeights,
) -> Scored:
    """Loss of a decoder's output against truth [N, R, R] in 0..1; present [N] bool.

    rivals [N, R, R] in 0..1: where other objects of the clip are.

    multimask: the three alternatives count (a single click, tracking), else the first mask.
    """
    logits = F.interpolate(
        output.mask_logits, truth.shape[-2:], mode="bilinear", align_corners=False
    )
    wanted = truth[:, None].expand_as(logits)
    each = weights.dice * dice(logits, wanted)
    if weights.focal:
        each = each + weights.focal * focal(logits, wanted)
    if weights.balanced:
        each = each + weights.balanced * balanced(logits, wanted, rivals[:, None])
    with torch.no_grad():
        quality = iou(logits, wanted)
    best = each[:, 1:].min(1).values
    others = each[:, 1:].mean(1)
    if multimask:
        masks = best + weights.others * (others + each[:, 0])
        chosen = output.ious[:, 1:].argmax(1) + 1
    else:
        masks = each[:, 0] + weights.others * (best + others)
        chosen = torch.zeros_like(output.ious[:, 0], dtype=torch.long)
    visible = present.float()
    count = visible.sum().clamp(min=1)
    mask_loss = (masks * visible).sum() / count
    iou_loss = ((output.ious - quality).abs().mean(1) * visible).sum() / count
    score_loss = balanced_score(output.object_score[:, 0], visible)
    loss = mask_loss + weights.iou * iou_loss + weights.score * score_loss
    picked = quality.gather(1, chosen[:, None])[:, 0]
    top = quality[:, 1:].max(1).values if multimask else picked
    return Scored(
        loss,
        float((picked * visible).sum() / count),
        float((top * visible).sum() / count),
        chosen,
    )
