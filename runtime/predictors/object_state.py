"""One object on its own: prompted, stepped with frames encoded elsewhere, saved and loaded.

For those who own the loop: labelling tools with one state per shape, servers with many clients,
anything that moves work between processes. :class:`~sam2rt.StreamTracker` does the same work for
many objects at once.
"""

from __future__ import annotations

import os
from typing import Any, TypeVar

from ...configs.bundle import Bundle
from ...configs.checks import shown
from ...configs.errors import InputError, StateError
from ..arrays import Logits
from ..bank import FrameOutput
from ..session import Session
from ..tracking.encoded import EncodedFrame
from ..tracking.object_file import SavedObject, read_object, write_object
from ..tracking.stream_objects import StreamObject, StreamObjects
from ..tracking.tracker import Tracker, TrackerOptions
from .predictor import Predictor, alone
from .stream_result import StreamResult, low_res_logits, stream_result

S = TypeVar("S", bound="ObjectState")
#: the one object's id, in results too
_ID = 1


class ObjectState(Predictor):
    """What is known of one object, and where it was last seen.

    A prompt applies to the next frame stepped. Options and results are those of
    :class:`~sam2rt.StreamTracker` with one object, bit for bit; the id in results is 1.
    One thread at a time may be in a method, another one gets a StateError.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: str = "onnxruntime",
        device: str = "cpu",
        threads: int | None = None,
        *,
        max_cond_frames_in_attn: int = -1,
        apply_postprocessing: bool = True,
        fill_hole_area: int | None = None,
        memory_dtype: str | None = None,
        session: Session | None = None,
    ) -> None:
        super().__init__(bundle, backend, device, threads, session)
        self._options = {
            "max_cond_frames_in_attn": max_cond_frames_in_attn,
            "apply_postprocessing": bool(apply_postprocessing),
            "fill_hole_area": fill_hole_area,
            "memory_dtype": memory_dtype,
        }
        options = TrackerOptions.of(
            fill_hole_area,
            apply_postprocessing,
            max_cond_frames_in_attn=max_cond_frames_in_attn,
            memory_dtype=memory_dtype,
            forward_only=True,
        )
        self._objects = StreamObjects(Tracker(self.session, options), None)

    @property
    def frame_idx(self) -> int:
        """Index of the next frame stepped."""
        return self._objects.frame_idx

    @property
    def frame_size(self) -> tuple[int, int] | None:
        """(height, width) of the frames, pixels; None before the first one."""
        return self._objects.frame_size

    @alone
    def add_points(
        self,
        points: Any | None = None,
        labels: Any | None = None,
        *,
        box: Any | None = None,
        clear_old_points: bool = True,
        normalize_coords: bool = True,
    ) -> None:
        """Prompt the object on the next frame: clicks [P, 2], labels [P], a box [4], or both.

        Coordinates and errors: see :meth:`StreamTracker.add_points`.
        """
        self._open_still()
        self._objects.add_points(
            _ID,
            points,
            labels,
            box=box,
            clear_old_points=clear_old_points,
            normalize_coords=normalize_coords,
        )

    @alone
    def add_mask(self, mask: Any) -> None:
        """Prompt the object on the next frame with a mask [H, W] of the whole frame.

        What is taken and refused: see :meth:`StreamTracker.add_mask`.
        """
        self._open_still()
        self._objects.add_mask(_ID, mask)

    @alone
    def skip_to(self, frame_idx: int) -> None:
        """Count the next frame stepped as `frame_idx`; InputError for one before the next."""
        self._objects.skip_to(frame_idx)

    @alone
    def step(self, frame: EncodedFrame) -> StreamResult:
        """Segment or track the object on a frame that :class:`~sam2rt.FrameEncoder` encoded.

        The features may serve other states too, and are left as they are. Raises StateError
        without any prompt so far, FrameError for another size than earlier frames had, InputError
        for no encoded frame, one of another bundle, and a prompt that does not fit the frame,
        which is dropped. After any error the state is what it was.
        """
        self._open_still()
        if not isinstance(frame, EncodedFrame):
            raise InputError(f"frame is {shown(frame)}: expected what FrameEncoder.encode gives")
        frame.check_bundle(self.bundle)
        if not self._objects.items:
            raise StateError("the object was never prompted: add points, a box or a mask first")

        def low_res(outputs: list[FrameOutput]) -> Logits:
            return low_res_logits(self.session, outputs, frame.size, True)

        def result(outputs: list[FrameOutput], logits: Logits) -> StreamResult:
            return stream_result(self.frame_idx, [_ID], outputs, logits, frame.size, True)

        return self._objects.step(frame.size, lambda: frame.features, low_res, result)

    @alone
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the state to a file that :meth:`load` takes, on any backend of the same bundle.

        The file, ``.npz``, is written as a whole or not at all. Raises StateError before the first
        frame and while a prompt waits, InputError for a place that cannot be written.
        """
        self._open_still()
        item = self._objects.items.get(_ID)
        if item is None or item.prompted or self.frame_size is None:
            raise StateError("a state is saved between frames: step a prompted frame first")
        header = {
            "bundle": self.bundle.digest,
            "options": self._options,
            "frame_idx": self.frame_idx,
            "frame_size": list(self.frame_size),
        }
        write_object(path, SavedObject(header, item.history))

    @classmethod
    def load(
        cls: type[S],
        path: str | os.PathLike[str],
        bundle: Bundle,
        backend: str = "onnxruntime",
        device: str = "cpu",
        threads: int | None = None,
        *,
        session: Session | None = None,
    ) -> S:
        """The state that :meth:`save` wrote, with its options; later frames give the same bits.

        Raises InputError, in one line, for a file that is missing, damaged, or of another bundle.
        """
        saved = read_object(path, bundle.model, bundle.digest)
        try:
            options = dict(saved.header["options"])
            state = cls(bundle, backend, device, threads, session=session, **options)
        except (TypeError, ValueError) as error:
            raise InputError(
                f"{path} is no state of an object, or damaged ({error}): prompt the object again"
            ) from None
        state._objects.items[_ID] = StreamObject(0, saved.history)
        state._objects.skip_to(saved.header["frame_idx"])
        height, width = saved.header["frame_size"]
        state._objects.frame_size = (height, width)
        return state
