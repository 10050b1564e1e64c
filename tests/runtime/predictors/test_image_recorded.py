"""The image predictor equals the recordings of the original, case by case."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from golden import GoldenSet, data_path, golden_set

from sam2rt import ImagePredictor
from sam2rt.runtime.media.images import read_image
from sam2rt.runtime.session import Session

CASES = (
    "click1_multi", "click1_single", "clicks3_multi", "clicks3_single", "box_single", "box_multi",
    "box_click_single", "maskin_click_single", "maskin_click_multi", "maskin_only_single",
    "noprompt_multi", "boxes4_single", "boxes4_multi", "points_batch3_multi",
    "click1_unnormalized",
)  # fmt: skip


def _arguments(golden: GoldenSet, case: str) -> dict[str, Any]:
    recorded = golden.manifest["b_cases"][case]
    arguments = {k: v for k, v in recorded.items() if k != "stability_of_mask0"}
    if "mask_input" in arguments:
        arguments["mask_input"] = golden.array("mask_input")
    return arguments


def _with_image(session: Session) -> ImagePredictor:
    predictor = ImagePredictor(session.bundle, session=session)
    predictor.set_image(read_image(data_path("truck.jpg")))
    return predictor


@pytest.fixture(scope="module")
def micro(micro_session: Session) -> ImagePredictor:
    return _with_image(micro_session)


@pytest.fixture(scope="module")
def tiny(tiny_session: Session) -> ImagePredictor:
    return _with_image(tiny_session)


def _compare(predictor: ImagePredictor, golden: GoldenSet, case: str) -> None:
    arguments = _arguments(golden, case)
    masks, ious, low_res = predictor.predict(**arguments)
    golden.compare(f"{case}.iou", ious, atol=1e-4)
    golden.compare(f"{case}.low_res", low_res, atol=1e-3)
    logits, ious_again, low_res_again = predictor.predict(**arguments, return_logits=True)
    np.testing.assert_array_equal(ious_again, ious)
    np.testing.assert_array_equal(low_res_again, low_res)
    assert masks.dtype == np.bool_
    np.testing.assert_array_equal(masks, logits > 0)
    _compare_masks(golden, case, logits)


def _compare_masks(golden: GoldenSet, case: str, logits: Any) -> None:
    name = f"{case}.mask"
    grid = golden.array(f"{name}__grid")
    np.testing.assert_allclose(logits[..., 5::48, 5::48], grid, atol=1e-3, rtol=0)
    flips = np.count_nonzero((logits > 0) != golden.masks(name))
    assert flips <= golden.near_zero(name)


@pytest.mark.parametrize("case", CASES)
def test_micro(case: str, micro: ImagePredictor) -> None:
    _compare(micro, golden_set("micro"), case)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_tiny_at_1024(case: str, tiny: ImagePredictor) -> None:
    _compare(tiny, golden_set("sam2.1_hiera_t"), case)


def test_every_recorded_case_is_compared() -> None:
    assert set(golden_set("micro").manifest["b_cases"]) == set(CASES)
    assert set(golden_set("sam2.1_hiera_t").manifest["b_cases"]) == set(CASES)


def test_the_embedding_is_the_recorded_one(micro: ImagePredictor) -> None:
    golden_set("micro").compare("truck.image_embed", micro.get_image_embedding(), atol=1e-4)


def test_a_batch_of_images_gives_each_its_own_result(micro: ImagePredictor) -> None:
    """Five images of three sizes with unlike prompts: more than one encoder call holds."""
    golden = golden_set("micro")
    truck = read_image(data_path("truck.jpg"))
    cars = read_image(data_path("cars.jpg"))
    batch = ImagePredictor(micro.bundle, session=micro.session)
    batch.set_image_batch([cars, truck, truck[:300, :500], truck, cars[::2]])
    points = [[[500, 375]], [[500, 375]], [[250, 150], [20, 30]], None, [[[9, 9]], [[70, 80]]]]
    labels = [[1], [1], [1, 0], None, [[1], [1]]]
    boxes = [None, None, None, _arguments(golden, "boxes4_multi")["box"], None]
    masks, ious, low_res = batch.predict_batch(points, labels, boxes)
    golden.compare("click1_multi.iou", ious[1], atol=1e-4)
    golden.compare("click1_multi.low_res", low_res[1], atol=1e-3)
    golden.compare("boxes4_multi.iou", ious[3], atol=1e-4)
    assert masks[2].shape == (3, 300, 500)
    assert masks[4].shape == (2, 3, *cars[::2].shape[:2])
    alone = ImagePredictor(micro.bundle, session=micro.session)
    for i, image in ((0, cars), (2, truck[:300, :500]), (4, cars[::2])):
        alone.set_image(image)
        expected = alone.predict(points[i], labels[i])
        np.testing.assert_allclose(low_res[i], expected[2], atol=1e-4)
        np.testing.assert_allclose(ious[i], expected[1], atol=1e-5)
        assert np.count_nonzero(masks[i] != expected[0]) <= masks[i].size * 1e-5


def test_many_prompts_at_once_equal_one_by_one(micro: ImagePredictor) -> None:
    """More prompts than one decoder call takes."""
    rng = np.random.default_rng(0)
    points = (rng.random((37, 1, 2)) * [1800, 1200]).astype(np.float32)
    labels = np.ones((37, 1), np.int32)
    masks, ious, low_res = micro.predict(points, labels, multimask_output=False)
    assert masks.shape == (37, 1, 1200, 1800)
    for i in (0, 31, 32, 36):
        one = micro.predict(points[i], labels[i], multimask_output=False)
        np.testing.assert_allclose(low_res[i], one[2], atol=1e-4)
        np.testing.assert_allclose(ious[i], one[1], atol=1e-5)


def test_padding_points_make_prompts_of_unlike_length_fit_one_batch(
    micro: ImagePredictor,
) -> None:
    """A padding point takes part as the original's does; its coordinates do not matter."""
    points = np.array([[[500.0, 375.0], [np.nan, 1e9]]])
    padded = micro.predict(points, [[1, -1]])
    zero = micro.predict([[[500, 375], [0, 0]]], [[1, -1]])
    for a, b in zip(padded, zero, strict=True):
        np.testing.assert_array_equal(a, b)
