"""The work behind ``sam2rt segment``: one image, prompts, a folder of masks.

:func:`segment_image` writes ``masks.json`` (a COCO file), ``mask_<object>.png`` (0 and 255)
and ``overlay.png``, which shows the prompts too. With all readings these are ``mask_<object>_
<reading>.png``, each reading has an ``overlay_<reading>.png`` of its own, and ``overlay.png`` shows
the best ones.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ...configs.bundle import Bundle
from ...configs.errors import InputError
from ...configs.progress import Progress, silent
from ..arrays import Array
from ..media.images import read_image, write_image
from ..media.marks import draw_prompt
from ..media.overlay import draw_overlay
from ..predictors.image import ImagePredictor
from ..session import Session
from .coco_file import coco_file, mask_record
from .prompts import Box, Click, ObjectPrompt
from .results import MASKS, results_folder
from .segment_prompts import check_prompts, predicted


@dataclass(frozen=True)
class Segment:
    """One mask found: its object, and which of several readings of the prompt, from 0.

    mask: bool [H, W]. iou: predicted quality 0..1. file_name: of its image in the folder.
    """

    obj_id: int
    reading: int
    mask: Array
    iou: float
    file_name: str


def segment_image(
    bundle: Bundle,
    image_path: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    points: Sequence[Click] = (),
    boxes: Sequence[Box] = (),
    prompts: Sequence[ObjectPrompt] = (),
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
    x1, y1; several give one object each and take no points. prompts: instead of both, one an
    object, on frame 0; a mask is where the search starts, with clicks or a box or alone. A single
    click is ambiguous: the reading with the best predicted IoU is kept, or all three with
    all_masks. Raises InputError and FrameError before anything is written.
    """
    rgb = read_image(image_path)
    asked = [*prompts, *_prompts(points, boxes)]
    check_prompts(asked, (rgb.shape[0], rgb.shape[1]))
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
            found = predicted(predictor, asked, (rgb.shape[0], rgb.shape[1]), all_masks)
        segments = [
            segment
            for prompt, (masks, ious) in zip(asked, found, strict=True)
            for segment in _segments(prompt.obj_id, masks, ious, all_masks)
        ]
        progress("writing masks")
        _write(folder, Path(image_path), rgb, segments)
        _draw(folder, rgb, segments, asked)
    return segments


def _prompts(points: Sequence[Click], boxes: Sequence[Box]) -> list[ObjectPrompt]:
    if points and len(boxes) > 1:
        raise InputError(
            f"{len(boxes)} boxes make as many objects, and points cannot tell whose they are: "
            "give one box with points, or boxes alone"
        )
    if points:
        return [ObjectPrompt(1, 0, points, boxes[0] if boxes else None)]
    return [ObjectPrompt(number, 0, box=box) for number, box in enumerate(boxes, 1)]


def _segments(obj_id: int, masks: Array, ious: Array, all_masks: bool) -> list[Segment]:
    """masks [C, H, W], ious [C]; the best of C readings unless all."""
    readings = range(len(ious)) if all_masks else [int(ious.argmax())]
    return [
        Segment(
            obj_id,
            reading,
            masks[reading],
            float(ious[reading]),
            f"mask_{obj_id}_{reading + 1}.png" if len(readings) > 1 else f"mask_{obj_id}.png",
        )
        for reading in readings
    ]


def _write(folder: Path, image: Path, rgb: Array, segments: Sequence[Segment]) -> None:
    several = len({s.obj_id for s in segments}) < len(segments)
    with coco_file(folder / MASKS) as file:
        file.add_image(image.name, (rgb.shape[0], rgb.shape[1]))
        for segment in segments:
            write_image(folder / segment.file_name, segment.mask)
            reading = {"reading": segment.reading + 1} if several else {}
            file.add_mask(
                {
                    "object": segment.obj_id,
                    **reading,
                    "file_name": segment.file_name,
                    "predicted_iou": round(segment.iou, 6),
                    **mask_record(segment.mask),
                }
            )


def _draw(
    folder: Path, rgb: Array, segments: Sequence[Segment], prompts: Sequence[ObjectPrompt]
) -> None:
    """The overlay; of several readings the best, and each in an image of its own."""
    best: dict[int, Segment] = {}
    for segment in segments:
        if segment.obj_id not in best or segment.iou > best[segment.obj_id].iou:
            best[segment.obj_id] = segment
    drawings = {"overlay.png": list(best.values())}
    if len(best) < len(segments):
        for reading in sorted({s.reading for s in segments}):
            name = f"overlay_{reading + 1}.png"
            drawings[name] = [s for s in segments if s.reading == reading]
    for name, shown in drawings.items():
        # the smallest must not be covered
        order = sorted(shown, key=lambda s: -int(np.count_nonzero(s.mask)))
        drawn = draw_overlay(rgb, np.stack([s.mask for s in order]), [s.obj_id for s in order])
        for prompt in prompts:
            draw_prompt(drawn, prompt.points, prompt.box, prompt.obj_id)
        write_image(folder / name, drawn)
