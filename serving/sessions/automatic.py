"""Masks of everything on a frame, in turns with other sessions."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...configs.progress import Progress
from ...runtime.arrays import Frame
from ...runtime.predictors.mask_generator import MaskGenerator
from .model import Model, TurnSession

#: what clients may set, with what holds otherwise
DEFAULTS: Mapping[str, Any] = {
    "points_per_side": 16,
    "pred_iou_thresh": 0.8,
    "stability_score_thresh": 0.95,
    "min_mask_region_area": 0,
}


def automatic_masks(
    model: Model,
    frame: Frame,
    options: Mapping[str, Any],
    progress: Progress,
    stopped: Callable[[], bool],
) -> list[dict[str, Any]]:
    """The masks of a frame as clients see them, largest first; StoppingError once `stopped`.

    Called in a thread of its own: each call of a graph is a turn. Where all calls wait in one queue
    of a GPU, threads cannot share the session, and the whole is one turn.
    """

    def generate(session: Any) -> list[dict[str, Any]]:
        settings = {**DEFAULTS, **options, "output_mode": "coco_rle"}
        generator = MaskGenerator(model.bundle, session=session, **settings)
        return generator.generate(frame, progress)

    if model.session.overlaps:
        records = generate(TurnSession(model, stopped))
    else:
        records = model.run(lambda: generate(model.session))
    records.sort(key=lambda record: -int(record["area"]))
    return [_described(record) for record in records]


def _described(record: Mapping[str, Any]) -> dict[str, Any]:
    counts = record["segmentation"]["counts"]
    return {
        "mask": {
            "size": [int(side) for side in record["segmentation"]["size"]],
            "counts": counts.decode() if isinstance(counts, bytes) else counts,
        },
        "area": int(record["area"]),
        "box": [float(side) for side in record["bbox"]],
        "score": float(record["predicted_iou"]),
        "stability": float(record["stability_score"]),
        "point": [float(value) for value in record["point_coords"][0]],
    }
