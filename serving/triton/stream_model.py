"""The model ``sam2rt_stream``: a sequence of the server is a session, a request is a frame."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from contextlib import ExitStack
from typing import Any

from ...configs.errors import FrameError, InputError, Sam2rtError
from ...runtime.arrays import Array
from ...runtime.predictors.stream import StreamTracker
from ..sessions.limits import ServerLimits
from .clip import prompt_tracker
from .model import Gauges, ServedModel
from .prompts import check_count, read_stream_prompts
from .streams import SequenceStream, StreamTable
from .tensors import (
    FRAME_INPUTS,
    Inputs,
    frame_of,
    no_frame_outputs,
    required_frame,
    stream_outputs,
    text_of,
)

#: flags of a request, as the server counts them
_START, _END = 1, 2
#: a control of the server: 0 for a slot that it fills with rubbish
READY = "READY"
#: seconds between two looks for sessions whose time is over, at most
_LOOK = 5.0


class ServedStreamModel(ServedModel):
    """Masks of a :class:`~sam2rt.StreamTracker` a sequence; all share the instance's bundle."""

    inputs = (*FRAME_INPUTS, READY)

    def opened(self, stack: ExitStack, arguments: Mapping[str, str]) -> None:
        limits = self.settings.limits
        self.streams = StreamTable(self._tracker, limits.idle_seconds, limits.sessions)
        stack.callback(lambda: self.model.run(self.streams.close))
        labels = {"model": self.name, "instance": arguments.get("model_instance_name", "")}
        self._gauges = Gauges(
            self.server,
            labels,
            {
                "sam2rt_triton_sessions": ("Open sessions.", lambda: len(self.streams)),
                "sam2rt_triton_expired": ("Sessions left idle.", lambda: self.streams.expired),
            },
        )
        ended = threading.Event()
        looking = threading.Thread(target=self._look, args=(ended,), daemon=True)
        looking.start()
        stack.callback(looking.join)
        stack.callback(ended.set)

    def answer(self, request: Any, inputs: Inputs) -> dict[str, Array]:
        ready = inputs.get(READY)
        if ready is not None and not ready.any():
            # a strategy that runs unused slots, with whatever sequence id lies there
            raise InputError("the request is a filler of the server: it has no session")
        flags, sequence = request.flags(), request.correlation_id()
        start, end = bool(flags & _START), bool(flags & _END)

        def work(stream: SequenceStream) -> dict[str, Array]:
            return stepped(stream, inputs, end, self.settings.limits)

        try:
            return self.model.run(lambda: self.streams.step(sequence, start, end, work))
        finally:
            self._gauges.update()

    def _tracker(self) -> StreamTracker:
        return StreamTracker(self.model.bundle, session=self.model.session)

    def _look(self, ended: threading.Event) -> None:
        """End sessions as time passes: a client that is gone sends nothing that would."""
        while not ended.wait(min(_LOOK, self.settings.limits.idle_seconds / 4)):
            try:
                self.model.run(self.streams.expire, urgent=True)
                self._gauges.update()
            except Sam2rtError:
                return


def stepped(
    stream: SequenceStream, inputs: Inputs, end: bool, limits: ServerLimits
) -> dict[str, Array]:
    """The outputs of one frame of a session; of a last request without a frame, those of none.

    Prompts and ids to forget are taken as a whole or not at all. Raises InputError, FrameError.
    """
    prompts, removed = read_stream_prompts(text_of(inputs, "PROMPTS"))
    if end and not prompts and frame_of(inputs, limits) is None:
        return no_frame_outputs()
    frame = required_frame(inputs, limits)
    size = frame.shape[0], frame.shape[1]
    if stream.size not in (None, size):
        raise FrameError(
            f"the frame is {size[1]} x {size[0]}, earlier ones were {stream.size[1]} x "
            f"{stream.size[0]}: resize it, or begin another sequence"
        )
    tracker = stream.tracker
    known = set(tracker.obj_ids)
    for obj_id in removed:
        if obj_id not in known:
            raise InputError(f"PROMPTS, remove: object {obj_id} is not tracked: leave it out")
    check_count(known - set(removed) | {prompt.obj_id for prompt in prompts}, limits.objects)
    image_size = tracker.config.image_size
    checked = {prompt.obj_id: prompt.checked(size, image_size) for prompt in prompts}
    for obj_id in set(removed):
        tracker.remove_object(obj_id)
    prompt_tracker(tracker, {tracker.frame_idx: checked}, tracker.frame_idx)
    result = tracker.step(frame)
    stream.size = size
    return stream_outputs(result, result.frame_idx)
