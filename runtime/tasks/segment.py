"""The work behind ``sam2rt segment``: one image, prompts, a folder of masks.

:func:`segment_image` writes ``masks.json`` (a COCO file), ``mask_<object>.png`` (0 and 255)
and ``overlay.png``.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.bundle import Bundle
from ...configs.errors import InputError
from ...configs.progress import Progress, silent
from ..arrays import Array
from ..media.images import read_image, write_image
from ..media.overlay import draw_overlay
from ..predictors.image import ImagePredictor
from ..session import Session
from .coco_file import coco_file, mask_record
from .prompts import Box, Click
from .results import MASKS, results_folder


@dataclass(frozen=True)
class Segment:
    """One mask found: its object, counted from 1, and which of several readings of the prompt.

    mask: bool [H, W]. iou: predicted quality 0..1.
    """

    obj_id: int
    reading: int
    mask: Array
    iou: float


def segment_image(
    bundle: Bundle,
    image_path: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    points: Sequence[Click] = (),
    boxes: Sequence[Box] = (),
    all_masks: bool = False,
    max_hole_area: float = 0.0,
    max_sprinkle_area: float = 0.0,
    backend: str = "onnxruntime",
    device: str = "cpu",
    threads: int | None = None,
    session: Session | None = None,
    progress: Progress = silent,
) -> list[Segment]:
    """Segment an image and write the results into `out_dir`, whole or not at all.

    points: x, y in pixels and label (1 object, 0 background), all of one object. boxes: x0, y0,
    x1, y1; several give one object each and take no points. A single click is ambiguous: the
    reading with the best predicted IoU is kept, or all three with all_masks. Raises InputError
    and FrameError before anything is written.
    """
    rgb = read_image(image_path)
    prompts = _prompts(points, boxes)
    ambiguous = all_masks or (len(points) == 1 and not boxes)
    with results_folder(out_dir) as folder:
        progress("opening the bundle")
        predictor = ImagePredictor(
            bundle,
            backend,
            device,
            threads,
            session=session,
            max_hole_area=max_hole_area,
            max_sprinkle_area=max_sprinkle_area,
        )
        with predictor:
            progress("encoding the image")
            predictor.set_image(rgb)
            progress("segmenting")
            masks, ious, _ = predictor.predict(**prompts, multimask_output=ambiguous)
        segments = _segments(masks, ious, all_masks)
        progress("writing masks")
        _write(folder, Path(image_path), rgb, segments)
    return segments


def _prompts(points: Sequence[Click], boxes: Sequence[Box]) -> dict[str, Any]:
    if not points and not boxes:
        raise InputError("nothing to segment: give at least one point or box")
    if points and len(boxes) > 1:
        raise InputError(
            f"{len(boxes)} boxes make as many objects, and points cannot tell whose they are: "
            "give one box with points, or boxes alone"
        )
    return {
        "point_coords": [point[:2] for point in points] or None,
        "point_labels": [point[2] for point in points] or None,
        "box": np.array(boxes, np.float32) if boxes else None,
    }


def _segments(masks: Array, ious: Array, all_masks: bool) -> list[Segment]:
    """masks [N, C, H, W] or [C, H, W], ious likewise; the best of C readings unless all."""
    masks, ious = masks.reshape(-1, *masks.shape[-3:]), ious.reshape(-1, ious.shape[-1])
    readings = [range(len(row)) if all_masks else [int(row.argmax())] for row in ious]
    return [
        Segment(i + 1, reading, masks[i, reading], float(ious[i, reading]))
        for i, chosen in enumerate(readings)
        for reading in chosen
    ]


def _write(folder: Path, image: Path, rgb: Array, segments: Sequence[Segment]) -> None:
    several = len({s.obj_id for s in segments}) < len(segments)
    with coco_file(folder / MASKS) as file:
        file.add_image(image.name, (rgb.shape[0], rgb.shape[1]))
        for segment in segments:
            name = f"mask_{segment.obj_id}" + (f"_{segment.reading + 1}" if several else "")
            write_image(folder / f"{name}.png", segment.mask)
            file.add_mask(
                {
                    "object": segment.obj_id,
                    "file_name": f"{name}.png",
                    "predicted_iou": round(segment.iou, 6),
                    **mask_record(segment.mask),
                }
            )
    # readings overlap: the smallest must not be covered
    order = sorted(segments, key=lambda s: -int(np.count_nonzero(s.mask)))
    labels = [s.reading + 1 if several else s.obj_id for s in order]
    overlay = draw_overlay(rgb, np.stack([s.mask for s in order]), labels)
    write_image(folder / "overlay.png", overlay)
