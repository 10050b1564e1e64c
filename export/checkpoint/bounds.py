"""Looks at a file of weights before anything reads it: how much it could make of itself.

A few bytes can stand for gigabytes: compressed records, a pickle of empty sets (one byte makes
224), a long header. What programs save of models of this size stays far below each bound.
"""

from __future__ import annotations

import io
import pickletools
import zipfile
from pathlib import Path

from ...configs.errors import CheckpointError

#: bytes of a pickle; that of the largest model has 150 000, with its optimizer three times as many
LARGEST_PICKLE = 1 << 21
#: bytes of a safetensors header; that of the largest model has 120 000
LARGEST_HEADER = 1 << 22
_RECORDS = 100_000
#: torch compresses nothing; weights that another program packed shrink by a tenth
_INFLATED, _ROOM = 4, 1 << 24
#: files of torch before 1.6: magic number, protocol, system, the content, keys of its storages
_LEGACY_PICKLES = 5
#: ends errors about files that are damaged
SAVE_AGAIN = "download or save it again"
_SAVE = "save its state dict alone, torch.save({'model': model.state_dict()}, path)"


def check_bounds(path: Path, head: bytes) -> None:
    """Refuse, with CheckpointError, a file that begins with `head` and could become too large."""
    if head[8:] == b"{":
        size = int.from_bytes(head[:8], "little")
        if size > LARGEST_HEADER:
            raise _refused(path, f"a header of {size} bytes, expected at most {LARGEST_HEADER}")
    elif head.startswith(b"PK"):
        _check_archive(path)
    else:
        _check_pickles(path)


def _refused(path: Path, found: str) -> CheckpointError:
    return CheckpointError(f"{path} holds {found}: {_SAVE}")


def _check_archive(path: Path) -> None:
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
    # of what is no archive, or a damaged one, the reader itself speaks
    except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError):
        return
    if len(records) > _RECORDS:
        raise _refused(path, f"{len(records)} records, expected at most {_RECORDS}")
    inflated = sum(record.file_size for record in records)
    if inflated > _INFLATED * path.stat().st_size + _ROOM:
        raise _refused(path, f"records that inflate to {inflated} bytes")
    largest = max((r.file_size for r in records if r.filename.endswith(".pkl")), default=0)
    if largest > LARGEST_PICKLE:
        raise _refused(path, f"a pickle of {largest} bytes, expected at most {LARGEST_PICKLE}")


def _check_pickles(path: Path) -> None:
    with path.open("rb") as file:
        # in memory, where a length that the file has not costs nothing
        content = io.BytesIO(file.read((_LEGACY_PICKLES + 1) * LARGEST_PICKLE))
    size = len(content.getbuffer())
    for _ in range(_LEGACY_PICKLES):
        if (begin := content.tell()) == size:
            return
        # reads on, one operation at a time, and runs none of them
        operations = pickletools.genops(content)
        while content.tell() - begin <= LARGEST_PICKLE:
            try:
                if next(operations, None) is None:
                    break
            except ValueError as error:
                raise CheckpointError(
                    f"{path} is no checkpoint, or truncated ({error!s:.100}): {SAVE_AGAIN}"
                ) from None
        else:
            raise _refused(path, f"a pickle of more than {LARGEST_PICKLE} bytes")
