"""Encode a frame once, for any number of objects and of predictors."""

from __future__ import annotations

from typing import Any

from ...configs.bundle import Bundle
from ..pixels.frame_input import FrameInput
from ..session import Session
from ..tracking.encoded import EncodedFrame
from ..tracking.tracker import Features
from .predictor import Predictor


class FrameEncoder(Predictor):
    """Turns video frames into what trackers take in a frame's place.

    The image encoder is the larger part of a frame's work: one :meth:`encode` serves each
    :class:`~sam2rt.ObjectState` and :class:`~sam2rt.StreamTracker` of the same bundle. Threads may
    share an encoder where calls of the session may overlap. session: an open session to share
    instead of `backend`, `device` and `threads`.
    """

    def __init__(
        self,
        bundle: Bundle,
        backend: str = "onnxruntime",
        device: str = "cpu",
        threads: int | None = None,
        *,
        session: Session | None = None,
    ) -> None:
        super().__init__(bundle, backend, device, threads, session)
        self._input = FrameInput(self.session, self.config.image_size)

    def encode(self, frame: Any) -> EncodedFrame:
        """Encode a frame [H, W, 3] uint8 RGB, on the host or on the session's GPU.

        Raises FrameError for a frame that cannot be used.
        """
        self._open_still()
        rgb, size = self.checked(frame)
        with self.session.together():
            return EncodedFrame(size, self.features(rgb), self.bundle)

    def checked(self, frame: Any) -> tuple[Any, tuple[int, int]]:
        """The frame and its (height, width) pixels; FrameError for what cannot be used."""
        return self._input.checked(frame)

    def features(self, rgb: Any) -> Features:
        """The features of a frame that was :meth:`checked`."""
        pixels = self._input.tensor(rgb)
        return Features(**self.session.run("image_encoder", {"image": pixels[None]}))
