"""``masks.json``: the masks of a command as a COCO file, written one record at a time.

``images`` are the image or the frames, ``annotations`` their masks, ``categories`` the one kind
there is. What COCO has no field for stands beside its fields, which its readers allow.
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ..arrays import Mask
from ..pixels.rle import rle_from_mask

#: masks say where something is, not what
_CATEGORY = {"id": 1, "name": "object", "supercategory": "object"}


def mask_record(mask: Mask) -> dict[str, Any]:
    """What COCO keeps of a mask [H, W] bool: ``segmentation``, ``bbox`` x, y, w, h, ``area``."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [0, 0, 0, 0]
    if rows.size:
        x, y = int(columns[0]), int(rows[0])
        box = [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1]
    area = int(np.count_nonzero(mask))
    return {"segmentation": rle_from_mask(mask), "bbox": box, "area": area}


@contextmanager
def coco_file(path: Path, header: Mapping[str, Any] | None = None) -> Iterator[CocoWriter]:
    """Give a writer of a COCO file; leaving the block completes it.

    header: further items of the file, before its lists.
    """
    with (
        path.open("w", encoding="utf-8") as file,
        # two lists grow at once, and neither has to fit into memory
        tempfile.TemporaryFile("w+", encoding="utf-8", dir=path.parent) as images,
    ):
        items = {**(header or {}), "categories": [_CATEGORY]}
        lines = (f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in items.items())
        file.write("{\n" + "".join(lines) + '"annotations": [')
        yield CocoWriter(file, images)
        file.write('\n],\n"images": [')
        images.seek(0)
        shutil.copyfileobj(images, file)
        file.write("\n]}\n")


class CocoWriter:
    """Adds images and their masks to a :func:`coco_file`; each record is one line."""

    def __init__(self, annotations: TextIO, images: TextIO) -> None:
        self._files = {"annotations": annotations, "images": images}
        self._counts = {"annotations": 0, "images": 0}

    def add_image(self, file_name: str, size: tuple[int, int], **others: Any) -> None:
        """The image, size (height, width), that the next masks are of; its id counts from 1."""
        record = {"file_name": file_name, "height": size[0], "width": size[1], **others}
        self._add("images", record)

    def add_mask(self, record: Mapping[str, Any]) -> None:
        """A mask of the last image: what :func:`mask_record` gives, and whatever else."""
        image = {"image_id": self._counts["images"], "category_id": _CATEGORY["id"], "iscrowd": 0}
        self._add("annotations", {**image, **record})

    def _add(self, name: str, record: Mapping[str, Any]) -> None:
        separator = "," if self._counts[name] else ""
        self._counts[name] += 1
        line = json.dumps({"id": self._counts[name], **record}, allow_nan=False)
        self._files[name].write(f"{separator}\n{line}")
