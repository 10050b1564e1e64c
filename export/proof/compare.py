"""The proof: the same work on the reference and on the new graphs, compared output by output."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from ...configs.errors import NotFiniteError
from ...configs.models import ModelConfig
from ...configs.progress import Progress, silent, steps
from ...runtime.arrays import Array
from ...runtime.pixels.upsample import upsample_bilinear
from ...runtime.session import Session
from .cases import CASES, Case, case_inputs
from .choices import chosen_masks, valid_choices
from .closed_loop import CLICKED, Listener, LoopFrame, closed_loop, make_clip
from .record import Record, Sample
from .report import Bounds, OutputDifference, ProofReport

#: outputs of the decoder that belong to the mask it chose
_CHOSEN = ("mask_logits", "iou", "obj_ptr", "new_memory")


def compare(
    expected: Record,
    session: Session,
    bounds: Bounds,
    *,
    progress: Progress = silent,
) -> ProofReport:
    """Run the record's work on `session` and compare; ``report.problems`` says what is wrong."""
    config, report = expected.config, ProofReport(seed=expected.seed)
    # engines are built from some of a bundle's graphs
    cases = [c for c in CASES if c.key in expected.outputs and c.graph in session.graphs]
    advance = steps(progress, "proof", expected.frames + len(cases))
    for case in cases:
        inputs = case_inputs(case, config, expected.statistics, expected.seed)
        found = session.run(case.graph, inputs)
        _compare_case(report, case, config, expected.outputs[case.key], found, bounds)
        advance()
    clip = make_clip(config, expected.frames, expected.seed)
    dropped: set[int] = set()
    #: objects that may go another way than the reference's
    free: set[int] = set()
    try:
        results = zip(expected.loop, closed_loop(Listener(session), clip), strict=True)
        for t, (wanted, result) in enumerate(results):
            _compare_frame(report, wanted, result, bounds, dropped, free)
            if t in CLICKED and _edge_moved(
                wanted.logits[t], result.logits[t], config.image_size, bounds.edge
            ):
                free.add(t)
            advance()
    except NotFiniteError as error:
        # which output it comes from stands in the single calls, where it was not fed back
        report.broken = str(error)
    return report


def _compare_case(
    report: ProofReport,
    case: Case,
    config: ModelConfig,
    expected: Mapping[str, Sample],
    found: Mapping[str, Array],
    bounds: Bounds,
) -> None:
    kept = np.ones(case.sizes.get("N", case.sizes.get("B", 1)), bool)
    decides = "all_ious" in expected
    if decides:
        several = case.switch or case.graph != "mask_decoder"
        valid = valid_choices(found, several, config)
        kept = _agreeing_objects(report, expected, found, valid, bounds)
    for name, sample in expected.items():
        entry = report.outputs.setdefault(f"{case.graph}.{name}", OutputDifference())
        if found[name].shape != sample.shape:
            entry.max = np.inf
            continue
        wanted, value = sample.values, sample.like(found[name])
        if decides and name in _CHOSEN:
            places = kept[sample.first_axis()]
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
    valid: bool


def _decisions(decoded: Mapping[str, Array], valid: Array | None) -> list[_Decision]:
    scores = decoded["object_score"].ravel()
    return _joined(decoded["all_ious"], chosen_masks(decoded), scores, valid)


def _loop_decisions(frame: LoopFrame) -> list[_Decision]:
    return _joined(frame.ious, frame.choices, frame.scores, frame.valid)


def _joined(ious: Array, choices: Array, scores: Array, valid: Array | None) -> list[_Decision]:
    # whether the reference's own choices are valid is not asked
    checked = np.ones(len(ious), bool) if valid is None else valid
    columns = (ious, choices.tolist(), scores.tolist(), checked.tolist())
    return [_Decision(*values) for values in zip(*columns, strict=True)]


def _agreeing_objects(
    report: ProofReport,
    expected: Mapping[str, Sample],
    found: Mapping[str, Array],
    valid: Array,
    bounds: Bounds,
) -> Array:
    """Objects for which the same mask was chosen and presence agrees; the others are counted."""
    small = ("all_ious", "iou", "object_score")
    wanted = {name: expected[name].values.reshape(expected[name].shape) for name in small}
    pairs = zip(_decisions(wanted, None), _decisions(found, valid), strict=True)
    return np.array([_decided_alike(report, bounds, a, b) for a, b in pairs], bool)


def _decided_alike(
    report: ProofReport, bounds: Bounds, wanted: _Decision, found: _Decision
) -> bool:
    """Whether one object's mask and presence were decided alike; counts it if not."""
    flipped = wanted.choice != found.choice
    vanished = (wanted.score > 0) != (found.score > 0)
    report.flips += flipped
    report.presence_flips += vanished
    gap = float(abs(wanted.ious[wanted.choice] - wanted.ious[found.choice]))
    # mask 0 stands or falls by its stability, not by an IoU
    if flipped and not (wanted.choice and found.choice) and not found.valid:
        report.wrong_choices.append(
            f"mask_logits is mask {found.choice} instead of {wanted.choice}, which neither "
            "multimask_output nor the stability of its own mask 0 accounts for"
        )
    if flipped and wanted.choice and found.choice and gap > bounds.tie:
        report.wrong_choices.append(
            f"mask {found.choice} was chosen instead of {wanted.choice}, whose IoU is {gap:.3f} "
            f"better (a tie is {bounds.tie:g})"
        )
    if vanished and abs(wanted.score) > bounds.presence:
        report.wrong_choices.append(
            f"object score {found.score:.3f} instead of {wanted.score:.3f} "
            f"(a tie is {bounds.presence:g})"
        )
    return not flipped and not vanished


def _compare_frame(
    report: ProofReport,
    wanted: LoopFrame,
    found: LoopFrame,
    bounds: Bounds,
    dropped: set[int],
    free: set[int],
) -> None:
    report.results += len(wanted.scores)
    report.present += int((wanted.scores > 0).sum())
    pairs = zip(_loop_decisions(wanted), _loop_decisions(found), strict=True)
    for i, (before, after) in enumerate(pairs):
        if i in dropped:
            continue
        a, b = wanted.logits[i], found.logits[i]
        iou = mask_iou(a, b, bounds.near, spare=1)
        if i in free and (
            not iou >= bounds.iou
            or (before.choice, before.score > 0) != (after.choice, after.score > 0)
        ):
            report.flips += 1
            dropped.add(i)
        elif not _decided_alike(report, bounds, before, after):
            dropped.add(i)
        else:
            report.compared += 1
            report.loop_max = max(report.loop_max, float(np.abs(a - b).max()))
            report.lowest_iou = min(report.lowest_iou, iou)


def _edge_moved(expected: Array, found: Array, image_size: int, edge: float) -> bool:
    """Whether a clicked mask, at the size it is remembered in, has a pixel on the other side of 0.

    Only pixels within `edge` of the largest logit from 0 excuse that, and each of them must be.
    """
    if not edge:
        return False
    size = (image_size, image_size)
    a, b = upsample_bilinear(expected, size), upsample_bilinear(found, size)
    moved = (a > 0) != (b > 0)
    largest = edge * np.abs(expected).max()
    return bool(moved.any() and (np.abs(a[moved]) <= largest).all())


def mask_iou(expected: Array, found: Array, near: float, spare: int = 0) -> float:
    """IoU of two masks given as logits; 1 when both are empty.

    Pixels whose expected logit is within `near` of the largest one from zero agree with anything,
    and so do `spare` more.
    """
    certain = np.abs(expected) > near * np.abs(expected).max()
    a = expected > 0
    b = np.where(certain, found > 0, a)
    union = int(np.count_nonzero(a | b))
    same = min(int(np.count_nonzero(a & b)) + spare, union)
    return same / union if union else 1.0
