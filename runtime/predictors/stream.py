"""Live video: push frames one by one, memory bounded for ever.

The same core as propagation through a file, and the same bits: only what later attention can
reach is kept, which is constant per object after seven frames (pointers after sixteen).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

import numpy as np

from ...configs.bundle import Bundle
from ...configs.checks import whole_number
from ...configs.errors import FrameError, InputError
from ..arrays import Logits, MaskPrompt
from ..bank import FrameOutput, ObjectHistory
from ..gpu.tensor import DeviceTensor
from ..pixels.frame_input import FrameInput
from ..pixels.mask_output import FrameLogits, frame_logits
from ..session import Session
from ..tracking.prefetch import EncodedFrame, check_prefetch
from ..tracking.prompts import Clicks, clicks_from, given, joined, mask_array, mask_from
from ..tracking.tracker import Features, Points, TrackedObject, Tracker, TrackerOptions
from .predictor import Predictor, alone
from .stream_result import StreamResult


@dataclass
class _StreamObject:
    key: int
    history: ObjectHistory = field(default_factory=ObjectHistory)
    #: prompts for the next frame; clicks until its size is known
    points: list[Clicks | Points] = field(default_factory=list)
    mask: Any | None = None

    @property
    def prompted(self) -> bool:
        return bool(self.points) or self.mask is not None

    def drop_prompts(self) -> None:
        self.points, self.mask = [], None


class StreamTracker(Predictor):
    """Segments and tracks objects through frames as they come.

    Prompts apply to the next frame pushed; objects may come and go at any time. A prompt makes
    its frame a prompted frame, kept for ever unless max_cond_frames_in_attn caps how many count:
    then older ones are dropped. num_frames, if the length is known, makes short clips (under 16
    frames) equal to :class:`VideoPredictor`, whose pointer distances are scaled by the length.
    apply_postprocessing and fill_hole_area: as there.
    One thread at a time may be in a method, :meth:`encoded` apart; another one gets a StateError. A
    session may be shared by many trackers.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: str = "onnxruntime",
        device: str = "cpu",
        threads: int | None = None,
        *,
        non_overlap_masks: bool = False,
        max_cond_frames_in_attn: int = -1,
        apply_postprocessing: bool = True,
        fill_hole_area: int | None = None,
        memory_dtype: str | None = None,
        objects_per_call: int | None = None,
        num_frames: int | None = None,
        session: Session | None = None,
    ) -> None:
        if num_frames is not None:
            num_frames = whole_number("num_frames", num_frames, 1, ", or None for a live stream")
        super().__init__(bundle, backend, device, threads, session)
        self.non_overlap_masks = non_overlap_masks
        self.num_frames = num_frames
        options = TrackerOptions.of(
            fill_hole_area,
            apply_postprocessing,
            max_cond_frames_in_attn=max_cond_frames_in_attn,
            memory_dtype=memory_dtype,
            objects_per_call=objects_per_call,
            forward_only=True,
        )
        self._tracker = Tracker(self.session, options)
        self._input = FrameInput(self.session, self.config.image_size)
        self._objects: dict[int, _StreamObject] = {}
        self._next_key = 0
        self._frame_idx = 0
        self._frame_size: tuple[int, int] | None = None
        self._absent = np.zeros((1, self.config.mask_size, self.config.mask_size), np.float32)

    @property
    def obj_ids(self) -> list[int]:
        """Ids of the objects, in the order in which they were added."""
        return list(self._objects)

    @property
    def frame_idx(self) -> int:
        """Index of the next frame pushed."""
        return self._frame_idx

    @property
    def histories(self) -> dict[int, ObjectHistory]:
        """What is remembered of each object, by id: the tracker's own, so look and do not keep.

        Outputs put in or taken out count from the next frame on, which is for measurements that
        need a certain state; tracking needs no such help.
        """
        return {obj_id: item.history for obj_id, item in self._objects.items()}

    @alone
    def skip_to(self, frame_idx: int) -> None:
        """Count the next frame pushed as `frame_idx`: those between were lost on the way.

        Distances in time are then what they were in front of the camera. Raises InputError for
        an index before the next one; use :meth:`reset` to start again.
        """
        index = whole_number("frame_idx", frame_idx)
        if index < self._frame_idx:
            raise InputError(f"frame {index}: the next frame is {self._frame_idx}, use reset()")
        self._frame_idx = index

    @alone
    def add_points(
        self,
        obj_id: int,
        points: Any | None = None,
        labels: Any | None = None,
        *,
        box: Any | None = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
    ) -> None:
        """Prompt an object on the next frame: clicks [P, 2], labels [P], a box [4], or both.

        Coordinates are pixels of the frame (fractions 0..1 with normalize_coords False); empty
        arrays count as none. An unknown id starts a new object. What can be checked before the
        frame is known is checked now (InputError), the rest when it is pushed. Clicks given one
        by one are segmented together: only :class:`VideoPredictor` feeds the mask of one click
        back to the next.
        """
        self._open_still()
        obj_id = whole_number("obj_id", obj_id)
        if given(box) is not None and not clear_old_points:
            raise InputError("a box must come before any click: use clear_old_points=True")
        size = (self._frame_size or _ANY_SIZE) if normalize_coords else None
        clicks = clicks_from(points, labels, box, frame_size=size)
        waits = size is _ANY_SIZE
        prompt = clicks if waits else clicks.scaled(size, self.config.image_size)
        self._add(obj_id, prompt, clear_old_points)

    @alone
    def add_prompt(self, obj_id: int, prompt: Points) -> None:
        """Prompt an object on the next frame with points that were checked before.

        prompt: model-input pixels, as :func:`points_from` makes them for frames of this size.
        """
        self._open_still()
        self._add(whole_number("obj_id", obj_id), prompt, clear_old_points=True)

    def _add(self, obj_id: int, prompt: Clicks | Points, clear_old_points: bool) -> None:
        item = self._object(obj_id)
        if clear_old_points:
            item.points.clear()
        item.points.append(prompt)
        item.mask = None

    def add_box(self, obj_id: int, box: Any) -> None:
        """Prompt an object on the next frame with a box x0, y0, x1, y1 in pixels."""
        self.add_points(obj_id, box=box)

    @alone
    def add_mask(self, obj_id: int, mask: Any) -> None:
        """Prompt an object on the next frame with a mask [H, W] of the whole frame.

        What is taken and refused: see :meth:`VideoPredictor.add_new_mask`; on its side a mask may
        be noticed only when the first frame is pushed.
        """
        self._open_still()
        obj_id, mask = whole_number("obj_id", obj_id), mask_array(mask)
        mask_from(mask, self._frame_size or mask.shape, 64)
        item = self._object(obj_id)
        item.points.clear()
        item.mask = np.array(mask)

    @alone
    def remove_object(self, obj_id: int, strict: bool = False) -> list[int]:
        """Forget an object; gives the remaining ids. An unknown id is an InputError if strict."""
        obj_id = whole_number("obj_id", obj_id)
        if obj_id not in self._objects and strict:
            raise InputError(f"no object {obj_id}: the objects are {self.obj_ids}")
        self._objects.pop(obj_id, None)
        if not self._objects:
            self._tracker.release()
        return self.obj_ids

    @alone
    def reset(self) -> None:
        """Forget all objects and start at frame 0, perhaps with frames of another size."""
        self._objects.clear()
        self._tracker.release()
        self._frame_idx = 0
        self._frame_size = None

    def encoded(self, frame: Any) -> EncodedFrame:
        """Encode a frame for a later :meth:`step`; any thread may, while frames are tracked.

        Raises FrameError for a frame that cannot be used, InputError for a session that has one
        queue on a GPU.
        """
        self._open_still()
        check_prefetch(self.session)
        rgb, size = self._input.checked(frame)
        with self.session.together():
            return EncodedFrame(size, self._encode(rgb))

    @alone
    def step(self, frame: Any) -> StreamResult:
        """Push one frame [H, W, 3] uint8 RGB, or one that was :meth:`encoded`; gives its result.

        The frame may lie on the GPU where the session runs there; see ``frame_input``.

        Without objects nothing is computed. Raises FrameError for a frame that cannot be used
        or has another size than the first, InputError for a prompt that does not fit the frame
        (the prompt is dropped); the tracker goes on with the next frame in each case. After any
        other error, or an interruption, nothing has changed: prompts wait for the next frame,
        which may be the same one again.
        """
        self._open_still()
        encoded = frame if isinstance(frame, EncodedFrame) else None
        rgb, size = (None, encoded.size) if encoded else self._input.checked(frame)
        if self._frame_size not in (None, size):
            raise FrameError(
                f"the frame is {size[1]} x {size[0]}, earlier ones were {self._frame_size[1]} x "
                f"{self._frame_size[0]}: resize it, or call reset() first"
            )
        prompts = self._pending_prompts(size)
        prompted: dict[int, FrameOutput] = {}
        tracked: dict[int, FrameOutput] = {}
        with self.session.together():
            if self._objects:
                features = encoded.features if encoded else self._encode(rgb)
                prompted = self._prompt(features, prompts)
                tracked = self._track(features, prompts)
            outputs = prompted | tracked
            logits = self._low_res(outputs, size)
        for obj_id, output in outputs.items():
            output.check(self._frame_idx, obj_id)
        result = self._result(outputs, logits, size)
        self._take_up(prompted, tracked)
        self._frame_size = size
        self._frame_idx += 1
        return result

    def _encode(self, rgb: Any) -> Features:
        return self._tracker.encode(self._input.tensor(rgb))

    def _pending_prompts(self, size: tuple[int, int]) -> dict[int, Points | MaskPrompt]:
        """The pending prompts in model pixels; one that does not fit is dropped and raised."""
        taken: dict[int, Points | MaskPrompt] = {}
        for obj_id, item in list(self._objects.items()):
            if not item.prompted:
                continue
            try:
                taken[obj_id] = self._resolve(item, size)
            except InputError:
                item.drop_prompts()
                if not item.history.cond:
                    del self._objects[obj_id]
                raise
        return taken

    def _resolve(self, item: _StreamObject, size: tuple[int, int]) -> Points | MaskPrompt:
        if item.mask is not None:
            return mask_from(item.mask, size, self.config.image_size)
        points = None
        for prompt in item.points:
            if isinstance(prompt, Clicks):
                prompt.check(size)
                prompt = prompt.scaled(size, self.config.image_size)
            points = joined(points, prompt)
        assert points is not None
        return points

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
        waiting = {i: o for i, o in self._objects.items() if i not in prompts}
        if not waiting:
            return {}
        tracked = [TrackedObject(o.key, o.history) for o in waiting.values()]
        outputs = self._tracker.track(features, tracked, self._frame_idx, num_frames=self._length())
        return dict(zip(waiting, outputs, strict=True))

    def _length(self) -> int | None:
        """Of the video; a stream that outlives the length it was given has none."""
        known = self.num_frames is not None and self._frame_idx < self.num_frames
        return self.num_frames if known else None

    def _take_up(
        self, prompted: Mapping[int, FrameOutput], tracked: Mapping[int, FrameOutput]
    ) -> None:
        """Remember a frame all of whose work is done, and forget what no later one attends to."""
        for obj_id, output in prompted.items():
            self._objects[obj_id].history.cond[self._frame_idx] = output
            self._objects[obj_id].drop_prompts()
        for obj_id, output in tracked.items():
            self._objects[obj_id].history.non_cond[self._frame_idx] = output
        self._forget()

    def _result(
        self, outputs: Mapping[int, FrameOutput], logits: Logits, size: tuple[int, int]
    ) -> StreamResult:
        ordered = [outputs[i] for i in self._objects]
        return StreamResult(
            frame_idx=self._frame_idx,
            obj_ids=self.obj_ids,
            object_scores=np.array([o.object_score for o in ordered], np.float32),
            ious=np.array([o.iou for o in ordered], np.float32),
            low_res_logits=logits,
            frame_size=size,
            non_overlap_masks=self.non_overlap_masks,
        )

    def _low_res(self, outputs: Mapping[int, FrameOutput], size: tuple[int, int]) -> Logits:
        """Logits [N, h, w]; on the GPU as a copy, since the session uses its tensors again."""
        side = self.config.mask_size
        low = [outputs[i].mask_logits for i in self._objects]
        on_gpu = any(isinstance(part, DeviceTensor) for part in low)
        # who owns a pixel is decided on the host
        if on_gpu and not self.non_overlap_masks:
            full = frame_logits(self.session, low, size, self._absent, axis=False)
            if isinstance(full, FrameLogits):
                return cast(Logits, full)
        planes = [np.asarray(part)[0] for part in low]
        return np.stack(planes) if planes else np.zeros((0, side, side), np.float32)

    def _forget(self) -> None:
        most = self._tracker.options.max_cond_frames_in_attn
        for item in self._objects.values():
            item.history.forget_unreachable(self.config, self._frame_idx + 1, most)

    def _object(self, obj_id: int) -> _StreamObject:
        if obj_id not in self._objects:
            self._objects[obj_id] = _StreamObject(self._next_key)
            self._next_key += 1
        return self._objects[obj_id]


#: before the first frame coordinates are checked against no size
_ANY_SIZE = (1 << 30, 1 << 30)
