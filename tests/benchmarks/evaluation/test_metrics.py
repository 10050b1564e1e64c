"""J and F against known answers, against a slow implementation, and each dataset's rule."""

from __future__ import annotations

import math

import cv2
import numpy as np
import pytest

from sam2rt.benchmarks.evaluation.metrics import (
    RULES,
    FrameScore,
    boundary,
    boundary_accuracy,
    counted,
    mean_score,
    object_ids,
    ranking_accuracy,
    region_similarity,
    score_frame,
    score_labels,
    tolerance_pixels,
)
from sam2rt.configs.errors import InputError


def square(top: int, left: int, side: int, size: tuple[int, int] = (64, 80)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[top : top + side, left : left + side] = True
    return mask


EMPTY = square(0, 0, 0)


def slow_boundary(mask: np.ndarray) -> set[tuple[int, int]]:
    """The benchmark's ``seg2bmap``, pixel by pixel."""
    height, width = mask.shape
    pixels = set()
    for y in range(height):
        for x in range(width):
            others = [(y, x + 1), (y + 1, x), (y + 1, x + 1)]
            inside = [(v, u) for v, u in others if v < height and u < width]
            if any(mask[v, u] != mask[y, x] for v, u in inside):
                pixels.add((y, x))
    return pixels


def slow_scores(mask: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """J by counting pixels one by one, F by looking for a match of every boundary pixel."""
    both = either = 0
    for a, b in zip(mask.ravel().tolist(), truth.ravel().tolist(), strict=True):
        both += a and b
        either += a or b
    found, wanted = slow_boundary(mask), slow_boundary(truth)
    reach = math.ceil(0.008 * math.hypot(*mask.shape))
    disk = [
        (v, u)
        for v in range(-reach, reach + 1)
        for u in range(-reach, reach + 1)
        if v * v + u * u <= reach * reach
    ]

    def share(pixels: set, others: set) -> float:
        hits = sum(any((y + v, x + u) in others for v, u in disk) for y, x in pixels)
        return hits / len(pixels)

    j = both / either if either else 1.0
    if not found or not wanted:
        return j, 1.0 if not found and not wanted else 0.0
    precision, recall = share(found, wanted), share(wanted, found)
    total = precision + recall
    return j, 2 * precision * recall / total if total else 0.0


def random_pair(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Blobs or noise, shifted and damaged; every tenth pair has an empty mask."""
    height, width = rng.integers(1, 90, 2)
    field = rng.normal(size=(height, width)).astype(np.float32)
    sigma = float(rng.uniform(0.2, 6))
    smooth = cv2.GaussianBlur(field, (0, 0), sigma)
    truth = smooth > np.quantile(smooth, rng.uniform(0.2, 0.95))
    mask = np.roll(truth, rng.integers(-4, 5, 2), (0, 1)) ^ (rng.random(truth.shape) < 0.02)
    if rng.random() < 0.1:
        mask = np.zeros_like(mask)
    return (mask, truth) if rng.random() < 0.5 else (truth, mask)


def test_equals_a_slow_implementation_on_200_random_masks() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        mask, truth = random_pair(rng)
        j, f = slow_scores(mask, truth)
        assert abs(region_similarity(mask, truth) - j) < 1e-9
        assert abs(boundary_accuracy(mask, truth) - f) < 1e-9


@pytest.mark.parametrize("size", [(480, 854), (1080, 1920), (33, 2000)])
def test_equals_dilation_by_a_disk(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(size[0])
    small = rng.normal(size=(9, 16)).astype(np.float32)
    truth = cv2.resize(small, size[::-1], interpolation=cv2.INTER_CUBIC) > 0.4
    mask = np.roll(truth, (3, -9), (0, 1))
    reach = tolerance_pixels(size)
    y, x = np.mgrid[-reach : reach + 1, -reach : reach + 1]
    disk = (x * x + y * y <= reach * reach).astype(np.uint8)
    found, wanted = boundary(mask), boundary(truth)
    near_found, near_wanted = (cv2.dilate(b.astype(np.uint8), disk) > 0 for b in (found, wanted))
    precision = (found & near_wanted).sum() / found.sum()
    recall = (wanted & near_found).sum() / wanted.sum()
    expected = 2 * precision * recall / (precision + recall)
    assert abs(boundary_accuracy(mask, truth) - expected) < 1e-9
    assert 0.2 < expected < 1


def test_boundary_tolerance_of_the_usual_sizes() -> None:
    """ceil(0.008 * diagonal): 480p DAVIS, full HD, the model's own 256."""
    assert tolerance_pixels((480, 854)) == 8
    assert tolerance_pixels((1080, 1920)) == 18
    assert tolerance_pixels((256, 256)) == 3


def test_hand_made_masks() -> None:
    truth = square(10, 10, 20)
    assert region_similarity(truth, truth) == 1
    assert boundary_accuracy(truth, truth) == 1
    # 20 x 20 moved by ten columns: 200 pixels shared of 600
    assert region_similarity(square(10, 20, 20), truth) == pytest.approx(1 / 3)
    # within the tolerance of one pixel the outline is right, the region is not
    assert tolerance_pixels((64, 80)) == 1
    assert boundary_accuracy(square(10, 11, 20), truth) == 1
    assert region_similarity(square(10, 11, 20), truth) == pytest.approx(380 / 420)
    assert boundary_accuracy(square(40, 50, 10), truth) == 0
    assert region_similarity(square(40, 50, 10), truth) == 0


def test_half_of_the_boundary() -> None:
    """The left half of a wide bar: all its own outline but the cut matches, half of the bar's."""
    truth, mask = np.zeros((64, 80), bool), np.zeros((64, 80), bool)
    truth[20:30, 10:70] = True
    mask[20:30, 10:40] = True
    found, wanted = slow_boundary(mask), slow_boundary(truth)
    # the cut is column 39; a pixel matches within one pixel
    hits_found = sum(x < 39 or y in (19, 20, 28, 29, 30) for y, x in found)
    hits_wanted = sum(x <= 40 and (x < 70) for y, x in wanted)
    precision, recall = hits_found / len(found), hits_wanted / len(wanted)
    expected = 2 * precision * recall / (precision + recall)
    assert boundary_accuracy(mask, truth) == pytest.approx(expected, abs=1e-12)
    assert region_similarity(mask, truth) == 0.5


def test_empty_masks() -> None:
    truth = square(10, 10, 20)
    assert region_similarity(EMPTY, EMPTY) == 1
    assert boundary_accuracy(EMPTY, EMPTY) == 1
    for mask, other in ((EMPTY, truth), (truth, EMPTY)):
        assert region_similarity(mask, other) == 0
        assert boundary_accuracy(mask, other) == 0


def test_a_mask_of_the_whole_picture_has_no_boundary() -> None:
    full = np.ones((64, 80), bool)
    assert boundary_accuracy(full, full) == 1
    assert boundary_accuracy(full, square(10, 10, 20)) == 0


def test_one_pixel_masks() -> None:
    one = square(30, 30, 1)
    assert boundary(one).sum() == 4
    assert region_similarity(one, one) == 1
    assert boundary_accuracy(one, one) == 1
    next_to = square(30, 31, 1)
    assert region_similarity(next_to, one) == 0
    assert boundary_accuracy(next_to, one) == 1
    # four boundary pixels in columns 31, 32 against 29, 30: only the inner pair is within one
    two_away = square(30, 32, 1)
    assert boundary_accuracy(two_away, one) == 0.5
    corner = square(63, 79, 1)
    assert sorted(map(tuple, np.argwhere(boundary(corner)))) == [(62, 78), (62, 79), (63, 78)]


def test_one_pixel_picture() -> None:
    dot = np.ones((1, 1), bool)
    assert region_similarity(dot, ~dot) == 0
    assert boundary_accuracy(dot, ~dot) == 1


def test_void_pixels_count_nowhere() -> None:
    truth, mask = square(10, 10, 20), square(10, 10, 30)
    void = mask & ~truth
    assert region_similarity(mask, truth, void) == 1
    assert boundary_accuracy(mask, truth, void) == 1
    assert region_similarity(mask, truth) == pytest.approx(400 / 900)


def test_size_mismatch_is_an_error() -> None:
    for function in (region_similarity, boundary_accuracy):
        with pytest.raises(InputError, match=r"\(64, 80\).*\(80, 64\)"):
            function(EMPTY, EMPTY.T)
    with pytest.raises(InputError, match="equal"):
        region_similarity(EMPTY, EMPTY, EMPTY.T)
    with pytest.raises(InputError):
        score_labels({0: np.zeros((4, 4), int)}, {0: np.ones((4, 5), int)}, RULES["davis"])


def frame(index: int, j: float, visible: bool = True, seen: bool | None = None) -> FrameScore:
    return FrameScore(index, j, j, visible, visible if seen is None else seen)


def test_davis_and_mose_leave_out_the_first_and_last_annotated_frame() -> None:
    scores = [frame(i, i / 10) for i in range(5)]
    for rule in ("davis", "mose"):
        kept = counted(scores, RULES[rule], range(5), (0, 4))
        assert [s.frame for s in kept] == [1, 2, 3]
        assert mean_score(kept).j == pytest.approx(0.2)


def test_absent_frames_count_in_davis_and_not_before_they_are_seen_in_sav() -> None:
    """Object shown on frame 0, gone on 1 and 2 in truth and prediction, back on 3."""
    shown = [True, False, False, True, True, True]
    scores = [frame(i, 1.0 if i < 3 else 0.5, v) for i, v in enumerate(shown)]
    davis = counted(scores, RULES["davis"], range(6), (0, 5))
    sav = counted(scores, RULES["sav"], range(6), (0, 5))
    assert [s.frame for s in davis] == [1, 2, 3, 4]
    assert [s.frame for s in sav] == [3, 4]
    assert mean_score(davis).jf == 0.75
    assert mean_score(sav).jf == 0.5


def test_sav_counts_from_a_wrong_prediction_on() -> None:
    scores = [frame(0, 1, True), frame(1, 1, False), frame(2, 0, False, seen=True)]
    scores += [frame(3, 1, False), frame(4, 1, True), frame(5, 1, True)]
    kept = counted(scores, RULES["sav"], range(6), (0, 5))
    assert [s.frame for s in kept] == [2, 3, 4]
    # the truth shows it on no judged frame: it has no score, whatever is predicted
    assert counted(scores[:4], RULES["sav"], range(4), (0, 0)) == []


def test_sav_annotations_of_every_fourth_frame() -> None:
    annotated = [0, 4, 8, 12, 16]
    scores = [frame(i, 0.5) for i in annotated]
    assert [s.frame for s in counted(scores, RULES["sav"], annotated, (0, 16))] == [4, 8, 12]


def test_lvos_leaves_out_the_ends_of_each_objects_own_range() -> None:
    annotated = range(1, 52, 5)
    scores = [frame(i, 0.5) for i in annotated]
    kept = counted(scores, RULES["lvos"], annotated, (16, 36))
    assert [s.frame for s in kept] == [21, 26, 31]


def test_an_object_of_one_frame_has_no_score() -> None:
    assert counted([frame(3, 0.5)], RULES["lvos"], [3], (3, 3)) == []
    assert mean_score([]) is None


def video(*maps: list[int]) -> dict[int, np.ndarray]:
    """Label maps [1, n], one per frame."""
    return {i: np.array([m]) for i, m in enumerate(maps)}


def test_objects_missing_and_extra_in_the_prediction() -> None:
    truth = video([1, 2, 0, 0], [1, 2, 0, 0], [1, 2, 0, 0])
    predicted = video([1, 2, 0, 0], [1, 0, 3, 3], [1, 2, 0, 0])
    scores = score_labels(predicted, truth, RULES["davis"])
    assert set(scores) == {1, 2}
    assert scores[1].j == 1
    assert scores[2].j == 0
    # an extra object takes pixels from others, it has no score of its own
    greedy = score_labels(video([1], [9], [1]), video([1], [1], [1]), RULES["davis"])
    assert {i: s.j for i, s in greedy.items()} == {1: 0}


def test_a_video_is_scored_per_object_then_averaged_over_objects() -> None:
    truth = video(*[[1, 1, 2, 2]] * 4)
    predicted = video([0] * 4, [1, 1, 2, 0], [1, 0, 2, 0], [0] * 4)
    scores = score_labels(predicted, truth, RULES["mose"])
    assert scores[1].j == pytest.approx(0.75)
    assert scores[2].j == pytest.approx(0.5)
    assert mean_score(scores.values()).j == pytest.approx(0.625)


def test_undecided_pixels_are_void_in_davis_and_background_elsewhere() -> None:
    truth = video([1, 0], [1, 255], [1, 0])
    predicted = video([1, 0], [1, 1], [1, 0])
    assert score_labels(predicted, truth, RULES["davis"])[1].j == 1
    assert score_labels(predicted, truth, RULES["mose"])[1].j == 0.5
    assert object_ids(truth.values()) == [1]


def test_a_frame_without_prediction_is_an_error() -> None:
    with pytest.raises(InputError, match="frame 1 is annotated but has no prediction"):
        score_labels(video([1]), video([1], [1]), RULES["davis"])


def test_a_later_object_counts_from_its_first_frame_on_in_lvos_alone() -> None:
    truth = video([1, 0], [1, 0], [1, 2], [1, 2], [1, 2], [1, 0])
    predicted = video([1, 0], [1, 0], [1, 2], [1, 0], [1, 2], [1, 0])
    lvos = score_labels(predicted, truth, RULES["lvos"])
    assert lvos[2].j == 0
    # MOSE judges frames 1 to 4, on the first of which the absence is right
    assert score_labels(predicted, truth, RULES["mose"])[2].j == pytest.approx(3 / 4)
    assert score_labels(predicted, truth, RULES["sav"])[2].j == pytest.approx(2 / 3)


def test_score_frame_tells_what_is_visible() -> None:
    scored = score_frame(7, EMPTY, square(1, 1, 3))
    assert scored == FrameScore(7, 0.0, 0.0, True, True)
    assert score_frame(8, square(1, 1, 3), EMPTY) == FrameScore(8, 0.0, 0.0, False, True)
    assert score_frame(9, EMPTY, EMPTY) == FrameScore(9, 1.0, 1.0, False, False)


def test_ranking_accuracy() -> None:
    assert ranking_accuracy([3, 2, -1, -2], [True, True, False, False]) == 1
    assert ranking_accuracy([3, -2, -1, 2], [True, True, False, False]) == 0.5
    assert ranking_accuracy([1, 1], [True, False]) == 0.5
    assert ranking_accuracy([1, 2], [True, True]) is None
    rng = np.random.default_rng(1)
    scores, present = rng.integers(0, 9, 60), rng.random(60) < 0.4
    pairs = [
        (a > b) + (a == b) / 2
        for a in scores[present].tolist()
        for b in scores[~present].tolist()
    ]  # fmt: skip
    assert ranking_accuracy(scores, present) == pytest.approx(np.mean(pairs), abs=1e-12)
