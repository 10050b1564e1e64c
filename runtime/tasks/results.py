"""The folder a command leaves: masks as PNG, ``masks.json``, drawings to look at.

A folder is only ever replaced when it is empty, or holds ``masks.json`` and nothing but what such
commands write.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ...configs.errors import InputError
from ...configs.staging import replaced_folder

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
    if foreign := foreign_to_results(final):
        raise InputError(
            f"folder {target} holds {foreign}, which is of no earlier run: move it, or name another"
        )
    with replaced_folder(final, foreign_to_results) as work:
        yield work


def foreign_to_results(folder: Path) -> str | None:
    """Something in the folder, relative to it, that no command of ours wrote."""
    names = [path.relative_to(folder).as_posix() for path in folder.rglob("*")]
    if names and MASKS not in names:
        return min(names)
    return next((name for name in names if not _OURS.fullmatch(name)), None)
