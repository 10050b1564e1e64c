"""What is remembered of one object as a file: numpy arrays and a few lines of JSON, no pickle.

The file is a ``.npz``. ``header`` holds UTF-8 JSON, each output of a frame is
``<prompted|tracked>.<frame>.<array>``. Files of strangers are read strictly: a name, dtype or
shape that the bundle's model does not have is refused.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.checks import shown_line
from ...configs.errors import InputError
from ...configs.formats.schema import Schema, check_schema
from ...configs.formats.strict_json import strict_json
from ...configs.models import ModelConfig
from ...configs.staging import check_file_target, replaced_file
from ..arrays import Array
from ..bank import FrameOutput, ObjectHistory, restore_memory
from .bounded_arrays import bounded_arrays

_FORMAT = 1
_HEADER = "header"
#: bytes of a header that are read at most
_LONGEST_HEADER = 1 << 16
_SIDE = {"type": "integer", "minimum": 1, "maximum": 1 << 30}
_SCHEMA: Schema = {
    "type": "object",
    "required": ["format", "bundle", "options", "frame_idx", "frame_size"],
    "properties": {
        "bundle": {"type": "string", "maxLength": 64, "format": "line"},
        "options": {"type": "object"},
        "frame_idx": {"type": "integer", "minimum": 1, "maximum": 10**12},
        "frame_size": {"type": "array", "items": _SIDE, "minItems": 2, "maxItems": 2},
    },
}
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

    Every output is of a frame before the header's ``frame_idx``, one at least was prompted, and
    all numbers are finite. Raises InputError: no such file, no file of a state, damaged, another
    bundle's.
    """
    try:
        # arrays are stored as they are: together they take no more than the file
        arrays = bounded_arrays(Path(path), Path(path).stat().st_size)
        header = _header(arrays.pop(_HEADER))
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror or error}): {_REMEDY}") from None
    except (KeyError, ValueError) as error:
        raise _damaged(path, shown_line(str(error))) from None
    if header["bundle"] != digest:
        raise InputError(
            f"{path} is a state of bundle {header['bundle']!s:.12}, this is bundle "
            f"{digest[:12]}: load it with the bundle that made it, or prompt the object again"
        )
    try:
        return SavedObject(header, _history(arrays, config, header["frame_idx"]))
    except (KeyError, ValueError) as error:
        raise _damaged(path, shown_line(str(error))) from None


def _header(array: Array) -> dict[str, Any]:
    """The header; ValueError for what is none."""
    if array.dtype != np.uint8 or array.ndim != 1:
        raise ValueError(f"an array {array.dtype} {list(array.shape)}")
    header = strict_json(array.tobytes(), _LONGEST_HEADER)
    if isinstance(header, dict) and header.get("format") != _FORMAT:
        raise ValueError(f"expected format {_FORMAT}")
    check_schema(header, _SCHEMA)
    found: dict[str, Any] = header
    return found


def _history(arrays: Mapping[str, Array], config: ModelConfig, next_frame: int) -> ObjectHistory:
    """The outputs of frames before `next_frame`; ValueError or KeyError for what is none."""
    allowed = _allowed(config)
    parts: dict[tuple[str, int], dict[str, Array]] = {}
    for name, array in arrays.items():
        match = _NAME.fullmatch(name)
        if match is None or int(match[2]) >= next_frame:
            raise ValueError(f"unknown array {name:.40}")
        if (array.dtype, array.shape) not in allowed[match[3]]:
            raise ValueError(f"an array {array.dtype} {list(array.shape)}")
        if not np.isfinite(restore_memory(array) if match[3] == "memory" else array).all():
            raise ValueError(f"{name} holds what is no number")
        # copied, so that it can be written to
        parts.setdefault((match[1], int(match[2])), {})[match[3]] = array.copy()
    history = ObjectHistory()
    for (kind, frame_idx), found in parts.items():
        outputs = history.cond if kind == "prompted" else history.non_cond
        outputs[frame_idx] = _output(found)
    if not history.cond:
        raise ValueError("no frame with a prompt")
    return history


def _allowed(config: ModelConfig) -> dict[str, set[tuple[np.dtype[Any], Any]]]:
    """Dtypes and shapes that an array may have, by its name."""
    memory = (config.mem_dim, config.embed_size, config.embed_size)
    stored = (np.float32, np.float16, np.uint16)
    return {
        "obj_ptr": {(np.dtype(np.float32), (config.hidden_dim,))},
        "scores": {(np.dtype(np.float64), (2,))},
        "memory": {(np.dtype(dtype), memory) for dtype in stored},
    }


def _output(arrays: Mapping[str, Array]) -> FrameOutput:
    score, iou = (float(value) for value in arrays["scores"])
    return FrameOutput(None, arrays["obj_ptr"], score, iou, arrays.get("memory"))


def _damaged(path: str | os.PathLike[str], why: str) -> InputError:
    return InputError(f"{path} is no state of an object, or damaged ({why}): {_REMEDY}")
