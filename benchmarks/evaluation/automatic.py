"""How many objects of an image automatic masks find."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...configs.progress import Progress, silent
from ...runtime.predictors.mask_generator import MaskGenerator
from ...runtime.session import Session
from .datasets import Dataset
from .metrics import region_similarity

#: a mask with at least this IoU counts as the object's
LEAST_IOU = 0.75


@dataclass(frozen=True)
class Recall:
    """objects: how many were annotated. missed: video, object and best IoU of the others."""

    objects: int
    missed: tuple[tuple[str, int, float], ...]

    @property
    def share(self) -> float | None:
        """Objects found per object, 0..1; None without any."""
        return 1 - len(self.missed) / self.objects if self.objects else None


def automatic_recall(
    session: Session,
    dataset: Dataset,
    settings: Mapping[str, Any] | None = None,
    progress: Progress = silent,
) -> Recall:
    """Automatic masks on the first frame of each video against the objects annotated there.

    settings: keywords of :class:`~sam2rt.runtime.predictors.mask_generator.MaskGenerator`.
    """
    generator = MaskGenerator(session.bundle, session=session, **(settings or {}))
    objects, missed = 0, []
    for number, video in enumerate(dataset.videos):
        progress("automatic masks", number, len(dataset.videos))
        truth = video.truth(0)
        wanted = {i: m for i, m in truth.masks.items() if m.any()} if truth else {}
        if not wanted:
            continue
        with video.frames() as source:
            masks = [r["segmentation"] for r in generator.generate(source.read(0))]
        for obj_id, mask in wanted.items():
            objects += 1
            best = max((region_similarity(m, mask) for m in masks), default=0.0)
            if best < LEAST_IOU:
                missed.append((video.name, obj_id, best))
    return Recall(objects, tuple(missed))
