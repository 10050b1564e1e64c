"""Arrays of a file .npz that may come from anybody: no pickles, no more memory than was agreed."""

from __future__ import annotations

import io
import math
import struct
import zipfile
import zlib
from pathlib import Path

import numpy as np

from ..arrays import Array

_MOST_ARRAYS = 10_000


def bounded_arrays(path: Path, most: int) -> dict[str, Array]:
    """All arrays of the file, by name, together at most `most` bytes.

    Raises ValueError for anything else, OSError when the file cannot be read.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            records = archive.infolist()
            if len(records) > _MOST_ARRAYS or sum(r.file_size for r in records) > most:
                raise ValueError(f"more than {_MOST_ARRAYS} arrays or {most} bytes")
            arrays = {
                record.filename.removesuffix(".npy"): _array(record.filename, archive.read(record))
                for record in records
            }
    # a password, or a compression that zipfile does not know, is a RuntimeError
    except (zipfile.BadZipFile, zlib.error, EOFError, RuntimeError, struct.error) as error:
        raise ValueError(str(error) or "truncated") from None
    # other readers would take the first
    if len(arrays) != len(records):
        raise ValueError("a name twice")
    return arrays


def _array(name: str, content: bytes) -> Array:
    file = io.BytesIO(content)
    version = np.lib.format.read_magic(file)
    if version != (1, 0):
        raise ValueError(f"{name} has the format {version}, expected 1.0")
    try:
        shape, by_column, dtype = np.lib.format.read_array_header_1_0(file, max_header_size=10_000)
    # numpy evaluates a literal: it may end in any error of the parser's
    except Exception:
        raise ValueError(f"{name} has no header of an array") from None
    # memory is taken for what the header says, before anything is read
    expected = math.prod(shape) * dtype.itemsize
    if by_column or dtype.hasobject or any(size < 0 for size in shape):
        raise ValueError(f"{name} is no plain array")
    if len(content) - file.tell() != expected:
        found = len(content) - file.tell()
        raise ValueError(
            f"{name} has {found} bytes, expected {expected} for an array {dtype} {list(shape)}"
        )
    file.seek(0)
    array: Array = np.load(file, allow_pickle=False)
    return array
