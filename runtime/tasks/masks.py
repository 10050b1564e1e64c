"""The work behind ``sam2rt masks``: one image, a folder of everything found in it.

:func:`write_image_masks` writes ``masks.json`` (a COCO file), ``mask_<number>.png`` (0 and
255, unless left out) and ``overlay.png``.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...configs.bundle import Bundle
from ...configs.progress import Progress, silent
from ..arrays import Array
from ..media.images import read_image, write_image
from ..media.overlay import draw_overlay
from ..pixels.rle import mask_from_rle
from ..predictors.mask_generator import MaskGenerator
from ..session import Session
from .coco_file import coco_file
from .results import MASKS, results_folder


def write_image_masks(
    bundle: Bundle,
    image_path: str | os.PathLike[str],
    out_dir: str | os.PathLike[str],
    *,
    settings: Mapping[str, Any] | None = None,
    write_masks: bool = True,
    backend: str = "onnxruntime",
    device: str = "cpu",
    threads: int | None = None,
    session: Session | None = None,
    progress: Progress = silent,
) -> list[dict[str, Any]]:
    """Find the masks of an image and write them into `out_dir`, whole or not at all.

    settings: keywords of :class:`MaskGenerator`. Returns its records, masks in COCO's compressed
    encoding. Raises InputError and FrameError before anything is written.
    """
    rgb = read_image(image_path)
    generator = MaskGenerator(
        bundle,
        **{**(settings or {}), "output_mode": "coco_rle"},
        backend=backend,
        device=device,
        threads=threads,
        session=session,
    )
    with results_folder(out_dir) as folder, generator:
        progress("opening the bundle")
        records = generator.generate(rgb, progress=progress)
        _write(folder, Path(image_path), rgb, records, write_masks, progress)
    return records


def _write(
    folder: Path,
    image: Path,
    rgb: Array,
    records: Sequence[Mapping[str, Any]],
    write_masks: bool,
    progress: Progress,
) -> None:
    digits = len(str(len(records)))
    with coco_file(folder / MASKS) as file:
        file.add_image(image.name, (rgb.shape[0], rgb.shape[1]))
        for number, record in enumerate(records, 1):
            progress("writing masks", number, len(records))
            item = _annotation(record)
            if write_masks:
                item["file_name"] = f"mask_{number:0{digits}d}.png"
                write_image(folder / item["file_name"], mask_from_rle(record["segmentation"]))
            file.add_mask(item)
    # one at a time: together they would take as many bytes as pixels times masks
    drawn = rgb
    for number in sorted(range(len(records)), key=lambda i: -int(records[i]["area"])):
        mask = mask_from_rle(records[number]["segmentation"])
        drawn = draw_overlay(drawn, mask[None], [number + 1])
    write_image(folder / "overlay.png", drawn)


def _annotation(record: Mapping[str, Any]) -> dict[str, Any]:
    """A record of the generator as COCO and JSON have it."""
    x, y, width, height = record["bbox"]
    # the generator's, as the original's, end at the middle of the last pixel
    box = [x, y, width + 1, height + 1] if record["area"] else record["bbox"]
    # an empty mask has no stability, and JSON no NaN
    stability = record["stability_score"]
    return {
        **record,
        "bbox": box,
        "stability_score": None if math.isnan(stability) else stability,
    }
