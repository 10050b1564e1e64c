"""The proof: the same work on the reference and on the new graphs, compared output by output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...configs.bundle import Precision
from ...configs.errors import ProofError
from ...configs.models import ModelConfig
from ...configs.progress import Progress, silent, steps
from ...runtime.arrays import Array
from ...runtime.session import Session
from ...runtime.tracking.tracker import NO_OBJECT_LOGIT
from .record import Record, Sample
from .work import (
    CASES,
    Case,
    Listener,
    LoopFrame,
    case_inputs,
    chosen_masks,
    closed_loop,
    lawful_choices,
    make_clip,
)

#: outputs of the decoder that belong to the mask it chose
_CHOSEN = ("mask_logits", "iou", "obj_ptr", "new_memory")


@dataclass(frozen=True)
class Bounds:
    """How far a precision may be from the float32 reference.

    relative: largest difference of an output, as a share of the output's largest value.
    cosine: least cosine between an output and its reference. iou: least mask IoU of an object
    on a frame of the closed loop; pixels closer to the threshold than `near`, a share of the
    largest logit, count as agreeing: the loop feeds differences back.
    tie: two predicted IoUs, or an object score and 0, this close may be ordered differently.
    Results of another choice cannot be compared; in the loop the object drops out from there.
    """

    relative: float
    cosine: float
    iou: float
    near: float
    tie: float


#: fp32: reordered sums give up to 4e-6 at 256 pixels and 3e-5 at 1024, where attention sums
#: over 28 000 keys; other kernels need room. GELU's tanh approximation would show at 3e-4.
#: fp16 and bf16: 11 and 8 bits of mantissa through some 50 layers. Few values may be far off (a
#: softmax that tips over: 6 % seen in fp16 at 1024 pixels), the whole may not; the mask decides.
BOUNDS: dict[Precision, Bounds] = {
    "fp32": Bounds(relative=1e-4, cosine=0.999999, iou=0.99, near=1e-3, tie=1e-3),
    "fp16": Bounds(relative=0.2, cosine=0.9999, iou=0.97, near=5e-3, tie=0.02),
    "bf16": Bounds(relative=0.5, cosine=0.998, iou=0.93, near=2e-2, tie=0.1),
    "int8": Bounds(relative=0.5, cosine=0.998, iou=0.93, near=2e-2, tie=0.1),
}


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
        self.max = max(self.max, float(np.nan_to_num(difference, nan=np.inf, posinf=np.inf).max()))
        self.scale = max(self.scale, float(np.abs(a[a != NO_OBJECT_LOGIT]).max(initial=0)))
        self._count += a.size
        self._sum += float(difference.sum())
        with np.errstate(invalid="ignore"):
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
    #: objects on a frame (or in a case) for which another of the four masks was chosen
    flips: int = 0
    #: objects that were present in one and absent in the other
    presence_flips: int = 0
    #: flips that nothing excuses, as sentences
    wrong_choices: list[str] = field(default_factory=list)
    lowest_iou: float = 1.0
    #: largest difference of the loop's logits
    loop_max: float = 0.0
    #: results (an object on a frame) of the loop, and how many of them were compared
    results: int = 0
    compared: int = 0
    #: results in which the reference has the object present
    present: int = 0

    def as_dict(self) -> dict[str, Any]:
        return {
            "outputs": {name: d.as_dict() for name, d in self.outputs.items()},
            "clip": {
                "lowest_iou": self.lowest_iou,
                "max": self.loop_max,
                "results": self.results,
                "compared": self.compared,
                "present": self.present,
            },
            "flips": self.flips,
            "presence_flips": self.presence_flips,
        }


def compare(
    expected: Record,
    session: Session,
    bounds: Bounds,
    *,
    progress: Progress = silent,
) -> Report:
    """Run the record's work on `session` and compare; the caller judges with :func:`problems`."""
    config, report = expected.config, Report()
    # engines are built from some of a bundle's graphs
    cases = [c for c in CASES if c.key in expected.outputs and c.graph in session.graphs]
    tell = steps(progress, "proof", expected.frames + len(cases))
    for case in cases:
        inputs = case_inputs(case, config, expected.statistics, expected.seed)
        found = session.run(case.graph, inputs)
        _compare_case(report, case, config, expected.outputs[case.key], found, bounds)
        tell()
    clip = make_clip(config, expected.frames, expected.seed)
    dropped: set[int] = set()
    for wanted, result in zip(expected.loop, closed_loop(Listener(session), clip), strict=True):
        _compare_frame(report, wanted, result, bounds, dropped)
        tell()
    return report


def _compare_case(
    report: Report, case: Case, config: ModelConfig, expected: Mapping[str, Sample],
    found: Mapping[str, Array], bounds: Bounds,
) -> None:  # fmt: skip
    kept = np.ones(case.sizes.get("N", case.sizes.get("B", 1)), bool)
    decides = "all_ious" in expected
    if decides:
        several = case.switch or case.graph != "mask_decoder"
        lawful = lawful_choices(found, several, config)
        kept = _agreeing_rows(report, expected, found, lawful, bounds)
    for name, sample in expected.items():
        entry = report.outputs.setdefault(f"{case.graph}.{name}", OutputDifference())
        if found[name].shape != sample.shape:
            entry.max = np.inf
            continue
        wanted, value = sample.values, sample.like(found[name])
        if decides and name in _CHOSEN:
            places = kept[sample.rows()]
            wanted, value = wanted[places], value[places]
        entry.include(wanted, value)


@dataclass(frozen=True)
class _Decision:
    """What the decoder decided for one object."""

    #: predicted IoUs of the four masks, [4]
    ious: Array
    choice: int
    score: float
    #: whether its own outputs lead to its taking mask 0 or passing it over
    lawful: bool


def _decisions(decoded: Mapping[str, Array], lawful: Array | None) -> list[_Decision]:
    scores = decoded["object_score"].ravel()
    return _joined(decoded["all_ious"], chosen_masks(decoded), scores, lawful)


def _loop_decisions(frame: LoopFrame) -> list[_Decision]:
    return _joined(frame.ious, frame.choices, frame.scores, frame.lawful)


def _joined(ious: Array, choices: Array, scores: Array, lawful: Array | None) -> list[_Decision]:
    # the reference is not judged
    told = np.ones(len(ious), bool) if lawful is None else lawful
    columns = (ious, choices.tolist(), scores.tolist(), told.tolist())
    return [_Decision(*row) for row in zip(*columns, strict=True)]


def _agreeing_rows(
    report: Report, expected: Mapping[str, Sample], found: Mapping[str, Array], lawful: Array,
    bounds: Bounds,
) -> Array:  # fmt: skip
    """Objects for which the same mask was chosen and presence agrees; the others are counted."""
    small = ("all_ious", "iou", "object_score")
    wanted = {name: expected[name].values.reshape(expected[name].shape) for name in small}
    pairs = zip(_decisions(wanted, None), _decisions(found, lawful), strict=True)
    return np.array([_decided_alike(report, bounds, a, b) for a, b in pairs], bool)


def _decided_alike(report: Report, bounds: Bounds, wanted: _Decision, found: _Decision) -> bool:
    """Whether one object's mask and presence were decided alike; counts it if not."""
    flipped = wanted.choice != found.choice
    vanished = (wanted.score > 0) != (found.score > 0)
    report.flips += flipped
    report.presence_flips += vanished
    gap = float(abs(wanted.ious[wanted.choice] - wanted.ious[found.choice]))
    # mask 0 stands or falls by its stability, not by an IoU
    if flipped and not (wanted.choice and found.choice) and not found.lawful:
        report.wrong_choices.append(
            f"mask_logits is mask {found.choice} instead of {wanted.choice}, which neither "
            "multimask_output nor the stability of its own mask 0 accounts for"
        )
    if flipped and wanted.choice and found.choice and gap > bounds.tie:
        report.wrong_choices.append(
            f"mask {found.choice} was chosen instead of {wanted.choice}, whose IoU is {gap:.3f} "
            f"better (a tie is {bounds.tie:g})"
        )
    if vanished and abs(wanted.score) > bounds.tie:
        report.wrong_choices.append(
            f"object score {found.score:.3f} instead of {wanted.score:.3f} "
            f"(a tie is {bounds.tie:g})"
        )
    return not flipped and not vanished


def _compare_frame(
    report: Report, wanted: LoopFrame, found: LoopFrame, bounds: Bounds, dropped: set[int]
) -> None:
    report.results += len(wanted.scores)
    report.present += int((wanted.scores > 0).sum())
    pairs = zip(_loop_decisions(wanted), _loop_decisions(found), strict=True)
    for i, (before, after) in enumerate(pairs):
        if i in dropped or not _decided_alike(report, bounds, before, after):
            dropped.add(i)
            continue
        report.compared += 1
        a, b = wanted.logits[i], found.logits[i]
        report.loop_max = max(report.loop_max, float(np.abs(a - b).max()))
        report.lowest_iou = min(report.lowest_iou, mask_iou(a, b, bounds.near))


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
    found += report.wrong_choices
    if not report.lowest_iou >= bounds.iou:
        found.append(f"mask IoU {report.lowest_iou:.4f} in the clip (bound {bounds.iou:g})")
    return found


def check(report: Report, bounds: Bounds, what: str) -> None:
    """Raise ProofError naming the worst output and the number of others out of bounds."""
    if found := problems(report, bounds):
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise ProofError(f"{what} does not equal the reference: {found[0]}{more}")
