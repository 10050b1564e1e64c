"""The objects of a live stream: their pending prompts, what is remembered, one frame's work.

A frame comes encoded, whoever encoded it. It changes all objects or, after an error, none.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

import numpy as np

from ...configs.checks import whole_number
from ...configs.errors import FrameError, InputError
from ..arrays import Logits, MaskPrompt
from ..bank import FrameOutput, ObjectHistory
from .prompts import Clicks, clicks_from, given, joined, mask_array, mask_from
from .tracker import Features, Points, TrackedObject, Tracker

R = TypeVar("R")
#: before the first frame coordinates are checked against no size
_ANY_SIZE = (1 << 30, 1 << 30)


@dataclass
class StreamObject:
    """One object: what is remembered of it, and its prompts for the next frame."""

    key: int
    history: ObjectHistory = field(default_factory=ObjectHistory)
    #: prompts for the next frame; clicks until its size is known
    points: list[Clicks | Points] = field(default_factory=list)
    mask: Any | None = None

    @property
    def prompted(self) -> bool:
        """Whether a prompt waits for the next frame."""
        return bool(self.points) or self.mask is not None

    def drop_prompts(self) -> None:
        """Forget the prompts that wait."""
        self.points, self.mask = [], None

    def resolved(self, size: tuple[int, int], image_size: int) -> Points | MaskPrompt:
        """The waiting prompt in model pixels, for a frame of `size`; InputError if it misfits."""
        if self.mask is not None:
            return mask_from(self.mask, size, image_size)
        points = None
        for prompt in self.points:
            if isinstance(prompt, Clicks):
                prompt.check(size)
                prompt = prompt.scaled(size, image_size)
            points = joined(points, prompt)
        assert points is not None
        return points


class StreamObjects:
    """Objects by id, in the order in which they were added, and where the stream stands.

    Belongs to one thread, as its tracker does. num_frames: the stream's length, if it is known.
    frame_idx: of the next frame. frame_size: (height, width) pixels, None before the first frame.
    """

    def __init__(self, tracker: Tracker, num_frames: int | None) -> None:
        self.num_frames = num_frames
        self.items: dict[int, StreamObject] = {}
        self.frame_idx = 0
        self.frame_size: tuple[int, int] | None = None
        self._tracker = tracker
        self._image_size: int = tracker.config.image_size
        self._next_key = 0

    def skip_to(self, frame_idx: int) -> None:
        """Count the next frame as `frame_idx`; InputError for one before the next."""
        index = whole_number("frame_idx", frame_idx)
        if index < self.frame_idx:
            raise InputError(f"frame {index}: the next frame is {self.frame_idx}, use reset()")
        self.frame_idx = index

    def add_points(
        self,
        obj_id: int,
        points: Any | None,
        labels: Any | None,
        *,
        box: Any | None,
        clear_old_points: bool,
        normalize_coords: bool,
    ) -> None:
        """Clicks, a box, or both for the next frame; see :meth:`StreamTracker.add_points`."""
        obj_id = whole_number("obj_id", obj_id)
        if given(box) is not None and not clear_old_points:
            raise InputError("a box must come before any click: use clear_old_points=True")
        size = (self.frame_size or _ANY_SIZE) if normalize_coords else None
        clicks = clicks_from(points, labels, box, frame_size=size)
        waits = size is _ANY_SIZE
        prompt = clicks if waits else clicks.scaled(size, self._image_size)
        self.add_prompt(obj_id, prompt, clear_old_points)

    def add_prompt(self, obj_id: int, prompt: Clicks | Points, clear_old_points: bool) -> None:
        """Points that were checked before, for the next frame."""
        item = self._object(obj_id)
        if clear_old_points:
            item.points.clear()
        item.points.append(prompt)
        item.mask = None

    def add_mask(self, obj_id: int, mask: Any) -> None:
        """A mask [H, W] for the next frame; see :meth:`StreamTracker.add_mask`."""
        obj_id, mask = whole_number("obj_id", obj_id), mask_array(mask)
        mask_from(mask, self.frame_size or mask.shape, 64)
        item = self._object(obj_id)
        item.points.clear()
        item.mask = np.array(mask)

    def remove(self, obj_id: int, strict: bool) -> None:
        """Forget an object; an unknown id is an InputError if strict."""
        obj_id = whole_number("obj_id", obj_id)
        if obj_id not in self.items and strict:
            raise InputError(f"no object {obj_id}: the objects are {list(self.items)}")
        self.items.pop(obj_id, None)
        if not self.items:
            self._tracker.release()

    def reset(self) -> None:
        """Forget all objects; the next frame is frame 0, of any size."""
        self.items.clear()
        self._tracker.release()
        self.frame_idx = 0
        self.frame_size = None

    def step(
        self,
        size: tuple[int, int],
        encode: Callable[[], Features],
        low_res: Callable[[list[FrameOutput]], Logits],
        result: Callable[[list[FrameOutput], Logits], R],
    ) -> R:
        """One frame: prompted objects segmented, all others tracked; gives `result` of it.

        `encode` is called where there are objects. `low_res` makes logits of their outputs in
        order, together with the frame's other work, so it reads no number of them. `result` gets
        both before anything changes: an error leaves the stream as it was. Raises FrameError for
        another size than earlier frames had, InputError for a prompt that does not fit, which is
        dropped.
        """
        if self.frame_size not in (None, size):
            raise FrameError(
                f"the frame is {size[1]} x {size[0]}, earlier ones were {self.frame_size[1]} x "
                f"{self.frame_size[0]}: resize it, or call reset() first"
            )
        prompts = self._pending_prompts(size)
        prompted: dict[int, FrameOutput] = {}
        tracked: dict[int, FrameOutput] = {}
        with self._tracker.session.together():
            if self.items:
                features = encode()
                prompted = self._prompt(features, prompts)
                tracked = self._track(features, prompts)
            outputs = prompted | tracked
            ordered = [outputs[i] for i in self.items]
            logits = low_res(ordered)
        for obj_id, output in outputs.items():
            output.check(self.frame_idx, obj_id)
        made = result(ordered, logits)
        self._take_up(prompted, tracked)
        self.frame_size = size
        self.frame_idx += 1
        return made

    def _pending_prompts(self, size: tuple[int, int]) -> dict[int, Points | MaskPrompt]:
        """The pending prompts in model pixels; one that does not fit is dropped and raised."""
        taken: dict[int, Points | MaskPrompt] = {}
        for obj_id, item in list(self.items.items()):
            if not item.prompted:
                continue
            try:
                taken[obj_id] = item.resolved(size, self._image_size)
            except InputError:
                item.drop_prompts()
                if not item.history.cond:
                    del self.items[obj_id]
                raise
        return taken

    def _prompt(
        self, features: Features, prompts: Mapping[int, Points | MaskPrompt]
    ) -> dict[int, FrameOutput]:
        outputs = {}
        for obj_id, prompt in prompts.items():
            if isinstance(prompt, Points):
                output = self._tracker.prompt_points(
                    features, prompt, previous=None, memory=None, num_frames=self._length()
                )
            else:
                output = self._tracker.prompt_mask(features, prompt)
            self._tracker.remember(features, output)
            outputs[obj_id] = output
        return outputs

    def _track(
        self, features: Features, prompts: Mapping[int, Points | MaskPrompt]
    ) -> dict[int, FrameOutput]:
        waiting = {i: o for i, o in self.items.items() if i not in prompts}
        if not waiting:
            return {}
        tracked = [TrackedObject(o.key, o.history) for o in waiting.values()]
        outputs = self._tracker.track(features, tracked, self.frame_idx, num_frames=self._length())
        return dict(zip(waiting, outputs, strict=True))

    def _length(self) -> int | None:
        """Of the video; a stream that outlives the length it was given has none."""
        known = self.num_frames is not None and self.frame_idx < self.num_frames
        return self.num_frames if known else None

    def _take_up(
        self, prompted: Mapping[int, FrameOutput], tracked: Mapping[int, FrameOutput]
    ) -> None:
        """Remember a frame all of whose work is done, and forget what no later one attends to."""
        for obj_id, output in prompted.items():
            self.items[obj_id].history.cond[self.frame_idx] = output
            self.items[obj_id].drop_prompts()
        for obj_id, output in tracked.items():
            self.items[obj_id].history.non_cond[self.frame_idx] = output
        most = self._tracker.options.max_cond_frames_in_attn
        for item in self.items.values():
            item.history.forget_unreachable(self._tracker.config, self.frame_idx + 1, most)

    def _object(self, obj_id: int) -> StreamObject:
        if obj_id not in self.items:
            self.items[obj_id] = StreamObject(self._next_key)
            self._next_key += 1
        return self.items[obj_id]
