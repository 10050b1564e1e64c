"""The folder a command leaves: masks as PNG and COCO run lengths, drawings to look at.

A folder is only ever replaced when it is empty, or holds ``masks.json`` and nothing but what such
commands write.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from ...configs.errors import InputError
from ...configs.staging import replaced_folder
from ..arrays import Array
from ..pixels.rle import rle_from_mask

MASKS = "masks.json"
#: all that segment, masks and track write
_OURS = re.compile(
    r"masks\.json|overlay\.mp4|overlay(_\d)?\.png|sheet\.png|mask_-?\d+(_\d)?\.png"
    r"|masks(/-?\d+(/\d+\.png)?)?"
)


@contextmanager
def results_folder(target: str | os.PathLike[str]) -> Iterator[Path]:
    """Give a temporary folder that becomes `target` when the block ends without an error.

    An earlier result there stays until then. A link stays, and what it leads to becomes the
    result. Raises InputError for a file, or a folder that holds something else; when that came
    meanwhile, the new result lies beside it, as ``NAME.new``.
    """
    final = Path(os.path.realpath(target))
    if final.exists() and not final.is_dir():
        raise InputError(f"{target} is a file: name a folder for the results")
    if final.is_dir() and any(final.iterdir()) and not (final / MASKS).is_file():
        raise InputError(
            f"folder {target} is not empty and holds no {MASKS} of an earlier run: name another"
        )
    if foreign := _foreign(final):
        raise InputError(
            f"folder {target} holds {foreign}, which is of no earlier run: move it, or name another"
        )
    with replaced_folder(final, _foreign) as work:
        yield work


def _foreign(folder: Path) -> str | None:
    """Something in the folder that no command of ours wrote."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    if names and MASKS not in names:
        return min(names)
    return next((name for name in names if not _OURS.fullmatch(name)), None)


def mask_record(mask: Array) -> dict[str, Any]:
    """What COCO keeps of a mask [H, W] bool: ``segmentation``, ``bbox`` x, y, w, h, ``area``."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = [0, 0, 0, 0]
    if rows.size:
        x, y = int(columns[0]), int(rows[0])
        box = [x, y, int(columns[-1]) - x + 1, int(rows[-1]) - y + 1]
    area = int(np.count_nonzero(mask))
    return {"segmentation": rle_from_mask(mask), "bbox": box, "area": area}


@contextmanager
def records_file(path: Path, header: Mapping[str, Any], name: str) -> Iterator[RecordsWriter]:
    """A JSON object: the header's items, then the list `name`, written one record at a time."""
    with path.open("w", encoding="utf-8") as file:
        items = (f"{json.dumps(key)}: {json.dumps(value)},\n" for key, value in header.items())
        file.write("{\n" + "".join(items) + f"{json.dumps(name)}: [")
        writer = RecordsWriter(file)
        yield writer
        file.write("\n]}\n")


class RecordsWriter:
    """Appends records to the list of a :func:`records_file`; each is one line."""

    def __init__(self, file: TextIO) -> None:
        self._file = file
        self._count = 0

    def add(self, record: Mapping[str, Any]) -> None:
        self._file.write(("," if self._count else "") + "\n" + json.dumps(record))
        self._count += 1
