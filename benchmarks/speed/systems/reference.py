"""The float32 reference as a system: the torch modules, for the masks that others must equal."""

from __future__ import annotations

from typing import Any

from ....configs.bundle import Bundle
from ..clip import scored_clip
from .sam2rt_runtime import TimedSession, tracked_by
from .system import Tracked, Work


class ReferenceSystem:
    """The reference modules with a checkpoint's weights, under sam2rt's tracker; never timed."""

    def __init__(self, work: Work, bundle: str, checkpoint: str) -> None:
        self.work, self._path, self._checkpoint = work, bundle, checkpoint

    def load(self) -> dict[str, Any]:
        import torch

        from ....export.checkpoint.load import load_checkpoint
        from ....export.model.reference import ReferenceSession
        from ....export.model.sam2 import build_model

        torch.set_num_threads(self.work.threads)
        bundle = Bundle.load(self._path, check_hashes=False)
        model = build_model(bundle.model)
        model.load_state_dict(
            load_checkpoint(self._checkpoint, model=bundle.model).state, strict=True
        )
        self._session = TimedSession(ReferenceSession(model))
        return {}

    def tracked(self, work: Work) -> Tracked | None:
        clip = scored_clip(work)
        return tracked_by(self._session, clip.frames, clip.points, {})
