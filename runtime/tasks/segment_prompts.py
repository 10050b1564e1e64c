"""The prompts of one image: checked together, predicted in as few calls as their kinds allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...configs.checks import whole_number
from ...configs.errors import InputError
from ..arrays import Array, Logits
from ..pixels.rle import mask_from_rle
from ..predictors.image import ImagePredictor
from ..tracking.prompts import clicks_from, mask_from
from .prompts import ObjectPrompt, check_mask_size


def check_prompts(prompts: Sequence[ObjectPrompt], frame_size: tuple[int, int]) -> None:
    """InputError for prompts that cannot be used on an image of (height, width) pixels."""
    if not prompts:
        raise InputError("nothing to segment: give at least one point, box or mask")
    seen = set()
    for prompt in prompts:
        obj_id = whole_number("obj_id", prompt.obj_id)
        if whole_number("frame_idx", prompt.frame_idx) != 0:
            raise InputError(f"{prompt.where}: an image has frame 0 alone, leave the frame out")
        if obj_id in seen:
            raise InputError(f"{prompt.where} has two prompts: give them as one")
        seen.add(obj_id)
        try:
            if prompt.mask is not None:
                check_mask_size(prompt.mask, frame_size)
            if prompt.mask is None or prompt.points or prompt.box is not None:
                clicks_from(*_points(prompt), prompt.box, frame_size=frame_size)
        except InputError as error:
            raise InputError(f"{prompt.where}: {error}") from None


def predicted(
    predictor: ImagePredictor,
    prompts: Sequence[ObjectPrompt],
    frame_size: tuple[int, int],
    all_masks: bool,
) -> list[tuple[Array, Array]]:
    """For each prompt its masks [C, H, W] bool and predicted IoU [C].

    C is 3 for a single click or with all_masks, else 1. Prompts of equally many clicks, boxes and
    masks share a call.
    """
    groups: dict[tuple[int, bool, bool], list[int]] = {}
    for index, prompt in enumerate(prompts):
        kind = len(prompt.points), prompt.box is not None, prompt.mask is not None
        groups.setdefault(kind, []).append(index)
    found: dict[int, tuple[Array, Array]] = {}
    for kind, members in groups.items():
        # a single click is ambiguous, a box, a mask or several clicks are not
        several = all_masks or kind == (1, False, False)
        given = _stacked(predictor, [prompts[i] for i in members], frame_size)
        masks, ious, _ = predictor.predict(**given, multimask_output=several)
        masks, ious = masks.reshape(-1, *masks.shape[-3:]), ious.reshape(-1, ious.shape[-1])
        found.update(zip(members, zip(masks, ious, strict=True), strict=True))
    return [found[index] for index in range(len(prompts))]


def _stacked(
    predictor: ImagePredictor, prompts: Sequence[ObjectPrompt], frame_size: tuple[int, int]
) -> dict[str, Any]:
    """Arguments of :meth:`ImagePredictor.predict` for prompts of one kind."""
    first = prompts[0]
    coords, labels, boxes, masks = None, None, None, None
    if first.points:
        coords = np.array([_points(prompt)[0] for prompt in prompts], np.float32)
        labels = np.array([_points(prompt)[1] for prompt in prompts], np.int32)
    if first.box is not None:
        boxes = np.array([prompt.box for prompt in prompts], np.float32)
    if first.mask is not None:
        masks = np.stack([_start(predictor, prompt, frame_size) for prompt in prompts])
    return {"point_coords": coords, "point_labels": labels, "box": boxes, "mask_input": masks}


def _start(predictor: ImagePredictor, prompt: ObjectPrompt, frame_size: tuple[int, int]) -> Logits:
    """A mask as an earlier prediction would have given it: logits [1, 4h, 4w] of -10 and 10."""
    assert prompt.mask is not None
    mask = mask_from(mask_from_rle(prompt.mask), frame_size, predictor.config.image_size)
    made = predictor.session.run("mask_prompt", {"mask": mask[None, None]})
    logits: Logits = np.asarray(made["mask_logits"])[0]
    return logits


def _points(prompt: ObjectPrompt) -> tuple[list[tuple[float, float]], list[int]]:
    coords = [(point[0], point[1]) for point in prompt.points]
    return coords, [point[2] for point in prompt.points]
