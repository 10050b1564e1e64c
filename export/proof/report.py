"""How far a session is from a record, and how far it may be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from ...configs.bundle import Precision
from ...configs.errors import ProofError
from ...runtime.arrays import Array
from ...runtime.tracking.tracker import NO_OBJECT_LOGIT


@dataclass(frozen=True)
class Bounds:
    """How far a precision may be from the float32 reference.

    relative: largest difference of an output, as a share of the output's largest value.
    cosine: least cosine between an output and its reference; few: the same of an output of fewer
    than FEW values, of which one alone can turn the direction. iou: least mask IoU of an object
    on a frame of the closed loop; pixels closer to the threshold than `near`, a share of the
    largest logit, count as agreeing, and so does one pixel more: the loop feeds differences back,
    and a small mask has few pixels. tie: two predicted IoUs this close may be ordered differently;
    presence: an object score this close to 0 may have the other sign. edge: the memory of a clicked
    frame is made of pixels above 0 and below; one within this share of the largest logit may fall
    to either side, and what is tracked with another memory may leave the other bounds of the loop.
    Results of another choice or memory cannot be compared; the object drops out from there.
    """

    relative: float
    cosine: float
    few: float
    iou: float
    near: float
    tie: float
    presence: float
    edge: float


#: an output of fewer values over all cases is judged by Bounds.few
FEW = 100


#: fp32: reordered sums give up to 4e-6 at 256 pixels and 3e-5 at 1024, where attention sums
#: over 28 000 keys; other kernels need room. GELU's tanh approximation would show at 3e-4.
#: fp16 and bf16: 11 and 8 bits of mantissa through some 50 layers. Few values may be far off (a
#: softmax that tips over: 6 % seen in fp16 at 1024 pixels), the whole may not; the mask decides.
#: Single calls show the precision. In the loop, rounding of any size grows with weights that are
#: not trained: `near` and `presence` leave room for what was measured with such weights, see
#: docs/decisions/proof.md. Half precision moves pixels on every clicked frame: there the bounds
#: of the loop hold with them.
BOUNDS: dict[Precision, Bounds] = {
    "fp32": Bounds(
        1e-4, 0.999999, few=0.999999, iou=0.99, near=1e-3, tie=1e-3, presence=1e-3, edge=1e-4
    ),
    "fp16": Bounds(0.2, 0.9999, few=0.9997, iou=0.97, near=8e-2, tie=0.02, presence=1.0, edge=0),
    "bf16": Bounds(0.5, 0.998, few=0.98, iou=0.93, near=8e-2, tie=0.1, presence=2.0, edge=0),
    "int8": Bounds(0.5, 0.998, few=0.98, iou=0.93, near=8e-2, tie=0.1, presence=2.0, edge=0),
}


@dataclass
class OutputDifference:
    """Differences of one output over all cases."""

    max: float = 0.0
    #: largest magnitude of the reference, masks of absent objects left out
    scale: float = 0.0
    #: values that could differ: all but the fixed logit of masks of absent objects
    compared: int = 0
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
        self.compared += int(np.count_nonzero(a != NO_OBJECT_LOGIT))
        self._count += a.size
        self._sum += float(difference.sum())
        with np.errstate(invalid="ignore"):
            self._products += (a @ b, a @ a, b @ b)

    def least_cosine(self, bounds: Bounds) -> float:
        """The bound of this output's cosine."""
        return bounds.few if self._count < FEW else bounds.cosine

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
        return {name: float(getattr(self, name)) for name in names} | {"compared": self.compared}


@dataclass
class ProofReport:
    """How far a session is from a record; :meth:`as_dict` goes into the manifest."""

    outputs: dict[str, OutputDifference] = field(default_factory=dict)
    #: of the record's inputs
    seed: int | None = None
    #: objects on a frame (or in a case) for which another of the four masks was chosen
    flips: int = 0
    #: objects that were present in one and absent in the other
    presence_flips: int = 0
    #: flips that nothing excuses, as sentences
    wrong_choices: list[str] = field(default_factory=list)
    #: why the closed loop could not be tracked to its end
    broken: str = ""
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


def problems(report: ProofReport, bounds: Bounds) -> list[str]:
    """Everything of a report that is out of bounds, the largest difference first."""
    far = [
        (difference.relative, name, difference)
        for name, difference in report.outputs.items()
        if not difference.relative <= bounds.relative
        or not difference.cosine >= difference.least_cosine(bounds)
    ]
    found = [
        f"{name} differs by {d.max:.3g} at scale {d.scale:.3g}, cosine {d.cosine:.6f} "
        f"(bounds {bounds.relative:g} of the scale, {d.least_cosine(bounds):g})"
        for _, name, d in sorted(far, key=lambda item: -item[0])
    ]
    found += report.wrong_choices
    if report.broken:
        found.append(f"the clip cannot be tracked ({report.broken})")
    if not report.lowest_iou >= bounds.iou:
        found.append(f"mask IoU {report.lowest_iou:.4f} in the clip (bound {bounds.iou:g})")
    return found


def check(report: ProofReport, bounds: Bounds, what: str) -> None:
    """Raise ProofError naming the worst output, the number of others, and what repeats it."""
    if found := problems(report, bounds):
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        again = (
            "" if report.seed is None else f" (inputs of seed {report.seed}: --seed repeats them)"
        )
        raise ProofError(f"{what} does not equal the reference: {found[0]}{more}{again}")
