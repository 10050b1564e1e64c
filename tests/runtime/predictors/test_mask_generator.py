"""The parts of automatic mask generation against slow or independent ones; what is refused."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

import sam2rt
from sam2rt.configs.errors import FrameError, InputError
from sam2rt.runtime.pixels.rle import mask_from_rle
from sam2rt.runtime.pixels.upsample import upsample_bilinear, upsampled_above
from sam2rt.runtime.predictors.automask import (
    LowRes,
    RunLengths,
    crop_boxes,
    is_cut_off,
    layer_grids,
    mask_box,
    measure,
    non_maximum_suppression,
    point_grid,
    remove_small_regions,
    run_lengths,
)
from sam2rt.runtime.predictors.mask_generator import MaskGenerator
from sam2rt.runtime.session import Session

coco = pytest.importorskip("pycocotools.mask")


def test_point_grid_goes_row_by_row_through_cell_middles() -> None:
    assert point_grid(2).tolist() == [[0.25, 0.25], [0.75, 0.25], [0.25, 0.75], [0.75, 0.75]]
    assert point_grid(1).tolist() == [[0.5, 0.5]]
    assert [len(g) for g in layer_grids(7, 2, 2)] == [49, 9, 1]
    with pytest.raises(InputError, match="0 points a side"):
        layer_grids(7, 3, 2)


def test_crop_boxes_of_one_layer() -> None:
    """300 x 450, overlap int(512 / 1500 * 300) = 102: crops of 201 x 276."""
    boxes = crop_boxes((300, 450), 1, 512 / 1500)
    assert boxes[0] == (0, (0, 0, 450, 300))
    assert [b for _, b in boxes[1:]] == [
        (0, 0, 276, 201), (0, 99, 276, 300), (174, 0, 450, 201), (174, 99, 450, 300)
    ]  # fmt: skip
    assert [layer for layer, _ in crop_boxes((90, 70), 2, 0.3)] == [0] + [1] * 4 + [2] * 16


@pytest.mark.parametrize("size", [(123, 77), (5, 9), (1, 1)])
def test_crops_cover_the_image(size: tuple[int, int]) -> None:
    covered = np.zeros(size, bool)
    for layer, (x0, y0, x1, y1) in crop_boxes(size, 3, 0.2):
        assert 0 <= x0 < x1 <= size[1]
        assert 0 <= y0 < y1 <= size[0]
        covered[y0:y1, x0:x1] |= layer == 3
    assert covered.all()


def test_boxes_cut_off_by_their_crop() -> None:
    crop, size = (100, 0, 200, 100), (100, 300)
    # near the crop's left side, which is no side of the image
    assert is_cut_off((110, 40, 150, 60), crop, size)
    assert is_cut_off((120, 40, 150, 60), crop, size)
    assert not is_cut_off((121, 40, 150, 60), crop, size)
    # its top and bottom are the image's
    assert not is_cut_off((130, 0, 150, 99), crop, size)
    assert is_cut_off((130, 40, 185, 60), crop, size)
    assert not is_cut_off((0, 0, 299, 99), (0, 0, 300, 100), size)


def test_mask_box() -> None:
    mask = np.zeros((5, 7), bool)
    assert mask_box(mask) == (0, 0, 0, 0)
    mask[1:3, 4:7] = True
    assert mask_box(mask) == (4, 1, 6, 2)


def _slow_nms(boxes: Any, scores: Any, threshold: float) -> list[int]:
    kept: list[int] = []
    for i in sorted(range(len(boxes)), key=lambda k: -scores[k]):
        ious = []
        for k in kept:
            w = min(boxes[i][2], boxes[k][2]) - max(boxes[i][0], boxes[k][0])
            h = min(boxes[i][3], boxes[k][3]) - max(boxes[i][1], boxes[k][1])
            shared = max(w, 0) * max(h, 0)
            areas = [(b[2] - b[0]) * (b[3] - b[1]) for b in (boxes[i], boxes[k])]
            total = sum(areas) - shared
            ious.append(shared / total if total else 0)
        if all(iou <= threshold for iou in ious):
            kept.append(i)
    return kept


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.7, 1.0])
def test_suppression_equals_a_slow_one(threshold: float) -> None:
    rng = np.random.default_rng(0)
    corner = rng.integers(0, 40, (60, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 30, (60, 2))], axis=1)
    scores = (rng.integers(0, 20, 60) / 20).astype(np.float32)
    kept = non_maximum_suppression(boxes, scores, threshold)
    assert kept.tolist() == _slow_nms(boxes.tolist(), scores.tolist(), threshold)


def test_suppression_of_nothing() -> None:
    assert non_maximum_suppression(np.zeros((0, 4)), np.zeros(0), 0.5).tolist() == []


def _masks() -> list[Any]:
    rng = np.random.default_rng(1)
    masks = [rng.random((9, 13)) < share for share in (0.05, 0.5, 0.95)]
    masks += [np.zeros((9, 13), bool), np.ones((9, 13), bool)]
    # whole columns: runs go on from one to the next
    columns = np.zeros((9, 13), bool)
    columns[:, 3:6] = columns[4:, 2] = columns[:2, 6] = True
    return [*masks, columns]


def test_run_lengths_are_cocos() -> None:
    for mask in _masks():
        runs = run_lengths(mask, (0, 0), mask.shape)
        flat = mask.T.ravel().astype(int)
        edges = np.flatnonzero(np.diff(flat)) + 1
        slow = np.diff([0, *edges, flat.size]).tolist()
        assert list(runs.counts) == ([0, *slow] if flat[0] else slow)
        assert runs.area == mask.sum()
        np.testing.assert_array_equal(mask_from_rle(runs.rle()), mask)
        packed = coco.frPyObjects({"size": [9, 13], "counts": list(runs.counts)}, 9, 13)
        np.testing.assert_array_equal(coco.decode(packed), mask)


def test_run_lengths_of_a_part() -> None:
    for part in _masks():
        for corner in ((0, 0), (2, 5), (0, 5), (6, 0)):
            full = np.zeros((15, 18), bool)
            full[corner[0] : corner[0] + 9, corner[1] : corner[1] + 13] = part
            assert run_lengths(part, corner, (15, 18)) == run_lengths(full, (0, 0), (15, 18))
    empty = run_lengths(np.zeros((0, 0), bool), (0, 0), (3, 4))
    assert empty == RunLengths((3, 4), (12,))


def _logits() -> Any:
    logits = np.random.default_rng(2).normal(-2, 0.3, (32, 32)).astype(np.float32)
    logits[10:15, 20:29] += 6
    return logits


@pytest.mark.parametrize("size", [(64, 64), (100, 37), (20, 200), (700, 900)])
@pytest.mark.parametrize("level", [-1.0, 0.0, 1.5, 100.0])
def test_upsampling_where_a_level_is_exceeded_gives_the_same_bits(
    size: tuple[int, int], level: float
) -> None:
    full = upsample_bilinear(_logits(), size)
    outside = full.copy()
    pixels = 0
    for rows, cols, block in upsampled_above(_logits(), size, level):
        np.testing.assert_array_equal(block, full[rows, cols])
        outside[rows, cols] = -np.inf
        pixels += block.size
    assert not (outside > level).any()
    assert level < 0 or pixels < full.size / 4
    assert (pixels == 0) == (level == 100)


@pytest.mark.parametrize("size", [(64, 64), (100, 37), (700, 900)])
@pytest.mark.parametrize(("threshold", "offset"), [(0.0, 1.0), (2.0, 1.0), (1.0, 0.0), (90.0, 1.0)])
def test_a_candidate_is_measured_as_its_whole_mask(
    size: tuple[int, int], threshold: float, offset: float
) -> None:
    full = upsample_bilinear(_logits(), size)
    mask = full > threshold
    stability, box = measure(_logits(), size, threshold, offset)
    outer = (full > threshold - offset).sum()
    if outer:
        assert stability == pytest.approx((full > threshold + offset).sum() / outer, abs=1e-7)
        assert box == mask_box(mask)
    else:
        assert math.isnan(stability)
        assert box is None
    part, corner = LowRes.cut(_logits(), threshold).mask(size, threshold)
    assert run_lengths(part, corner, size) == run_lengths(mask, (0, 0), size)


def test_small_holes_and_islands() -> None:
    mask = np.zeros((20, 20), bool)
    mask[2:12, 2:12] = True
    mask[5:7, 5:7] = False
    mask[15, 15] = True
    filled, changed = remove_small_regions(mask, 5, "holes")
    assert changed
    assert filled.sum() == 101
    kept, changed = remove_small_regions(mask, 4, "holes")
    assert (kept is mask, changed) == (True, False)
    cleaned, changed = remove_small_regions(filled, 2, "islands")
    assert changed
    assert cleaned.sum() == 100
    # all are small: the largest stays
    largest, changed = remove_small_regions(filled, 1000, "islands")
    assert changed
    np.testing.assert_array_equal(largest, cleaned)
    # corners connect
    diagonal = np.eye(6, dtype=bool)
    assert remove_small_regions(diagonal, 6, "islands")[1] is False


@pytest.fixture(scope="module")
def image() -> Any:
    rng = np.random.default_rng(3)
    picture = np.full((96, 128, 3), 60, np.uint8)
    picture[20:60, 20:70] = (220, 90, 30)
    picture[50:90, 90:120] = (30, 200, 120)
    return picture + rng.integers(0, 20, picture.shape, np.uint8)


def _generator(session: Session, **settings: Any) -> MaskGenerator:
    chosen: dict[str, Any] = {
        "points_per_side": 4, "pred_iou_thresh": 0.0, "stability_score_thresh": 0.0,
        "box_nms_thresh": 0.6,
    }  # fmt: skip
    return MaskGenerator(session.bundle, session=session, **(chosen | settings))


def test_the_three_output_modes_hold_the_same_masks(session: Session, image: Any) -> None:
    modes = ("binary_mask", "uncompressed_rle", "coco_rle")
    binary, runs, packed = (_generator(session, output_mode=m).generate(image) for m in modes)
    assert len(binary) == len(runs) == len(packed) > 2
    for one, two, three in zip(binary, runs, packed, strict=True):
        mask = one["segmentation"]
        assert (mask.shape, mask.dtype) == ((96, 128), np.bool_)
        assert two["segmentation"]["size"] == [96, 128]
        again = coco.frPyObjects(two["segmentation"], 96, 128)
        np.testing.assert_array_equal(coco.decode(again), mask)
        np.testing.assert_array_equal(coco.decode(three["segmentation"]), mask)
        assert type(three["segmentation"]["counts"]) is str
        assert one["area"] == mask.sum() == coco.area(three["segmentation"])
        x0, y0, x1, y1 = mask_box(mask)
        assert one["bbox"] == [x0, y0, x1 - x0, y1 - y0]
        assert one["crop_box"] == [0, 0, 128, 96]
        assert len(one["point_coords"]) == 1


def test_a_record_is_what_its_point_gives(session: Session, image: Any) -> None:
    """Every record against the image predictor asked with the point it names."""
    generator = _generator(session, stability_score_thresh=0.5)
    records = generator.generate(image)
    generator.predictor.set_image(image)
    for record in records:
        logits, ious, _ = generator.predictor.predict(
            record["point_coords"], [1], return_logits=True
        )
        (which,) = np.flatnonzero(np.abs(ious - record["predicted_iou"]) < 1e-6)
        np.testing.assert_array_equal(logits[which] > 0, record["segmentation"])
        stability = (logits[which] > 1).sum() / (logits[which] > -1).sum()
        assert record["stability_score"] == pytest.approx(stability, abs=1e-6)
        assert record["stability_score"] >= 0.5
    scores = [r["predicted_iou"] for r in records]
    assert scores == sorted(scores, reverse=True)


def test_single_masks(session: Session, image: Any) -> None:
    generator = _generator(session, multimask_output=False, box_nms_thresh=1.0)
    records = generator.generate(image)
    assert len(records) == 16
    generator.predictor.set_image(image)
    points = [r["point_coords"] for r in records]
    masks, ious, _ = generator.predictor.predict(points, np.ones((16, 1)), multimask_output=False)
    np.testing.assert_array_equal([r["segmentation"] for r in records], masks[:, 0])
    np.testing.assert_array_equal([r["predicted_iou"] for r in records], ious[:, 0])


def test_given_points_are_used(session: Session, image: Any) -> None:
    grid = np.array([[0.25, 0.5], [0.75, 0.5]])
    generator = _generator(session, points_per_side=None, point_grids=[grid], box_nms_thresh=1.0)
    points = {tuple(r["point_coords"][0]) for r in generator.generate(image)}
    assert points == {(32, 48), (96, 48)}


def test_small_low_resolution_regions_are_cleaned_before_judging(
    session: Session, image: Any
) -> None:
    from sam2rt.runtime.pixels.components import clean_mask

    generator = _generator(session, min_mask_region_area=40, box_nms_thresh=1.0)
    plain = _generator(session, box_nms_thresh=1.0)
    records, before = generator.generate(image), plain.generate(image)
    plain.predictor.set_image(image)
    changed = 0
    for record, old in zip(records, before, strict=True):
        _, ious, low_res = plain.predictor.predict(record["point_coords"], [1])
        which = int(np.abs(ious - record["predicted_iou"]).argmin())
        cleaned = clean_mask(low_res[which], 0.0, 40, 40)
        mask = upsample_bilinear(cleaned, (96, 128)) > 0
        assert np.mean(mask != record["segmentation"]) < 1e-3
        changed += (record["segmentation"] != old["segmentation"]).any()
    assert changed > 0


def _record(mask: Any, **more: Any) -> dict[str, Any]:
    x0, y0, x1, y1 = mask_box(mask)
    box = [float(v) for v in (x0, y0, x1 - x0, y1 - y0)]
    return {"segmentation": mask, "area": int(mask.sum()), "bbox": box, **more}


def test_small_regions_of_finished_records() -> None:
    clean = np.zeros((30, 30), bool)
    clean[5:15, 5:15] = True
    speck = clean.copy()
    speck[25, 25] = True
    apart = np.zeros((30, 30), bool)
    apart[20:28, 2:10] = True
    apart[22, 4] = False
    records = [_record(speck, name="speck"), _record(clean, name="clean")]
    records.append(_record(apart, name="apart"))
    kept = MaskGenerator.postprocess_small_regions(records, 4, 0.7)
    # the speck's mask became a copy of the clean one, which was not changed
    assert [r["name"] for r in kept] == ["clean", "apart"]
    assert kept[1]["area"] == 64
    assert kept[1]["bbox"] == [2, 20, 7, 7]
    assert kept[1]["segmentation"][22, 4]
    assert MaskGenerator.postprocess_small_regions([], 4, 0.7) == []
    coded = {**records[2], "segmentation": run_lengths_rle(apart)}
    (again,) = MaskGenerator.postprocess_small_regions([coded], 4, 0.7)
    np.testing.assert_array_equal(coco.decode(again["segmentation"]), kept[1]["segmentation"])


def run_lengths_rle(mask: Any) -> dict[str, Any]:
    packed = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
    return {"size": packed["size"], "counts": packed["counts"].decode()}


def test_progress_counts_points(session: Session, image: Any) -> None:
    seen: list[tuple[int, int]] = []
    generator = _generator(session, crop_n_layers=1, points_per_batch=10)
    generator.generate(image, progress=lambda _, done, total: seen.append((done, total)))
    assert seen[:2] == [(10, 80), (16, 80)]
    assert [done for done, _ in seen] == [10, 16, 26, 32, 42, 48, 58, 64, 74, 80]


def test_nothing_passes(session: Session, image: Any) -> None:
    assert _generator(session, pred_iou_thresh=0.999999).generate(image) == []


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"points_per_side": None}, "either points_per_side or point_grids"),
        ({"point_grids": [point_grid(2)]}, "either points_per_side or point_grids"),
        ({"output_mode": "png"}, "unknown output_mode 'png': expected one of binary_mask"),
        ({"points_per_batch": 0}, "points_per_batch is 0: expected at least 1"),
        ({"crop_n_layers": -1}, "crop_n_layers is -1"),
        ({"points_per_side": 0}, "0 points a side"),
        ({"points_per_side": None, "point_grids": []}, "0 point grids"),
        ({"points_per_side": None, "point_grids": [[[0.5, 1.5]]]}, r"x, y in 0\.\.1"),
        ({"points_per_side": None, "point_grids": [np.zeros((0, 2))]}, r"shape \(0, 2\)"),
    ],
)
def test_settings_that_make_no_sense(
    session: Session, settings: dict[str, Any], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        _generator(session, **settings)


def test_a_bad_image_leaves_the_generator_usable(session: Session, image: Any) -> None:
    generator = _generator(session)
    with pytest.raises(FrameError, match="must be uint8"):
        generator.generate(image.astype(np.float32))
    assert generator.generate(image)


def test_public_name() -> None:
    assert sam2rt.MaskGenerator is MaskGenerator
