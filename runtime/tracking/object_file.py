"""What is remembered of one object as a file: numpy arrays and a few lines of JSON, no pickle.

The file is a ``.npz``. ``header`` holds UTF-8 JSON, each output of a frame is
``<prompted|tracked>.<frame>.<array>``. Files of strangers are read strictly: a name, dtype or
shape that the bundle's model does not have is refused before the array is read.
"""

from __future__ import annotations

import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np

from ...configs.checks import shown_line
from ...configs.errors import InputError
from ...configs.models import ModelConfig
from ...configs.staging import check_file_target, replaced_file
from ..arrays import Array
from ..bank import FrameOutput, ObjectHistory

_FORMAT = 1
_HEADER = "header"
#: bytes of a header, and arrays of a file, that are read at most
_LONGEST_HEADER, _MOST_ARRAYS = 1 << 16, 1 << 16
_NAME = re.compile(r"(prompted|tracked)\.(\d{1,12})\.(obj_ptr|memory|scores)")
_REMEDY = "save the state anew, or prompt the object again"


@dataclass(frozen=True)
class SavedObject:
    """An object as a file holds it; `header` is what the state says of itself."""

    header: Mapping[str, Any]
    history: ObjectHistory


def write_object(path: str | os.PathLike[str], saved: SavedObject) -> None:
    """Write an object, all of it or nothing. InputError for a place that cannot be written."""
    check_file_target(Path(path))
    text = json.dumps({"format": _FORMAT, **saved.header}).encode()
    arrays: dict[str, Any] = {
        _HEADER: np.frombuffer(text, np.uint8),
        **dict(_arrays(saved.history)),
    }
    with replaced_file(path) as part, part.open("wb") as file:
        np.savez(file, **arrays)


def _arrays(history: ObjectHistory) -> Iterator[tuple[str, Array]]:
    for kind, outputs in (("prompted", history.cond), ("tracked", history.non_cond)):
        for frame_idx, output in outputs.items():
            name = f"{kind}.{frame_idx}"
            yield f"{name}.obj_ptr", np.asarray(output.obj_ptr)
            yield f"{name}.scores", np.array([output.object_score, output.iou], np.float64)
            if output.memory is not None:
                yield f"{name}.memory", np.asarray(output.memory)


def read_object(path: str | os.PathLike[str], config: ModelConfig, digest: str) -> SavedObject:
    """Read what :func:`write_object` wrote for a bundle of this model and digest.

    Raises InputError: no such file, no file of a state, damaged, another bundle's.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _read(os.fspath(path), archive, config, digest)
    except InputError:
        raise
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror or error}): {_REMEDY}") from None
    except (zipfile.BadZipFile, KeyError, ValueError, EOFError, NotImplementedError) as error:
        raise _damaged(path, shown_line(str(error))) from None


def _read(
    path: str, archive: zipfile.ZipFile, config: ModelConfig, digest: str
) -> SavedObject:  # fmt: skip
    members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
    if len(members) > _MOST_ARRAYS:
        raise _damaged(path, f"{len(members)} arrays")
    with archive.open(members.pop(_HEADER)) as file:
        text = _array(file, {(np.dtype(np.uint8), None)}, _LONGEST_HEADER)
    header = json.loads(text.tobytes())
    if not isinstance(header, dict) or header.get("format") != _FORMAT:
        raise _damaged(path, f"expected format {_FORMAT}")
    if header.get("bundle") != digest:
        raise InputError(
            f"{path} is a state of bundle {header.get('bundle')!s:.12}, this is bundle "
            f"{digest[:12]}: load it with the bundle that made it, or prompt the object again"
        )
    allowed = _allowed(config)
    parts: dict[tuple[str, int], dict[str, Array]] = {}
    for name, info in members.items():
        if (match := _NAME.fullmatch(name)) is None:
            raise _damaged(path, f"unknown array {name:.40}")
        with archive.open(info) as file:
            array = _array(file, allowed[match[3]], 1 << 40)
        parts.setdefault((match[1], int(match[2])), {})[match[3]] = array
    history = ObjectHistory()
    for (kind, frame_idx), arrays in parts.items():
        outputs = history.cond if kind == "prompted" else history.non_cond
        outputs[frame_idx] = _output(arrays)
    return SavedObject(header, history)


def _allowed(config: ModelConfig) -> dict[str, set[tuple[np.dtype[Any], Any]]]:
    """Dtypes and shapes that an array may have, by its name."""
    memory = (config.mem_dim, config.embed_size, config.embed_size)
    stored = (np.float32, np.float16, np.uint16)
    return {
        "obj_ptr": {(np.dtype(np.float32), (config.hidden_dim,))},
        "scores": {(np.dtype(np.float64), (2,))},
        "memory": {(np.dtype(dtype), memory) for dtype in stored},
    }


def _array(file: IO[bytes], allowed: set[tuple[np.dtype[Any], Any]], most: int) -> Array:
    """An array whose header was looked at first; ValueError for one that is not allowed."""
    if np.lib.format.read_magic(file) != (1, 0):
        raise ValueError("an array of another version")
    shape, fortran, dtype = np.lib.format.read_array_header_1_0(file)
    fits = (dtype, shape) in allowed or ((dtype, None) in allowed and len(shape) == 1)
    count = int(np.prod(shape, dtype=np.int64))
    if fortran or dtype.hasobject or not fits or not 0 <= count * dtype.itemsize <= most:
        raise ValueError(f"an array {dtype} {list(shape)}")
    content = file.read(count * dtype.itemsize)
    # copied, so that it can be written to
    array: Array = np.frombuffer(content, dtype).reshape(shape).copy()
    return array


def _output(arrays: Mapping[str, Array]) -> FrameOutput:
    score, iou = (float(value) for value in arrays["scores"])
    if not np.isfinite([score, iou]).all():
        raise ValueError("a score that is no number")
    return FrameOutput(None, arrays["obj_ptr"], score, iou, arrays.get("memory"))


def _damaged(path: str | os.PathLike[str], why: str) -> InputError:
    return InputError(f"{path} is no state of an object, or damaged ({why}): {_REMEDY}")
