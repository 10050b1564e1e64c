"""A session on a video: the video predictor, one frame a turn."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import numpy as np

from ...configs.errors import InputError, StateError
from ...runtime.arrays import Logits
from ...runtime.pixels.rle import rle_from_mask
from ...runtime.predictors.video import VideoPredictor
from .limits import ServerLimits, TooLargeError
from .media import Medium
from .model import Model
from .prompts import ObjectMask, Prompt, prompt_mask
from .session import WorkSession

Direction = Literal["forward", "backward", "both"]


class VideoSession(WorkSession):
    """One client's work on a video, with the masks of :class:`~sam2rt.VideoPredictor`."""

    kind = "video"

    def __init__(
        self, model: Model, medium: Medium, limits: ServerLimits, no_overlap: bool
    ) -> None:
        super().__init__(model, medium, limits, no_overlap)
        # whoever corrects a frame and tracks again would find the correction gone without it
        self._predictor = VideoPredictor(
            model.bundle,
            session=model.session,
            non_overlap_masks=no_overlap,
            add_all_frames_to_correct_as_cond=True,
        )
        self._state = self._predictor.init_state(medium.path)

    def prompt(self, prompt: Prompt) -> dict[int, ObjectMask]:
        self.check_frame(prompt.frame)
        self._check_new(prompt.object)
        self._check_room(prompt.object)
        where: dict[str, Any] = {
            "inference_state": self._state,
            "frame_idx": prompt.frame,
            "obj_id": prompt.object,
        }
        if prompt.mask is not None:
            mask = prompt_mask(prompt.mask, self.size)
            _, ids, logits = self._predictor.add_new_mask(**where, mask=mask)
        else:
            _, ids, logits = self._predictor.add_new_points_or_box(
                **where, **prompt.asked(), clear_old_points=prompt.clear
            )
        key = (prompt.frame, prompt.object)
        self.prompts[key] = prompt.joined(self.prompts.pop(key, None))
        self.names.setdefault(prompt.object, "")
        return self._noted(prompt.frame, ids, logits)

    def clear(self, frame: int, obj_id: int) -> dict[int, ObjectMask]:
        self.check_frame(frame)
        self.check_object(obj_id)
        if len([key for key in self.prompts if key[1] == obj_id and key[0] != frame]) == 0:
            self.remove(obj_id)
            return self.masks.get(frame, {})
        result = self._predictor.clear_all_prompts_in_frame(self._state, frame, obj_id)
        self.prompts.pop((frame, obj_id), None)
        assert result is not None
        return self._noted(frame, result[1], result[2])

    def remove(self, obj_id: int) -> None:
        self.check_object(obj_id)
        self._predictor.remove_object(self._state, obj_id, need_output=False)
        self._dropped(obj_id)

    def reset(self) -> None:
        self._predictor.reset_state(self._state)
        self.names.clear()
        self.prompts.clear()
        self.masks.clear()

    def free(self) -> None:
        super().free()
        self._predictor.reset_state(self._state)
        self._state.features = None
        self._state.frames.close()
        self._predictor.close()

    def plan(self, direction: Direction, start: int | None, frames: int | None) -> list[range]:
        """The frames that a propagation passes, in order, one range a direction.

        Raises StateError without a prompt, NotFoundError for a start outside.
        """
        prompted = [frame for frame, _ in self.prompts]
        if not prompted:
            raise StateError("no object to track: add points, a box or a mask first")
        if start is None:
            start = max(prompted) if direction == "backward" else min(prompted)
        self.check_frame(start)
        # as `frames` counts them, one less than the predictor's largest distance
        most = self.medium.num_frames if frames is None else frames
        forward = range(start, min(start + most, self.medium.num_frames))
        backward = range(start, max(start - most, -1), -1)
        return {"forward": [forward], "backward": [backward], "both": [forward, backward]}[
            direction
        ]

    def propagation(self, order: range) -> Iterator[tuple[int, dict[int, ObjectMask]]]:
        """The masks of each frame of a range of :meth:`plan`; each step in the model's thread."""
        steps = self._predictor.propagate_in_video(
            self._state, order.start, len(order) - 1, reverse=order.step < 0
        )
        try:
            for frame, ids, logits in steps:
                yield frame, self._noted(frame, ids, logits)
        finally:
            steps.close()  # type: ignore[attr-defined]

    def _noted(self, frame: int, ids: list[int], logits: Logits) -> dict[int, ObjectMask]:
        """Keep the masks of a frame, of logits [N, 1, H, W]."""
        found: dict[int, ObjectMask] = {}
        # on a GPU masks are made there, and come down as bits
        for obj_id, mask in zip(ids, np.asarray(logits > 0)[:, 0], strict=True):
            found[obj_id] = ObjectMask(obj_id, rle_from_mask(mask), int(np.count_nonzero(mask)))
        if found:
            self.masks[frame] = found
        else:
            self.masks.pop(frame, None)
        return found

    def _check_room(self, obj_id: int) -> None:
        """TooLargeError where one more object could take more memory than a session may have."""
        config = self.model.bundle.model
        memory = config.mem_dim * config.embed_size**2
        each = 4 * (config.mask_size**2 + memory + config.hidden_dim)
        count = len(self.names.keys() | {obj_id})
        needed = each * count * self.medium.num_frames
        if needed > self.limits.state_bytes:
            raise TooLargeError(
                f"{count} objects on {self.medium.num_frames} frames may take {needed >> 20} MB, "
                f"expected at most {self.limits.state_bytes >> 20}: use a shorter clip"
            )


def direction_of(text: str) -> Direction:
    """A direction by its name; InputError for another."""
    for known in ("forward", "backward", "both"):
        if text == known:
            return known
    raise InputError(f"direction is {text!r:.40}: expected forward, backward or both")
