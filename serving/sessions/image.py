"""A session on one image: the image predictor, one prompt a turn."""

from __future__ import annotations

import numpy as np

from ...configs.errors import InputError
from ...runtime.pixels.rle import mask_from_rle, rle_from_mask
from ...runtime.predictors.image import ImagePredictor
from .limits import ServerLimits
from .media import Medium
from .model import Model
from .prompts import ObjectMask, Prompt, prompt_mask
from .session import WorkSession


class ImageSession(WorkSession):
    """One client's work on an image, with the masks of :class:`~sam2rt.ImagePredictor`.

    One mask a prompt (multimask_output False); all of an object's points count together. A mask
    becomes the object as it is.
    """

    kind = "image"

    def __init__(
        self, model: Model, medium: Medium, limits: ServerLimits, no_overlap: bool
    ) -> None:
        super().__init__(model, medium, limits, no_overlap)
        self._predictor = ImagePredictor(model.bundle, session=model.session)

    def prompt(self, prompt: Prompt) -> dict[int, ObjectMask]:
        self.check_frame(prompt.frame)
        self._check_new(prompt.object)
        key = (0, prompt.object)
        whole = prompt.joined(self.prompts.get(key))
        self._set(prompt.object, self._segmented(whole))
        self.prompts[key] = whole
        self.names.setdefault(prompt.object, "")
        return self.masks[0]

    def clear(self, frame: int, obj_id: int) -> dict[int, ObjectMask]:
        self.check_frame(frame)
        self.remove(obj_id)
        return self.masks.get(0, {})

    def remove(self, obj_id: int) -> None:
        self.check_object(obj_id)
        self._dropped(obj_id)

    def reset(self) -> None:
        for obj_id in list(self.names):
            self._dropped(obj_id)

    def free(self) -> None:
        super().free()
        self._predictor.reset_predictor()
        self._predictor.close()

    def _segmented(self, prompt: Prompt) -> ObjectMask:
        if prompt.mask is not None:
            mask, score = prompt_mask(prompt.mask, self.size), None
        else:
            if not self._predictor.is_image_set:
                self._predictor.set_image(self.view(0))
            if not (prompt.points or prompt.labels or prompt.box):
                raise InputError("no prompt: give points with labels, a box, or both")
            asked = prompt.asked()
            masks, scores, _ = self._predictor.predict(
                asked.get("points"),
                asked.get("labels"),
                box=asked.get("box"),
                multimask_output=False,
            )
            mask, score = np.asarray(masks[0], bool), float(scores[0])
        return ObjectMask(prompt.object, rle_from_mask(mask), int(np.count_nonzero(mask)), score)

    def _set(self, obj_id: int, found: ObjectMask) -> None:
        """Keep an object's mask; without overlap earlier objects keep their pixels."""
        masks = dict(self.masks.get(0, {}))
        if self.no_overlap:
            mask = mask_from_rle(found.mask)
            for other in masks.values():
                if other.object != obj_id:
                    mask = mask & ~mask_from_rle(other.mask)
            area = int(np.count_nonzero(mask))
            found = ObjectMask(obj_id, rle_from_mask(mask), area, found.score)
        masks[obj_id] = found
        self.masks[0] = masks
