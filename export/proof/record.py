"""What the reference gave for the work of one seed: made once, kept in the bundle.

The record, a sample of each output when written to a file, is all that a proof needs besides a
session: neither torch nor the checkpoint.
"""

from __future__ import annotations

import io
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.bundle import Bundle
from ...configs.checks import whole_number
from ...configs.errors import BundleError
from ...configs.formats.manifest import REMEDY
from ...configs.formats.strict_json import strict_json
from ...configs.models import ModelConfig
from ...configs.progress import Progress, silent, steps
from ...runtime.arrays import Array
from ...runtime.session import Session
from ...runtime.tracking.bounded_arrays import bounded_arrays
from .cases import CASES, Statistics, case_inputs, statistics_of
from .closed_loop import Listener, LoopFrame, closed_loop, make_clip

_VERSION = 1
#: values of one output that a record's file keeps
_SAMPLE = 1 << 14
#: bytes of all arrays; those of a record at 1024 pixels have six million
_LARGEST = 1 << 28
_MOST_FRAMES = 1000


@dataclass(frozen=True)
class Sample:
    """Every `stride`-th value of an array of that shape, in C order."""

    shape: tuple[int, ...]
    stride: int
    values: Array

    @classmethod
    def of(cls, array: Array, most: int | None = None) -> Sample:
        # an odd stride meets every column of a power-of-two wide array
        stride = 1 if most is None else max(1, array.size // most) | 1
        return cls(array.shape, stride, array.ravel()[::stride].astype(np.float32))

    def thinned(self, most: int) -> Sample:
        return Sample.of(self.values.reshape(self.shape), most) if self.stride == 1 else self

    def like(self, array: Array) -> Array:
        """The same places of another array of this shape."""
        # a session may keep its outputs on the GPU
        return np.asarray(array).ravel()[:: self.stride].astype(np.float32)

    def first_axis(self) -> Array:
        """Index along the first axis of each value."""
        size = int(np.prod(self.shape[1:])) or 1
        return np.arange(len(self.values)) * self.stride // size


@dataclass
class Record:
    """What the reference gave for the work of one seed."""

    config: ModelConfig
    seed: int
    frames: int
    statistics: Statistics
    outputs: dict[str, dict[str, Sample]]
    loop: list[LoopFrame]


def frame_count(config: ModelConfig) -> int:
    """Frames of the closed loop: enough to fill the bank where frames are cheap."""
    return 8 if config.image_size <= 512 else 4


def record(
    reference: Session, seed: int, *, frames: int | None = None, progress: Progress = silent
) -> Record:
    """Run the work of `seed` on the reference."""
    config = reference.bundle.model
    count = frame_count(config) if frames is None else frames
    listener = Listener(reference)
    advance = steps(progress, "reference", count + len(CASES))
    loop = []
    for result in closed_loop(listener, make_clip(config, count, seed)):
        loop.append(result)
        advance()
    statistics = statistics_of(listener.heard)
    outputs = {}
    for case in CASES:
        given = reference.run(case.graph, case_inputs(case, config, statistics, seed))
        outputs[case.key] = {name: Sample.of(value) for name, value in given.items()}
        advance()
    return Record(config, seed, count, statistics, outputs, loop)


def save_record(recorded: Record, path: Path) -> None:
    """Write a record, outputs thinned to a sample; a few MB at most."""
    arrays: dict[str, Array] = {
        f"statistics/{name}": value for name, value in recorded.statistics.items()
    }
    shapes: dict[str, dict[str, list[int]]] = {}
    for key, outputs in recorded.outputs.items():
        for name, sample in outputs.items():
            thin = sample.thinned(_SAMPLE)
            arrays[f"outputs/{key}/{name}"] = thin.values
            shapes.setdefault(key, {})[name] = [thin.stride, *thin.shape]
    for t, frame in enumerate(recorded.loop):
        arrays[f"loop/{t}/logits"] = frame.logits
        arrays[f"loop/{t}/scores"] = frame.scores
        arrays[f"loop/{t}/ious"] = frame.ious
        arrays[f"loop/{t}/choices"] = frame.choices
    about = {
        "version": _VERSION,
        "seed": recorded.seed,
        "frames": recorded.frames,
        "shapes": shapes,
    }
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    path.write_bytes(buffer.getvalue())


def load_record(path: Path, config: ModelConfig) -> Record:
    """Read a record of a model.

    Raises BundleError when it is of another version, or no record of that model.
    """
    try:
        arrays = bounded_arrays(path, _LARGEST)
        about = strict_json(arrays.pop("about").tobytes(), _LARGEST)
        if about["version"] != _VERSION or not set(about["shapes"]) <= {c.key for c in CASES}:
            # older records have fewer cases
            raise BundleError(
                f"{path} was recorded by another version of sam2rt: export the bundle again"
            )
        return _record_of(about, arrays, config)
    except BundleError:
        raise
    # whatever zip and npy can hold
    except (ValueError, KeyError, TypeError, AttributeError, OSError) as error:
        what = " ".join(str(error).split()) or type(error).__name__
        raise BundleError(f"{path} is no record of a proof ({what:.100}): {REMEDY}") from None


def _record_of(
    about: Mapping[str, Any], arrays: Mapping[str, Array], config: ModelConfig
) -> Record:
    """The record in a file's content. Raises ValueError, KeyError or TypeError."""
    seed = whole_number("seed", about["seed"], 0)
    frames = whole_number("frames", about["frames"], 1)
    if frames > _MOST_FRAMES:
        raise ValueError(f"{frames} frames, expected at most {_MOST_FRAMES}")
    case_statistics = {
        key.partition("/")[2]: _floats(arrays, key)
        for key in arrays
        if key.startswith("statistics/")
    }
    outputs = {
        key: {
            name: _sample(_floats(arrays, f"outputs/{key}/{name}"), stride, shape)
            for name, (stride, *shape) in named.items()
        }
        for key, named in about["shapes"].items()
    }
    loop = [_loop_frame(arrays, t, config.mask_size) for t in range(frames)]
    return Record(config, seed, frames, case_statistics, outputs, loop)


def _floats(arrays: Mapping[str, Array], key: str) -> Array:
    array = arrays[key]
    if array.dtype != np.float32:
        raise ValueError(f"{key} has values of type {array.dtype}, expected float32")
    return array


def _sample(values: Array, stride: Any, shape: list[Any]) -> Sample:
    sizes = tuple(whole_number("size", size, 0) for size in shape)
    step = whole_number("stride", stride, 1)
    expected = -(-math.prod(sizes) // step)
    if values.shape != (expected,):
        raise ValueError(f"an output has values {list(values.shape)}, expected {expected}")
    return Sample(sizes, step, values)


def _loop_frame(arrays: Mapping[str, Array], t: int, side: int) -> LoopFrame:
    logits, scores, ious = (_floats(arrays, f"loop/{t}/{n}") for n in ("logits", "scores", "ious"))
    choices = arrays[f"loop/{t}/choices"]
    # prompted one after the other on the first three frames
    count = min(t + 1, 3)
    shapes = (logits.shape, scores.shape, ious.shape, choices.shape)
    if shapes != ((count, side, side), (count,), (count, 4), (count,)):
        raise ValueError(f"frame {t} has arrays {list(map(list, shapes))}")
    if choices.dtype.kind not in "iu" or not ((choices >= 0) & (choices < 4)).all():
        raise ValueError(f"frame {t} has choices that are no mask from 0 to 3")
    return LoopFrame(logits, scores, ious, choices)


def bundle_record(bundle: Bundle) -> Record:
    """The record in a bundle; BundleError when there is none."""
    if "record" not in bundle.proof_files:
        raise BundleError(
            f"bundle {bundle.path} holds no record of the reference: give the checkpoint, or make "
            "it again with 'sam2rt export CHECKPOINT -o BUNDLE'"
        )
    return load_record(bundle.path / bundle.proof_files["record"].path, bundle.model)
