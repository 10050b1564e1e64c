"""Region similarity J and boundary accuracy F of masks, and how datasets average them.

J is the Jaccard index, F the F-measure of boundary pixels matched within a tolerance of 0.8 % of
the image's diagonal (Perazzi et al., CVPR 2016; Pont-Tuset et al., arXiv 1704.00675). What
differs between datasets is which frames and which objects count: see :data:`RULES`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from ...configs.errors import InputError
from ...runtime.packages import opencv

Mask = NDArray[np.bool_]
#: boundary tolerance as a fraction of the image's diagonal
TOLERANCE = 0.008
#: label of pixels the annotators left undecided
UNDECIDED = 255


def region_similarity(mask: Mask, truth: Mask, void: Mask | None = None) -> float:
    """J: intersection over union of two masks [H, W]; 1 when both are empty.

    Pixels of `void` count nowhere. Raises InputError when the shapes differ.
    """
    _check_shapes(mask, truth, void)
    if void is not None:
        mask, truth = mask & ~void, truth & ~void
    union = int(np.count_nonzero(mask | truth))
    return int(np.count_nonzero(mask & truth)) / union if union else 1.0


def boundary_accuracy(
    mask: Mask, truth: Mask, void: Mask | None = None, tolerance: float = TOLERANCE
) -> float:
    """F: harmonic mean of boundary precision and recall of two masks [H, W].

    A boundary pixel is matched when one of the other mask's lies within ceil(tolerance *
    diagonal) pixels. Without any boundary in both masks F is 1, in one of them 0.
    Raises InputError when the shapes differ.
    """
    _check_shapes(mask, truth, void)
    if void is not None:
        mask, truth = mask & ~void, truth & ~void
    found, wanted = boundary(mask), boundary(truth)
    n_found, n_wanted = int(np.count_nonzero(found)), int(np.count_nonzero(wanted))
    if n_found == 0 or n_wanted == 0:
        return float(n_found == n_wanted)
    radius = tolerance_pixels(mask.shape, tolerance)
    window = _window(found | wanted)
    found, wanted = found[window], wanted[window]
    precision = _count_near(found, wanted, radius) / n_found
    recall = _count_near(wanted, found, radius) / n_wanted
    total = precision + recall
    return 2 * precision * recall / total if total else 0.0


def boundary(mask: Mask) -> Mask:
    """Pixels [H, W] that differ from their right, lower or lower right neighbour.

    One pixel wide, half a pixel towards the origin from the outline, as the benchmark's
    ``seg2bmap``: beyond the last row and column the mask goes on as it is.
    """
    grown = np.pad(mask, ((0, 1), (0, 1)), mode="edge")
    edges: Mask = mask ^ grown[:-1, 1:]
    edges |= mask ^ grown[1:, :-1]
    edges |= mask ^ grown[1:, 1:]
    return edges


def tolerance_pixels(shape: tuple[int, ...], tolerance: float = TOLERANCE) -> int:
    """The matching distance in pixels for an image of that (height, width)."""
    return math.ceil(tolerance * float(np.linalg.norm(shape)))


def _count_near(pixels: Mask, others: Mask, radius: int) -> int:
    """How many of `pixels` have one of `others` within `radius`, as a disk's dilation would say."""
    cv2 = opencv("boundary accuracy")
    away = np.logical_not(others).astype(np.uint8)
    distance = cv2.distanceTransform(away, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    # squared distances are integers: half a step tells them apart whatever the rounding
    return int(np.count_nonzero(distance[pixels] ** 2 < radius**2 + 0.5))


def _window(mask: Mask) -> tuple[slice, slice]:
    rows, cols = (np.flatnonzero(mask.any(axis=axis)) for axis in (1, 0))
    return slice(rows[0], rows[-1] + 1), slice(cols[0], cols[-1] + 1)


def _check_shapes(mask: Mask, truth: Mask, void: Mask | None) -> None:
    shapes = {m.shape for m in (mask, truth, void) if m is not None}
    if len(shapes) > 1 or mask.ndim != 2:
        raise InputError(
            f"a mask of shape {mask.shape} cannot be compared with a truth of shape "
            f"{truth.shape}: expected two equal (height, width)"
        )


@dataclass(frozen=True)
class Rule:
    """Which frames of an object count.

    ends: "video" leaves out the first and last annotated frame of the video, "object" those of
    each object's own range of frames, "none" nothing.
    count: "always" counts every other frame; "seen" counts from the first one on which the truth
    or the prediction shows the object, and only objects that the truth shows on one of them.
    void: label of pixels that count nowhere, None where a dataset has none.
    source: the evaluator that defines the rule.
    """

    ends: Literal["video", "object", "none"]
    count: Literal["always", "seen"]
    void: int | None
    source: str


RULES: dict[str, Rule] = {
    "davis": Rule(
        "video",
        "always",
        UNDECIDED,
        "davisvideochallenge/davis2017-evaluation, davis2017/evaluation.py",
    ),
    "mose": Rule(
        "video", "always", None, "henghuiding/MOSE-api, MOSEv2/sam2_rcms/tools/score.py (J, F)"
    ),
    "sav": Rule("video", "seen", None, "facebookresearch/sam2, sav_dataset/utils/sav_benchmark.py"),
    "lvos": Rule("object", "always", None, "LingyiHongfd/lvos-evaluation, lvos/evaluation.py"),
    # of this project: the frame of an object's first prompt is not scored, wherever it lies
    "synthetic": Rule("object", "always", None, "sam2rt"),
}


@dataclass(frozen=True)
class FrameScore:
    """One object on one annotated frame. visible: the truth shows it; seen: either does."""

    frame: int
    j: float
    f: float
    visible: bool
    seen: bool


def score_frame(frame: int, mask: Mask, truth: Mask, void: Mask | None = None) -> FrameScore:
    """J and F of one object on one frame; masks [H, W]."""
    visible = bool(truth.any())
    return FrameScore(
        frame,
        region_similarity(mask, truth, void),
        boundary_accuracy(mask, truth, void),
        visible,
        visible or bool(mask.any()),
    )


def counted(
    scores: Sequence[FrameScore], rule: Rule, annotated: Sequence[int], span: tuple[int, int]
) -> list[FrameScore]:
    """The frames of one object that the rule counts, in order.

    scores: one per annotated frame. annotated: the video's annotated frames. span: first and
    last frame of the object's own range, both inclusive.
    """
    first, last = span if rule.ends == "object" else (min(annotated), max(annotated))
    chosen = sorted((s for s in scores if first <= s.frame <= last), key=lambda s: s.frame)
    if rule.ends != "none":
        chosen = [s for s in chosen if s.frame not in (first, last)]
    if rule.count == "seen":
        start = next((i for i, s in enumerate(chosen) if s.seen), len(chosen))
        chosen = chosen[start:] if any(s.visible for s in chosen) else []
    return chosen


@dataclass(frozen=True)
class Score:
    """Means over the frames of an object, or over objects; all in 0..1."""

    j: float
    f: float

    @property
    def jf(self) -> float:
        """J&F, the mean of J and F."""
        return (self.j + self.f) / 2

    def as_dict(self) -> dict[str, float]:
        return {"J&F": self.jf, "J": self.j, "F": self.f}


def mean_score(scores: Iterable[FrameScore] | Iterable[Score]) -> Score | None:
    """The mean of J and of F, None without any."""
    pairs = [(s.j, s.f) for s in scores]
    if not pairs:
        return None
    j, f = np.mean(pairs, axis=0)
    return Score(float(j), float(f))


def score_labels(
    predicted: Mapping[int, NDArray[Any]], truth: Mapping[int, NDArray[Any]], rule: Rule
) -> dict[int, Score]:
    """Score a video of label maps: object id -> its means over the counted frames.

    predicted, truth: frame index -> ids [H, W], 0 for background; the annotated frames are those
    of `truth`. Objects are those of the truth: one that the prediction lacks scores against empty
    masks, one that the truth lacks gets no score. Raises InputError for a frame without a
    prediction and for unequal sizes.
    """
    annotated = sorted(truth)
    ids = object_ids(truth.values())
    frames: dict[int, list[FrameScore]] = {i: [] for i in ids}
    for index in annotated:
        if index not in predicted:
            raise InputError(f"frame {index} is annotated but has no prediction: give one")
        void = None if rule.void is None else truth[index] == rule.void
        for i in ids:
            frames[i].append(score_frame(index, predicted[index] == i, truth[index] == i, void))
    means = {}
    for i, scores in frames.items():
        shown = [s.frame for s in scores if s.visible]
        mean = mean_score(counted(scores, rule, annotated, (shown[0], shown[-1])))
        if mean is not None:
            means[i] = mean
    return means


def object_ids(maps: Iterable[NDArray[Any]]) -> list[int]:
    """Ids in label maps, ascending; 0 is background and 255 undecided, whatever the rule."""
    ids: set[int] = set()
    for labels in maps:
        ids.update(np.unique(labels).tolist())
    return sorted(ids - {0, UNDECIDED})


def ranking_accuracy(scores: Sequence[float], present: Sequence[bool]) -> float | None:
    """AUC: how often a score of a present object exceeds one of an absent object (ties: half).

    None unless there are both kinds.
    """
    values, labels = np.asarray(scores, np.float64), np.asarray(present, bool)
    positives, negatives = values[labels], np.sort(values[~labels])
    if not positives.size or not negatives.size:
        return None
    below = np.searchsorted(negatives, positives, "left")
    up_to = np.searchsorted(negatives, positives, "right")
    return float((below + up_to).sum() / (2 * positives.size * negatives.size))
