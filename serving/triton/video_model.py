"""The model ``sam2rt_video``: a clip in, one response a frame, and no more once the client goes."""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from typing import Any

from ..sessions.limits import StoppingError, TooManyError
from .clip import tracked_clip
from .model import Gauges, ServedModel
from .prompts import read_prompts
from .settings import CLIPS, WAITING
from .tensors import VIDEO_INPUTS, stream_outputs, text_of


class ServedVideoModel(ServedModel):
    """Masks of ``sam2rt track``; a frame is a turn, so that clips at once move on together."""

    inputs = tuple(VIDEO_INPUTS)

    def opened(self, stack: ExitStack, arguments: Mapping[str, str]) -> None:
        self._stopping = threading.Event()
        self._changing = threading.Lock()
        #: clips in work or waiting, and frames sent since the start
        self.clips, self.frames = 0, 0
        self._gauges = Gauges(
            self.server,
            {"model": self.name, "instance": arguments.get("model_instance_name", "")},
            {
                "sam2rt_triton_clips": ("Clips in work or waiting.", lambda: self.clips),
                "sam2rt_triton_clip_frames": ("Frames of clips sent.", lambda: self.frames),
            },
        )
        self._pool = stack.enter_context(ThreadPoolExecutor(CLIPS, "sam2rt-clip"))
        stack.callback(self._stopping.set)

    def execute(self, requests: Sequence[Any]) -> None:
        """Begin each clip; its thread sends the responses."""
        for request in requests:
            sender = request.get_response_sender()
            try:
                # arrays of a request end with this call
                inputs = self.read(request)
                clip, prompts = text_of(inputs, "CLIP") or b"", text_of(inputs, "PROMPTS")
                self._enter()
            except Exception as error:
                self._end(sender, self.failure(error))
            else:
                self._pool.submit(self._work, sender, clip, prompts)

    def _enter(self) -> None:
        with self._changing:
            if self.clips >= CLIPS + WAITING:
                raise TooManyError(f"{self.clips} clips at once, the most: try again later")
            self.clips += 1
            self._gauges.update()

    def _work(self, sender: Any, clip: bytes, prompts: bytes | None) -> None:
        failed = None
        try:
            self._track(sender, clip, prompts)
            if self._stopping.is_set():
                raise StoppingError("the server stops: ask again later")
        except Exception as error:
            failed = self.failure(error)
        finally:
            with self._changing:
                self.clips -= 1
                self._gauges.update()
            self._end(sender, failed)

    def _track(self, sender: Any, clip: bytes, prompts: bytes | None) -> None:
        def stopped() -> bool:
            return self._stopping.is_set() or bool(sender.is_cancelled())

        if stopped():
            return
        asked, limits = read_prompts(prompts), self.settings.limits
        with closing(tracked_clip(self.model, clip, asked, limits, stopped)) as steps:
            for index, result in steps:
                sender.send(self.response(stream_outputs(result, index)))
                with self._changing:
                    self.frames += 1

    def _end(self, sender: Any, failed: Any) -> None:
        final = self.server.TRITONSERVER_RESPONSE_COMPLETE_FINAL
        if failed is None:
            sender.send(flags=final)
        else:
            sender.send(failed, flags=final)
