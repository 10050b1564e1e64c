"""The proof finds what differs, and only that."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from changed_session import Changed, shift

from sam2rt.cli.describe import proof_lines
from sam2rt.configs.errors import ProofError
from sam2rt.configs.graphs import graph_specs
from sam2rt.configs.models import MODELS
from sam2rt.export.model.reference import ReferenceSession
from sam2rt.export.proof.cases import CASES, Case, case_inputs
from sam2rt.export.proof.choices import chosen_masks, valid_choices
from sam2rt.export.proof.closed_loop import make_clip
from sam2rt.export.proof.compare import compare, mask_iou
from sam2rt.export.proof.record import Record
from sam2rt.export.proof.report import BOUNDS, OutputDifference, ProofReport, check, problems
from sam2rt.runtime.arrays import Array
from sam2rt.runtime.session import check_inputs

CONFIG = MODELS["micro"]
FP32 = BOUNDS["fp32"]


def test_the_reference_equals_itself(recorded: Record, reference: ReferenceSession) -> None:
    report = compare(recorded, reference, FP32)
    assert problems(report, FP32) == []
    assert {d.max for d in report.outputs.values()} == {0.0}
    assert (report.lowest_iou, report.flips, report.loop_max) == (1.0, 0, 0.0)
    assert report.compared == report.results == 1 + 2 + 6 * 3
    outputs = {f"{n}.{t.name}" for n, s in graph_specs(CONFIG).items() for t in s.outputs}
    assert set(report.outputs) == outputs
    json.dumps(report.as_dict(), allow_nan=False)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.key)
def test_inputs_fit_their_contract_and_repeat(case: Case, recorded: Record) -> None:
    inputs = case_inputs(case, CONFIG, recorded.statistics, 3)
    spec = graph_specs(CONFIG)[case.graph]
    check_inputs(spec, inputs)
    again = case_inputs(case, CONFIG, recorded.statistics, 3)
    other = case_inputs(case, CONFIG, recorded.statistics, 4)
    assert all(np.array_equal(inputs[n], again[n]) for n in inputs)
    assert any(not np.array_equal(inputs[n], other[n]) for n in inputs)


def test_inputs_have_the_scale_of_the_closed_loop(
    recorded: Record, reference: ReferenceSession
) -> None:
    mean, deviation = recorded.statistics["image_embed"]
    assert mean.shape == (CONFIG.hidden_dim,)
    case = next(c for c in CASES if c.graph == "memory_encoder")
    embed = case_inputs(case, CONFIG, recorded.statistics, 3)["image_embed"]
    assert np.abs(embed.mean((0, 2, 3)) - mean).max() < 0.5 * deviation.max()
    assert embed.std((0, 2, 3)) == pytest.approx(deviation, rel=0.5)


def test_clip_moves_and_repeats() -> None:
    clip = make_clip(CONFIG, 5, 11)
    assert clip.frames.shape == (5, 64, 64, 3)
    assert clip.frames.dtype == np.uint8
    assert np.array_equal(clip.frames, make_clip(CONFIG, 5, 11).frames)
    assert all((clip.frames[t] != clip.frames[t + 1]).any() for t in range(4))
    steps = np.diff(clip.centres, axis=0)
    assert np.allclose(steps, steps[0])
    assert np.abs(steps).max() <= 0.04 * 64


@pytest.mark.parametrize(
    ("graph", "output", "amount"),
    [
        ("image_encoder", "high_res_1", 0.02),
        ("memory_attention", "conditioned_embed", 0.01),
        ("mask_decoder", "obj_ptr", 0.01),
        ("mask_decoder", "all_ious", 1e-3),
        ("mask_prompt", "mask_input", 0.01),
        ("memory_encoder", "memory", 0.01),
    ],
)
def test_a_small_error_is_found_and_named(
    recorded: Record, reference: ReferenceSession, graph: str, output: str, amount: float
) -> None:
    report = compare(recorded, Changed(reference, graph, shift(output, amount)), FP32)
    found = next(p for p in problems(report, FP32) if p.startswith(f"{graph}.{output} "))
    assert report.outputs[f"{graph}.{output}"].max == pytest.approx(amount, rel=0.05)
    assert f"differs by {report.outputs[f'{graph}.{output}'].max:.3g}" in found
    with pytest.raises(ProofError, match="the export does not equal the reference: "):
        check(report, FP32, "the export")


def test_an_error_at_one_pixel_is_found(recorded: Record, reference: ReferenceSession) -> None:
    def change(outputs: dict[str, Array]) -> None:
        outputs["image_embed"] = outputs["image_embed"].copy()
        outputs["image_embed"][0, 3, 15, 15] += 1

    report = compare(recorded, Changed(reference, "image_encoder", change), FP32)
    assert any("image_encoder.image_embed differs by 1 " in p for p in problems(report, FP32))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_values_that_are_no_numbers_are_found(
    recorded: Record, reference: ReferenceSession, bad: float
) -> None:
    def change(outputs: dict[str, Array]) -> None:
        outputs["memory"] = np.full_like(outputs["memory"], bad)

    report = compare(recorded, Changed(reference, "memory_encoder", change), FP32)
    with pytest.raises(ProofError, match=r"memory_encoder\.memory differs by inf"):
        check(report, FP32, "the export")
    assert "the clip cannot be tracked (frame 1, object 1: " in problems(report, FP32)[-1]


def test_another_shape_is_found(recorded: Record, reference: ReferenceSession) -> None:
    def change(outputs: dict[str, Array]) -> None:
        outputs["no_obj_ptr"] = outputs["no_obj_ptr"][0]

    report = compare(recorded, Changed(reference, "mask_prompt", change), FP32)
    assert report.outputs["mask_prompt.no_obj_ptr"].max == np.inf
    assert any("mask_prompt.no_obj_ptr differs by inf" in p for p in problems(report, FP32))


def test_worst_output_comes_first(recorded: Record, reference: ReferenceSession) -> None:
    def change(outputs: dict[str, Array]) -> None:
        outputs["high_res_0"] = outputs["high_res_0"] * np.float32(1.01)
        outputs["high_res_1"] = -outputs["high_res_1"]

    report = compare(recorded, Changed(reference, "image_encoder", change), FP32)
    with pytest.raises(ProofError) as caught:
        check(report, FP32, "x")
    assert str(caught.value).startswith("x does not equal the reference: image_encoder.high_res_1")
    assert " more" in str(caught.value)


def _choose_another(outputs: dict[str, Array]) -> None:
    """Swap the best of masks 1..3 with the next, as a wrong argmax would."""
    order = outputs["all_ious"][:, 1:].argsort(axis=1)[:, ::-1] + 1
    # mask 0 is no matter of IoUs
    for i in np.flatnonzero(chosen_masks(outputs)):
        second = order[i, 1]
        outputs["iou"][i] = outputs["all_ious"][i, second]
        outputs["mask_logits"][i, 0] = outputs["all_mask_logits"][i, second]


def test_a_wrong_choice_is_no_tie(recorded: Record, reference: ReferenceSession) -> None:
    report = compare(recorded, Changed(reference, "mask_decoder", _choose_another), FP32)
    assert report.flips > 0
    assert any("was chosen instead of" in p for p in problems(report, FP32))


def test_a_tie_is_counted_and_not_compared(recorded: Record, reference: ReferenceSession) -> None:
    generous = replace(FP32, tie=1.0)
    report = compare(recorded, Changed(reference, "mask_decoder", _choose_another), generous)
    assert report.flips > 0
    assert report.compared < report.results
    assert problems(report, generous) == []


def _single_masks(outputs: dict[str, Array]) -> None:
    """Mask 0 for everybody, as a switch that is not read would give."""
    outputs["iou"] = outputs["all_ious"][:, :1]
    outputs["mask_logits"] = outputs["all_mask_logits"][:, :1]


def test_the_wrong_kind_of_mask_is_no_tie(recorded: Record, reference: ReferenceSession) -> None:
    """Objects of another choice leave the comparison: the choice itself has to be checked."""
    generous = replace(FP32, tie=1.0)
    report = compare(recorded, Changed(reference, "mask_decoder", _single_masks), generous)
    assert any(
        p.startswith("mask_logits is mask 0 instead of ") for p in problems(report, generous)
    )
    assert problems(compare(recorded, reference, generous), generous) == []


@pytest.mark.parametrize(
    ("inside", "band", "chosen", "multimask", "valid"),
    [
        (99, 1, 0, False, True),
        (99, 1, 2, False, False),
        (95, 5, 2, False, True),
        (95, 5, 0, False, False),
        # nothing above the threshold: stable by definition
        (0, 0, 0, False, True),
        (0, 0, 1, False, False),
        (99, 1, 2, True, True),
        (99, 1, 0, True, False),
    ],
)
def test_whether_mask_0_may_be_chosen(
    inside: int, band: int, chosen: int, multimask: bool, valid: bool
) -> None:
    logits = np.full((1, 4, 20, 20), -9, np.float32)
    flat = logits[0, 0].reshape(-1)
    flat[:inside], flat[inside : inside + band] = 9, 0.01
    ious = np.array([[0.9, 0.5, 0.7, 0.6]], np.float32)
    decoded = {"all_mask_logits": logits, "all_ious": ious, "iou": ious[:, chosen, None]}
    assert valid_choices(decoded, multimask, CONFIG).tolist() == [valid]
    # masks of the same IoU cannot be told apart
    alike = {**decoded, "all_ious": 0 * ious, "iou": 0 * ious[:, :1]}
    assert valid_choices(alike, multimask, CONFIG).tolist() == [True]


def test_every_kind_of_point_is_proved(recorded: Record) -> None:
    labels = [
        case_inputs(case, CONFIG, recorded.statistics, seed)["point_labels"]
        for case in CASES
        for seed in (1, 2)
        if case.graph == "mask_decoder" and case.sizes["P"] == 5
    ]
    assert [a.tolist() for a in labels] == [[[0, 1, 2, 3, -1]] * 2] * 2


def test_a_lost_object_is_found(recorded: Record, reference: ReferenceSession) -> None:
    def lose(outputs: dict[str, Array]) -> None:
        outputs["object_score"] = -outputs["object_score"]
        outputs["mask_logits"] = np.full_like(outputs["mask_logits"], -1024)

    report = compare(recorded, Changed(reference, "mask_decoder", lose), FP32)
    assert report.presence_flips > 0
    assert any(p.startswith("object score -") for p in problems(report, FP32))


def test_drift_of_the_loop_is_found(recorded: Record) -> None:
    """Graphs may each be right while what is fed back is not: here another frame's encoder."""
    report = ProofReport(lowest_iou=0.9, results=3, compared=3)
    assert problems(report, FP32) == ["mask IoU 0.9000 in the clip (bound 0.99)"]
    assert problems(ProofReport(lowest_iou=float("nan")), FP32) != []


@pytest.mark.parametrize(
    ("expected", "found", "iou"),
    [
        ([5, 5, -5, -5], [5, 5, -5, -5], 1.0),
        ([5, 5, -5, -5], [5, -5, -5, -5], 0.5),
        ([5, 5, -5, -5], [5, 5, 5, -5], 2 / 3),
        ([-5, -5], [-1, -2], 1.0),
        ([-5, -5], [-1, 2], 0.0),
        # 0.001 of the largest logit: on no side of the threshold
        ([5, 0.004, -5], [5, -0.1, -5], 1.0),
        ([5, 0.006, -5], [5, -0.1, -5], 0.5),
        ([-1024, -1024], [5, -5], 0.0),
    ],
)
def test_mask_iou(expected: list[float], found: list[float], iou: float) -> None:
    assert mask_iou(np.array(expected), np.array(found), 1e-3) == pytest.approx(iou)


def test_a_spare_pixel_saves_a_small_mask_alone() -> None:
    expected, found = np.full(400, -5.0), np.full(400, -5.0)
    expected[:3], found[:2] = 5, 5
    assert mask_iou(expected, found, 1e-3) == pytest.approx(2 / 3)
    assert mask_iou(expected, found, 1e-3, spare=1) == 1.0
    expected[:200], found[:150] = 5, 5
    assert mask_iou(expected, found, 1e-3, spare=1) == pytest.approx(151 / 200)


def _another_way(recorded: Record, level: float, lost_from: int) -> Record:
    """The record, where a pixel of the box's mask had that logit, and its mask went elsewhere."""
    loop = list(recorded.loop)
    boxed = loop[1].logits.copy()
    # a block of one value keeps it when it is enlarged
    boxed[1, 10:13, 10:13] = level or boxed[1, 10:13, 10:13]
    loop[1] = replace(loop[1], logits=boxed)
    for t in range(lost_from, len(loop)):
        logits = loop[t].logits.copy()
        logits[1] = -logits[1]
        loop[t] = replace(loop[t], logits=logits)
    return replace(recorded, loop=loop)


@pytest.mark.parametrize("lost_from", [3, 99])
@pytest.mark.parametrize(
    ("precision", "share", "free"),
    [("fp32", 0.5e-4, True), ("fp32", 2e-4, False), ("fp32", 0, False), ("bf16", 0.5e-4, False)],
)
def test_another_memory_may_go_another_way(
    precision: Any,
    share: float,
    free: bool,
    lost_from: int,
    recorded: Record,
    reference: ReferenceSession,
) -> None:
    """Only where the pixel that fell otherwise was within rounding of 0."""
    bounds = BOUNDS[precision]
    logits = recorded.loop[1].logits[1]
    level = share * float(np.abs(logits).max()) * (-1 if logits[11, 11] > 0 else 1)
    report = compare(_another_way(recorded, level, lost_from), reference, bounds)
    lost = max(0, len(recorded.loop) - lost_from)
    left = lost if free else 0
    assert (report.results - report.compared, report.flips) == (left, int(left > 0))
    assert report.results == 3 * len(recorded.loop) - 3
    assert (problems(report, bounds) == []) is (free or not lost)


def test_an_output_of_few_values_has_a_cosine_of_its_own() -> None:
    bounds = BOUNDS["bf16"]
    scores, many = OutputDifference(), OutputDifference()
    # three object scores of bf16, as a correct export gave them, and as many times over
    expected, found = np.array([1.18, 0.5, -0.3]), np.array([1.07, 0.55, -0.25])
    scores.include(expected, found)
    many.include(np.tile(expected, 50), np.tile(found, 50))
    assert scores.cosine == pytest.approx(many.cosine)
    assert bounds.few < scores.cosine < bounds.cosine
    report = ProofReport(outputs={"a.few": scores, "a.many": many})
    assert [p.partition(" ")[0] for p in problems(report, bounds)] == ["a.many"]


def test_a_score_and_an_iou_have_ties_of_their_own(
    recorded: Record, reference: ReferenceSession
) -> None:
    least = min(float(np.abs(frame.scores).min()) for frame in recorded.loop)

    def lose(outputs: dict[str, Array]) -> None:
        outputs["object_score"] = -outputs["object_score"]

    changed = Changed(reference, "mask_decoder", lose)
    told = problems(compare(recorded, changed, replace(FP32, presence=least / 2)), FP32)
    assert any(p.endswith(f"(a tie is {least / 2:g})") for p in told)
    quiet = problems(compare(recorded, changed, replace(FP32, presence=1e9)), FP32)
    assert not any(p.startswith("object score ") for p in quiet)


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_a_loop_that_forgets_is_found_in_half_precision(
    precision: Any, recorded: Record, reference: ReferenceSession
) -> None:
    """Room for rounding is no room for a memory of something else."""

    def forget(outputs: dict[str, Array]) -> None:
        outputs["memory"] = outputs["memory"][:, ::-1].copy()

    bounds = BOUNDS[precision]
    report = compare(recorded, Changed(reference, "memory_encoder", forget), bounds)
    found = problems(report, bounds)
    assert any(p.startswith("memory_encoder.memory differs by ") for p in found)


def test_masks_of_absent_objects_compare_nothing() -> None:
    difference = OutputDifference()
    difference.include(np.full(5, -1024.0), np.full(5, -1024.0))
    assert difference.as_dict()["compared"] == 0
    difference.include(np.array([-1024.0, 2.0, 0.0]), np.array([-1024.0, 2.0, 0.0]))
    assert difference.as_dict()["compared"] == 2


def test_a_row_that_compares_nothing_says_so() -> None:
    row = {"max": 0.0, "mean": 0.0, "scale": 0.0, "cosine": 1.0}
    clip = {"lowest_iou": 1.0, "compared": 9, "results": 9}
    proof = {
        "status": "passed", "backend": "onnxruntime", "device": "cpu", "seed": 3, "frames": 4,
        "emulated": False, "flips": 0, "presence_flips": 0, "clip": clip,
        "bounds": {"relative": 1e-4, "cosine": 0.9, "iou": 0.9},
        "outputs": {
            "track_step.mask_logits": {**row, "compared": 0},
            # zeros that are compared, and a manifest that does not count
            "a.zeros": {**row, "compared": 7},
            "a.older": row,
        },
    }  # fmt: skip
    lines = [line.split() for line in proof_lines(proof)]
    left_out = ["left", "out:", "no", "object", "is", "present", "in", "its", "single", "calls"]
    assert ["track_step.mask_logits", *left_out] in lines
    assert ["a.older", *left_out] in lines
    assert ["a.zeros", "0.00e+00", "0.0e+00", "0", "1.0000000"] in lines


def test_a_failed_proof_names_its_seed(recorded: Record, reference: ReferenceSession) -> None:
    report = compare(recorded, Changed(reference, "memory_encoder", shift("memory", 0.5)), FP32)
    with pytest.raises(ProofError) as caught:
        check(report, FP32, "the export")
    assert str(caught.value).endswith(" (inputs of seed 7: --seed repeats them)")


def test_differences_add_up() -> None:
    difference = OutputDifference()
    difference.include(np.array([3.0, -4.0]), np.array([3.0, -4.5]))
    difference.include(np.array([-1024.0, 1.0]), np.array([-1024.0, 1.0]))
    assert (difference.max, difference.scale, difference.mean) == (0.5, 4.0, 0.125)
    assert difference.relative == 0.125
    a, b = np.array([3, -4, -1024, 1]), np.array([3, -4.5, -1024, 1])
    assert difference.cosine == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b))


def test_zeros_equal_zeros_only() -> None:
    zeros = OutputDifference()
    zeros.include(np.zeros(3), np.zeros(3))
    assert (zeros.relative, zeros.cosine) == (0.0, 1.0)
    other = OutputDifference()
    other.include(np.zeros(3), np.full(3, 1e-9))
    assert (other.relative, other.cosine) == (1.0, 0.0)
