"""Live video: push frames one by one, memory bounded for ever.

The same core as propagation through a file, and the same bits: only what later attention can
reach is kept, which is constant per object after seven frames (pointers after sixteen).
"""

from __future__ import annotations

from typing import Any

from ...configs.bundle import Bundle
from ...configs.checks import whole_number
from ..arrays import Logits
from ..bank import FrameOutput, ObjectHistory
from ..session import Session
from ..tracking.encoded import EncodedFrame
from ..tracking.prefetch import check_prefetch
from ..tracking.stream_objects import StreamObjects
from ..tracking.tracker import Points, Tracker, TrackerOptions
from .encoder import FrameEncoder
from .predictor import Predictor, alone
from .stream_result import StreamResult, low_res_logits, stream_result


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
        options = TrackerOptions.of(
            fill_hole_area,
            apply_postprocessing,
            max_cond_frames_in_attn=max_cond_frames_in_attn,
            memory_dtype=memory_dtype,
            objects_per_call=objects_per_call,
            forward_only=True,
        )
        self._tracker = Tracker(self.session, options)
        self._encoder = FrameEncoder(bundle, session=self.session)
        self._objects = StreamObjects(self._tracker, num_frames)

    @property
    def obj_ids(self) -> list[int]:
        """Ids of the objects, in the order in which they were added."""
        return list(self._objects.items)

    @property
    def frame_idx(self) -> int:
        """Index of the next frame pushed."""
        return self._objects.frame_idx

    @property
    def num_frames(self) -> int | None:
        """The stream's length, if it was told."""
        return self._objects.num_frames

    @property
    def histories(self) -> dict[int, ObjectHistory]:
        """What is remembered of each object, by id: the tracker's own, so look and do not keep.

        Outputs put in or taken out count from the next frame on, which is for measurements that
        need a certain state; tracking needs no such help.
        """
        return {obj_id: item.history for obj_id, item in self._objects.items.items()}

    @alone
    def skip_to(self, frame_idx: int) -> None:
        """Count the next frame pushed as `frame_idx`: those between were lost on the way.

        Distances in time are then what they were in front of the camera. Raises InputError for
        an index before the next one; use :meth:`reset` to start again.
        """
        self._objects.skip_to(frame_idx)

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
        self._objects.add_points(
            obj_id,
            points,
            labels,
            box=box,
            clear_old_points=clear_old_points,
            normalize_coords=normalize_coords,
        )

    @alone
    def add_prompt(self, obj_id: int, prompt: Points) -> None:
        """Prompt an object on the next frame with points that were checked before.

        prompt: model-input pixels, as :func:`points_from` makes them for frames of this size.
        """
        self._open_still()
        self._objects.add_prompt(whole_number("obj_id", obj_id), prompt, clear_old_points=True)

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
        self._objects.add_mask(obj_id, mask)

    @alone
    def remove_object(self, obj_id: int, strict: bool = False) -> list[int]:
        """Forget an object; gives the remaining ids. An unknown id is an InputError if strict."""
        self._objects.remove(obj_id, strict)
        return self.obj_ids

    @alone
    def reset(self) -> None:
        """Forget all objects and start at frame 0, perhaps with frames of another size."""
        self._objects.reset()

    def encoded(self, frame: Any) -> EncodedFrame:
        """Encode a frame for a later :meth:`step`; any thread may, while frames are tracked.

        Raises FrameError for a frame that cannot be used, InputError for a session that has one
        queue on a GPU.
        """
        self._open_still()
        check_prefetch(self.session)
        return self._encoder.encode(frame)

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
        if isinstance(frame, EncodedFrame):
            frame.check_bundle(self.bundle)
            size, encode = frame.size, lambda: frame.features
        else:
            rgb, size = self._encoder.checked(frame)
            encode = lambda: self._encoder.features(rgb)

        overlap = not self.non_overlap_masks

        def low_res(outputs: list[FrameOutput]) -> Logits:
            return low_res_logits(self.session, outputs, size, overlap)

        def result(outputs: list[FrameOutput], logits: Logits) -> StreamResult:
            return stream_result(self.frame_idx, self.obj_ids, outputs, logits, size, overlap)

        return self._objects.step(size, encode, low_res, result)
