"""The model ``sam2rt_image``: an image and prompts in, one mask an object out."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from ...runtime.arrays import Array, Frame
from ...runtime.pixels.rle import rle_from_mask
from ...runtime.predictors.image import ImagePredictor
from ...runtime.tasks.prompts import ObjectPrompt
from ...runtime.tasks.segment_prompts import check_prompts, predicted
from .model import ServedModel
from .prompts import check_count, read_prompts
from .tensors import IMAGE_INPUTS, Inputs, mask_outputs, required_frame, text_of


class ServedImageModel(ServedModel):
    """Masks of ``sam2rt segment``: of a single click the reading with the best predicted IoU."""

    inputs = tuple(IMAGE_INPUTS)

    def opened(self, stack: ExitStack, arguments: Mapping[str, str]) -> None:
        self._predictor = ImagePredictor(self.model.bundle, session=self.model.session)

    def answer(self, request: Any, inputs: Inputs) -> dict[str, Array]:
        prompts = read_prompts(text_of(inputs, "PROMPTS"))
        check_count({prompt.obj_id for prompt in prompts}, self.settings.limits.objects)
        frame = required_frame(inputs, self.settings.limits)
        return self.model.run(lambda: self._segmented(frame, prompts))

    def _segmented(self, frame: Frame, prompts: list[ObjectPrompt]) -> dict[str, Array]:
        size = frame.shape[0], frame.shape[1]
        check_prompts(prompts, size)
        self._predictor.set_image(frame)
        try:
            found = predicted(self._predictor, prompts, size, False)
        finally:
            self._predictor.reset_predictor()
        best = [int(ious.argmax()) for _, ious in found]
        masks = [masks[index] for (masks, _), index in zip(found, best, strict=True)]
        scores = [ious[index] for (_, ious), index in zip(found, best, strict=True)]
        ids = [prompt.obj_id for prompt in prompts]
        return mask_outputs(ids, scores, [rle_from_mask(mask) for mask in masks], size)
