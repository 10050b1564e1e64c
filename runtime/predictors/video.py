"""Interactive segmentation of a video: the original's SAM2VideoPredictor, numpy in and out.

Keeps the outputs of every frame, as the original does, so that any frame can be refined and
propagated again; that costs (4h x 4h + c x h x w) numbers per object and frame. For endless
video use :class:`~sam2rt.runtime.predictors.stream.StreamTracker`.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import numpy as np

from ...configs.bundle import Bundle
from ...configs.checks import shown, whole_number
from ...configs.errors import FrameError, InputError, StateError
from ..arrays import Frame, Logits, MaskPrompt
from ..bank import Selection, select
from ..media.open import open_frames
from ..pixels.mask_output import frame_logits
from ..session import Session
from ..tracking.prefetch import check_prefetch, prefetched_features
from ..tracking.prompts import given, joined, mask_from, points_from
from ..tracking.tracker import (
    NO_OBJECT_LOGIT,
    Features,
    Points,
    TrackedObject,
    Tracker,
    TrackerOptions,
)
from ..tracking.video_object import VideoObject
from .encoder import FrameEncoder
from .frame_order import frame_index, propagation_order, readable
from .predictor import Predictor, alone, steps_alone
from .stream_result import without_overlap
from .video_state import VideoState

#: frame index, object ids, mask logits [N, 1, H, W] float32 at video resolution, which stay on
#: the GPU where the session has kernels for them (mask_output.FrameLogits)
FrameResult = tuple[int, list[int], Logits]


class VideoPredictor(Predictor):
    """Segments and tracks objects through a video from points, boxes and masks.

    Method and argument names, defaults and return shapes are the original's. One thread at a time
    may be in a method, another one gets a StateError. Options:
    non_overlap_masks: each pixel belongs to one object at most (output only).
    add_all_frames_to_correct_as_cond: a corrected frame becomes a prompted one; without it a
    later propagation that passes over the frame recomputes it and the correction is lost.
    clear_non_cond_mem_around_input: what was tracked around a prompted frame, of old knowledge, is
    forgotten when propagation takes the prompt up or passes it; so is a correction that is no
    prompted frame, hence give the option before it too.
    apply_postprocessing: False leaves out what the original's builder adds, see TrackerOptions.
    fill_hole_area: None for the builder's: 8 low-resolution pixels, 0 without apply_postprocessing.
    prefetch: propagation encodes later frames while it tracks one; the same masks, and the
    first of them later. Not on a caller's CUDA stream.
    Others: see :class:`~sam2rt.runtime.tracking.tracker.TrackerOptions`.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: str = "onnxruntime",
        device: str = "cpu",
        threads: int | None = None,
        *,
        non_overlap_masks: bool = False,
        clear_non_cond_mem_around_input: bool = False,
        add_all_frames_to_correct_as_cond: bool = False,
        apply_postprocessing: bool = True,
        max_cond_frames_in_attn: int = -1,
        fill_hole_area: int | None = None,
        memory_dtype: str | None = None,
        objects_per_call: int | None = None,
        prefetch: bool = False,
        session: Session | None = None,
    ) -> None:
        super().__init__(bundle, backend, device, threads, session)
        self.non_overlap_masks = non_overlap_masks
        self.add_all_frames_to_correct_as_cond = add_all_frames_to_correct_as_cond
        self.clear_non_cond_mem_around_input = clear_non_cond_mem_around_input
        options = TrackerOptions.of(
            fill_hole_area,
            apply_postprocessing,
            max_cond_frames_in_attn=max_cond_frames_in_attn,
            memory_dtype=memory_dtype,
            objects_per_call=objects_per_call,
        )
        self.fill_hole_area = options.fill_hole_area
        self._tracker = Tracker(self.session, options)
        self._encoder = FrameEncoder(bundle, session=self.session)
        self.prefetch = prefetch

    def init_state(
        self,
        video_path: Any,
        offload_video_to_cpu: bool = False,
        offload_state_to_cpu: bool = False,
        async_loading_frames: bool = False,
    ) -> VideoState:
        """Open a video: a file, a folder of images, an array [T, H, W, 3], any iterable of frames.

        Or what :func:`~sam2rt.open_frames` gives, whose `on_error` says what becomes of frames
        that cannot be read: with "skip" propagation leaves them out. Frames are read lazily; the
        three loading keywords are accepted for compatibility and change nothing. Raises
        FrameError when there is nothing to read.
        """
        self._open_still()
        return VideoState(open_frames(video_path))

    @alone
    def add_new_points_or_box(
        self,
        inference_state: VideoState,
        frame_idx: int,
        obj_id: int,
        points: Any | None = None,
        labels: Any | None = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
        box: Any | None = None,
    ) -> FrameResult:
        """Prompt an object on a frame with clicks [P, 2], labels [P], a box [4], or both.

        Coordinates are video pixels (fractions 0..1 with normalize_coords False); empty arrays
        count as none. Returns the frame's result for all objects. A correction on a frame that
        was tracked already feeds the earlier mask back; see add_all_frames_to_correct_as_cond
        for whether it lasts.
        Raises InputError; the state is unchanged then.
        """
        frame_idx, obj_id = self._checked(inference_state, frame_idx, obj_id)
        if given(box) is not None and not clear_old_points:
            raise InputError(
                "a box must come before any click on its frame: use clear_old_points=True"
            )
        size = inference_state.frame_size if normalize_coords else None
        new = points_from(points, labels, box, frame_size=size, image_size=self.config.image_size)
        if not clear_old_points and (item := inference_state.objects.get(obj_id)):
            new = joined(item.points.get(frame_idx), new)
        return self._prompted(inference_state, frame_idx, obj_id, new)

    def add_new_points(self, *args: Any, **kwargs: Any) -> FrameResult:
        """The original's older name of :meth:`add_new_points_or_box`."""
        return self.add_new_points_or_box(*args, **kwargs)

    @alone
    def add_new_mask(
        self, inference_state: VideoState, frame_idx: int, obj_id: int, mask: Any
    ) -> FrameResult:
        """Prompt an object on a frame with a mask [H, W] of the whole frame, as a rule of its size.

        bool, or 0 with 1 or 255 of any type. A mask of another size, such as a low-resolution one,
        is stretched over the frame. Raises InputError for other values, and for a mask that lies on
        its side.
        """
        frame_idx, obj_id = self._checked(inference_state, frame_idx, obj_id)
        pixels = mask_from(mask, inference_state.frame_size, self.config.image_size)
        return self._prompted(inference_state, frame_idx, obj_id, pixels)

    @alone
    def propagate_in_video_preflight(self, inference_state: VideoState) -> None:
        """Take up all new prompts: encode their memories. Called by propagate_in_video.

        Raises StateError when there is no object, or an object without any prompt.
        """
        state = inference_state
        self._check_state(state)
        if not state.objects:
            raise StateError("no object to track: add points, a box or a mask first")
        for obj_id, item in state.objects.items():
            if not item.has_prompt:
                raise StateError(
                    f"object {obj_id} has no prompt: add points, a box or a mask, or remove it"
                )
        waiting = [pair for item in state.objects.values() for pair in item.without_memory()]
        # objects with prompts on one frame share its features
        for frame_idx, output in sorted(waiting, key=lambda pair: pair[0]):
            self._tracker.remember(self._features(state, frame_idx), output)
        for item in state.objects.values():
            for frame_idx in item.take_up():
                self._clear_around(item, frame_idx)

    @steps_alone
    def propagate_in_video(
        self,
        inference_state: VideoState,
        start_frame_idx: int | None = None,
        max_frame_num_to_track: int | None = None,
        reverse: bool = False,
    ) -> Iterator[FrameResult]:
        """Track all objects from start_frame_idx (the first prompted frame if None).

        Yields max_frame_num_to_track + 1 frames at most (all if None), as the original does.
        Prompts may be added and objects removed between two frames; they count from the next.
        Once the last object is removed, frames come without objects and cost no inference.
        """
        state = inference_state
        self.propagate_in_video_preflight(state)
        edits = state.edits
        if start_frame_idx is None:
            start_frame_idx = min(t for o in state.objects.values() for t in o.history.cond)
        order = propagation_order(
            start_frame_idx, max_frame_num_to_track, reverse, state.num_frames
        )
        for frame_idx in self._with_features(state, order):
            if state.edits != edits:
                if state.objects:
                    self.propagate_in_video_preflight(state)
                edits = state.edits
            try:
                self._track_frame(state, frame_idx, reverse)
            except FrameError:
                if state.frames.on_error != "skip":
                    raise
                continue
            yield self._result(state, frame_idx, cond_first=True)

    @alone
    def clear_all_prompts_in_frame(
        self, inference_state: VideoState, frame_idx: int, obj_id: int, need_output: bool = True
    ) -> FrameResult | None:
        """Remove an object's prompts on a frame; a result there stays as a tracked one."""
        frame_idx, obj_id = self._checked(inference_state, frame_idx, obj_id)
        item = self._known(inference_state, obj_id)
        item.clear(frame_idx)
        inference_state.edits += 1
        return self._result(inference_state, frame_idx) if need_output else None

    @alone
    def remove_object(
        self,
        inference_state: VideoState,
        obj_id: int,
        strict: bool = False,
        need_output: bool = True,
    ) -> tuple[list[int], list[tuple[int, Logits]]]:
        """Forget an object; the others are untouched.

        Returns the remaining ids and, for each frame the object had prompts on, the frame index
        and the others' mask logits [N, 1, H, W]. An unknown id is an InputError if strict.
        """
        state, obj_id = inference_state, whole_number("obj_id", obj_id)
        self._check_state(state)
        if obj_id not in state.objects and not strict:
            return state.obj_ids, []
        item = self._known(state, obj_id)
        del state.objects[obj_id]
        state.edits += 1
        if not state.objects:
            self.reset_state(state)
            return [], []
        frames = sorted(item.points.keys() | item.masks)
        updated = [(t, self._result(state, t)[2]) for t in frames] if need_output else []
        return state.obj_ids, updated

    @alone
    def reset_state(self, inference_state: VideoState) -> None:
        """Forget all objects and prompts; the video stays open."""
        self._check_state(inference_state)
        inference_state.objects.clear()
        inference_state.edits += 1
        self._tracker.release()

    def _prompted(
        self, state: VideoState, frame_idx: int, obj_id: int, prompt: Points | MaskPrompt
    ) -> FrameResult:
        """Segment an object from its prompt on a frame, and give the frame's result."""
        item = state.objects.get(obj_id) or VideoObject()
        # without a prompted frame left there is no memory that a correction could start from
        first_time = frame_idx not in item.tracked or not item.history.cond
        as_cond = first_time or self.add_all_frames_to_correct_as_cond
        features = self._features(state, frame_idx)
        if isinstance(prompt, np.ndarray):
            output = self._tracker.prompt_mask(features, prompt)
        else:
            output = self._tracker.prompt_points(
                features,
                prompt,
                previous=item.result(frame_idx, as_cond),
                memory=None if first_time else self._selection(state, frame_idx, item),
                num_frames=state.num_frames,
            )
        output.check(frame_idx, obj_id)
        # nothing can fail any more: the state changes as a whole
        state.objects[obj_id] = item
        item.points.pop(frame_idx, None)
        item.masks.discard(frame_idx)
        if isinstance(prompt, np.ndarray):
            item.masks.add(frame_idx)
        else:
            item.points[frame_idx] = prompt
        fresh = item.fresh.cond if as_cond else item.fresh.non_cond
        fresh[frame_idx] = output
        state.edits += 1
        return self._result(state, frame_idx, cond_first=as_cond)

    def _selection(self, state: VideoState, frame_idx: int, item: VideoObject) -> Selection:
        return select(
            item.history,
            frame_idx,
            self.config,
            reverse=item.tracked[frame_idx],
            num_frames=state.num_frames,
            max_cond=self._tracker.options.max_cond_frames_in_attn,
        )

    def _track_frame(self, state: VideoState, frame_idx: int, reverse: bool) -> None:
        waiting = {i: o for i, o in state.objects.items() if frame_idx not in o.history.cond}
        if waiting:
            outputs = self._tracker.track(
                self._features(state, frame_idx),
                [TrackedObject(o.key, o.history) for o in waiting.values()],
                frame_idx,
                reverse=reverse,
                num_frames=state.num_frames,
            )
            for obj_id, output in zip(waiting, outputs, strict=True):
                output.check(frame_idx, obj_id)
            for item, output in zip(waiting.values(), outputs, strict=True):
                item.history.non_cond[frame_idx] = output
        for obj_id, item in state.objects.items():
            if obj_id not in waiting:
                self._clear_around(item, frame_idx)
            item.tracked[frame_idx] = reverse

    def _clear_around(self, item: VideoObject, frame_idx: int) -> None:
        if self.clear_non_cond_mem_around_input:
            item.forget_around(frame_idx, self.config.num_maskmem)

    def _result(
        self, state: VideoState, frame_idx: int, cond_first: bool | None = None
    ) -> FrameResult:
        objects = state.objects.values()
        if cond_first is None:
            cond_first = any(frame_idx in o.fresh.cond for o in objects)
        results = [item.result(frame_idx, cond_first) for item in objects]
        low = [None if output is None else output.mask_logits for output in results]
        side = self.config.mask_size
        absent = np.full((1, side, side), NO_OBJECT_LOGIT, np.float32)
        logits = frame_logits(self.session, low, state.frame_size, absent)
        if self.non_overlap_masks:
            logits = without_overlap(logits)
        return frame_idx, state.obj_ids, logits

    def _features(self, state: VideoState, frame_idx: int) -> Features:
        if state.features is None or state.features[0] != frame_idx:
            state.features = frame_idx, self._encoder.encode(state.frames.read(frame_idx)).features
        return state.features[1]

    def _with_features(self, state: VideoState, order: range) -> Iterator[int]:
        """The frames of a propagation; with `prefetch` their features come from a thread."""
        if not self.prefetch:
            yield from order
            return
        check_prefetch(self.session)
        # those of the frame that was prompted last, as a rule the first one
        known, made = state.features or (-1, None)

        def encode(pair: tuple[int, Frame]) -> Features:
            return (
                made
                if made is not None and pair[0] == known
                else self._encoder.encode(pair[1]).features
            )

        frames = readable(state.frames, order)
        with closing(prefetched_features(encode, frames, self.session.leave_thread)) as pairs:
            for (frame_idx, _), features in pairs:
                state.features = frame_idx, features
                yield frame_idx

    def _checked(self, state: VideoState, frame_idx: Any, obj_id: Any) -> tuple[int, int]:
        self._check_state(state)
        index = frame_index("frame_idx", frame_idx, state.num_frames)
        return index, whole_number("obj_id", obj_id)

    def _check_state(self, state: Any) -> None:
        self._open_still()
        if not isinstance(state, VideoState):
            raise InputError(f"inference_state is {shown(state)}: expected what init_state gives")

    @staticmethod
    def _known(state: VideoState, obj_id: int) -> VideoObject:
        try:
            return state.objects[obj_id]
        except KeyError:
            raise InputError(f"no object {obj_id}: the objects are {state.obj_ids}") from None
