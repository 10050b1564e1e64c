"""The proof: the same work on the reference and on the new graphs, compared output by output.

:func:`record` runs it on the reference once. The record holds what the reference gave, a
sample of it when written to a file, and is all that :func:`compare` needs besides a session:
neither torch nor the checkpoint.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..configs.bundle import Precision
from ..configs.errors import BundleError, ProofError
from ..configs.models import ModelConfig
from ..runtime.session import Array, Session
from ..runtime.tracker import NO_OBJECT_LOGIT
from .proof_work import (
    CASES,
    Case,
    Listener,
    LoopFrame,
    Statistics,
    case_inputs,
    chosen_masks,
    closed_loop,
    make_clip,
    statistics_of,
)

Progress = Callable[[str, int, "int | None"], None]
_VERSION = 1
#: values of one output that a record's file keeps
_SAMPLE = 1 << 14
#: outputs of the decoder that belong to the mask it chose
_CHOSEN = ("mask_logits", "iou", "obj_ptr")


@dataclass(frozen=True)
class Bounds:
    """How far a precision may be from the float32 reference.

    relative: largest difference of an output, as a share of the output's largest value.
    cosine: least cosine between an output and its reference. iou: least mask IoU of an object
    on a frame of the closed loop; pixels closer to the threshold than `relative` do not count.
    """

    relative: float
    cosine: float
    iou: float


#: fp32: reordered sums stay below 2e-5 at every size and variant tried, a factor 10 above
#: leaves room for other kernels; a wrong formula shows at 1e-2 and more.
#: fp16 and bf16: 11 and 8 bits of mantissa through some 50 layers; what counts is the mask.
BOUNDS: dict[Precision, Bounds] = {
    "fp32": Bounds(relative=2e-4, cosine=0.999999, iou=0.999),
    "fp16": Bounds(relative=0.1, cosine=0.999, iou=0.97),
    "bf16": Bounds(relative=0.3, cosine=0.99, iou=0.93),
}


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
        return array.ravel()[:: self.stride].astype(np.float32)

    def rows(self) -> Array:
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
    reference: Session, seed: int, *, frames: int | None = None, progress: Progress | None = None
) -> Record:
    """Run the work of `seed` on the reference."""
    config = reference.bundle.model
    count = frame_count(config) if frames is None else frames
    listener = Listener(reference)
    tell = _steps(progress, "reference", count + len(CASES))
    loop = []
    for result in closed_loop(listener, make_clip(config, count, seed)):
        loop.append(result)
        tell()
    statistics = statistics_of(listener.heard)
    outputs = {}
    for case in CASES:
        given = reference.run(case.graph, case_inputs(case, config, statistics, seed))
        outputs[case.key] = {name: Sample.of(value) for name, value in given.items()}
        tell()
    return Record(config, seed, count, statistics, outputs, loop)


def _steps(progress: Progress | None, what: str, total: int) -> Callable[[], None]:
    done = 0

    def tell() -> None:
        nonlocal done
        done += 1
        if progress is not None:
            progress(what, done, total)

    return tell


@dataclass
class OutputDifference:
    """Differences of one output over all cases."""

    max: float = 0.0
    #: largest magnitude of the reference, masks of absent objects left out
    scale: float = 0.0
    _count: int = 0
    _sum: float = 0.0
    _products: Array = field(default_factory=lambda: np.zeros(3))

    def include(self, expected: Array, found: Array) -> None:
        if not expected.size:
            return
        a, b = expected.astype(np.float64), found.astype(np.float64)
        difference = np.abs(a - b)
        # NaN compares with nothing
        self.max = max(self.max, float(np.nan_to_num(difference, nan=np.inf).max()))
        self.scale = max(self.scale, float(np.abs(a[a != NO_OBJECT_LOGIT]).max(initial=0)))
        self._count += a.size
        self._sum += float(difference.sum())
        self._products += (a @ b, a @ a, b @ b)

    @property
    def relative(self) -> float:
        return self.max / self.scale if self.scale > 0 else float(self.max > 0)

    @property
    def mean(self) -> float:
        return self._sum / max(self._count, 1)

    @property
    def cosine(self) -> float:
        ab, aa, bb = (float(x) for x in self._products)
        # an output that is zero throughout has no direction
        return ab / (aa * bb) ** 0.5 if aa > 0 and bb > 0 else float(aa == bb)

    def as_dict(self) -> dict[str, float]:
        names = ("max", "mean", "cosine", "scale")
        return {name: float(getattr(self, name)) for name in names}


@dataclass
class Report:
    """How far a session is from a record; :meth:`as_dict` goes into the manifest."""

    outputs: dict[str, OutputDifference] = field(default_factory=dict)
    #: decoder calls in which another of the four masks was chosen, of all cases and the loop
    flips: int = 0
    #: objects that were present in one and absent in the other
    presence_flips: int = 0
    lowest_iou: float = 1.0
    #: largest difference of the loop's logits where the objects' presence agrees
    loop_max: float = 0.0
    #: results of the loop in which the reference has the object present, and all
    present: int = 0
    results: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "outputs": {name: d.as_dict() for name, d in self.outputs.items()},
            "clip": {
                "lowest_iou": self.lowest_iou,
                "max": self.loop_max,
                "present": self.present,
                "results": self.results,
            },
            "flips": self.flips,
            "presence_flips": self.presence_flips,
        }


def compare(
    expected: Record,
    session: Session,
    bounds: Bounds,
    *,
    progress: Progress | None = None,
) -> Report:
    """Run the record's work on `session` and compare; the caller judges with :func:`problems`."""
    config, report = expected.config, Report()
    tell = _steps(progress, "proof", expected.frames + len(CASES))
    for case in CASES:
        inputs = case_inputs(case, config, expected.statistics, expected.seed)
        _compare_case(report, case, expected.outputs[case.key], session.run(case.graph, inputs))
        tell()
    clip = make_clip(config, expected.frames, expected.seed)
    for wanted, found in zip(expected.loop, closed_loop(Listener(session), clip), strict=True):
        _compare_frame(report, wanted, found, bounds.relative)
        tell()
    return report


def _compare_case(
    report: Report, case: Case, expected: Mapping[str, Sample], found: Mapping[str, Array]
) -> None:
    kept = np.ones(case.sizes.get("N", case.sizes.get("B", 1)), bool)
    if case.graph == "mask_decoder":
        kept = _agreeing_rows(report, expected, found)
    for name, sample in expected.items():
        entry = report.outputs.setdefault(f"{case.graph}.{name}", OutputDifference())
        if found[name].shape != sample.shape:
            entry.max = np.inf
            continue
        wanted, value = sample.values, sample.like(found[name])
        if case.graph == "mask_decoder" and name in _CHOSEN:
            places = kept[sample.rows()]
            wanted, value = wanted[places], value[places]
        entry.include(wanted, value)


def _agreeing_rows(
    report: Report, expected: Mapping[str, Sample], found: Mapping[str, Array]
) -> Array:
    """Objects for which the same mask was chosen and presence agrees; the others are counted."""
    small = {n: expected[n].values.reshape(expected[n].shape) for n in ("all_ious", "iou")}
    flipped = chosen_masks(small) != chosen_masks(found)
    score = expected["object_score"].values
    vanished = (score > 0) != (found["object_score"].ravel() > 0)
    report.flips += int(flipped.sum())
    report.presence_flips += int(vanished.sum())
    agreeing: Array = ~flipped & ~vanished
    return agreeing


def _compare_frame(report: Report, wanted: LoopFrame, found: LoopFrame, near: float) -> None:
    report.flips += sum(a != b for a, b in zip(wanted.choices, found.choices, strict=True))
    present = (wanted.scores > 0, found.scores > 0)
    report.results += len(wanted.scores)
    report.present += int(present[0].sum())
    report.presence_flips += int((present[0] != present[1]).sum())
    for i, (a, b) in enumerate(zip(wanted.logits, found.logits, strict=True)):
        if present[0][i] and present[1][i]:
            report.loop_max = max(report.loop_max, float(np.abs(a - b).max()))
        report.lowest_iou = min(report.lowest_iou, mask_iou(a, b, near))


def mask_iou(expected: Array, found: Array, near: float) -> float:
    """IoU of two masks given as logits; 1 when both are empty.

    Pixels whose expected logit is within `near` of the largest one from zero agree with anything.
    """
    certain = np.abs(expected) > near * np.abs(expected).max()
    a = expected > 0
    b = np.where(certain, found > 0, a)
    union = int(np.count_nonzero(a | b))
    return int(np.count_nonzero(a & b)) / union if union else 1.0


def problems(report: Report, bounds: Bounds) -> list[str]:
    """Everything of a report that is out of bounds, the largest difference first."""
    far = [
        (difference.relative, name, difference)
        for name, difference in report.outputs.items()
        if not (difference.relative <= bounds.relative and difference.cosine >= bounds.cosine)
    ]
    found = [
        f"{name} differs by {d.max:.3g} at scale {d.scale:.3g}, cosine {d.cosine:.6f} "
        f"(bounds {bounds.relative:g} of the scale, {bounds.cosine:g})"
        for _, name, d in sorted(far, key=lambda item: -item[0])
    ]
    if not report.lowest_iou >= bounds.iou:
        found.append(f"mask IoU {report.lowest_iou:.4f} in the clip (bound {bounds.iou:g})")
    return found


def check(report: Report, bounds: Bounds, what: str) -> None:
    """Raise ProofError naming the worst output and the number of others out of bounds."""
    if found := problems(report, bounds):
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise ProofError(f"{what} does not equal the reference: {found[0]}{more}")


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
        arrays[f"loop/{t}/choices"] = np.array(frame.choices, np.int64)
    about = {
        "version": _VERSION, "seed": recorded.seed, "frames": recorded.frames, "shapes": shapes,
    }  # fmt: skip
    arrays["about"] = np.frombuffer(json.dumps(about).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # type: ignore[arg-type]
    path.write_bytes(buffer.getvalue())


def load_record(path: Path, config: ModelConfig) -> Record:
    """Read a record of a model; BundleError when it is of another version."""
    with np.load(path, allow_pickle=False) as data:
        about = json.loads(data["about"].tobytes())
        if about["version"] != _VERSION or set(about["shapes"]) != {c.key for c in CASES}:
            raise BundleError(
                f"{path} was recorded by another version of sam2rt: export the bundle again"
            )
        statistics = {
            key.partition("/")[2]: data[key] for key in data if key.startswith("statistics/")
        }
        outputs = {
            key: {
                name: Sample(tuple(shape), stride, data[f"outputs/{key}/{name}"])
                for name, (stride, *shape) in named.items()
            }
            for key, named in about["shapes"].items()
        }
        loop = [
            LoopFrame(
                data[f"loop/{t}/logits"],
                data[f"loop/{t}/scores"],
                data[f"loop/{t}/choices"].tolist(),
            )
            for t in range(about["frames"])
        ]
    return Record(config, about["seed"], about["frames"], statistics, outputs, loop)
