"""Run-length encoding against pycocotools, known texts and damaged ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sam2rt import InputError, MissingExtraError
from sam2rt.runtime.pixels.rle import mask_from_rle, rle_from_mask, rles_from_masks

coco = pytest.importorskip("pycocotools.mask")
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


def _masks() -> Any:
    rng = np.random.default_rng(0)
    noise = rng.random((3, 37, 50)) > np.array([0.5, 0.02, 0.9]).reshape(3, 1, 1)
    yy, xx = np.mgrid[:37, :50]
    disc = (yy - 15) ** 2 + (xx - 30) ** 2 < 144
    return np.stack([*noise, disc, np.zeros_like(disc), np.ones_like(disc)])


def test_a_mask_worked_out_by_hand() -> None:
    """Down the columns: 2 off, 3 on, 1 off."""
    mask = np.array([[0, 1], [0, 1], [1, 0]], bool)
    rle = rle_from_mask(mask)
    assert rle == {"size": [3, 2], "counts": "231"}
    np.testing.assert_array_equal(mask_from_rle(rle), mask)
    np.testing.assert_array_equal(mask_from_rle({"size": [3, 2], "counts": [2, 3, 1]}), mask)


def test_masks_come_back_and_pycocotools_agrees() -> None:
    masks = _masks()
    rles = rles_from_masks(masks)
    for rle, mask in zip(rles, masks, strict=True):
        np.testing.assert_array_equal(mask_from_rle(rle), mask)
        np.testing.assert_array_equal(coco.decode(rle), mask)
        assert coco.area(rle) == mask.sum()
        assert rle_from_mask(mask.astype(np.uint8)) == rle
        assert rle_from_mask(mask * 255) == rle


def test_long_runs_take_several_characters() -> None:
    mask = np.zeros((2000, 3000), bool)
    mask[700:1900, 5:2900] = True
    rle = rle_from_mask(mask)
    np.testing.assert_array_equal(mask_from_rle(rle), mask)
    assert isinstance(rle["counts"], str)


def test_counts_may_be_bytes() -> None:
    mask = _masks()[0]
    counts = rle_from_mask(mask)["counts"].encode()
    np.testing.assert_array_equal(mask_from_rle({"size": mask.shape, "counts": counts}), mask)


def test_no_masks() -> None:
    assert rles_from_masks(np.zeros((0, 5, 6), bool)) == []


@pytest.mark.parametrize(
    "change",
    [
        {"size": [37, 49]},
        {"size": [370, 50]},
        {"size": [-37, -50]},
        {"counts": "zzzz"},
        {"counts": [5, -5, 37 * 50]},
        {"counts": []},
    ],
)
def test_runs_that_do_not_fill_the_mask(change: dict[str, Any]) -> None:
    rle = {**rle_from_mask(_masks()[0]), **change}
    with pytest.raises(InputError, match=r"do not fill a mask|not a run-length encoding"):
        mask_from_rle(rle)


@pytest.mark.parametrize(
    "rle", [{}, {"size": [3, 2]}, {"size": 3, "counts": "2"}, {"size": [3, 2], "counts": "2\n"},
            {"size": [3, 2], "counts": "é"}, {"size": [3, 2], "counts": "h"}]
)  # fmt: skip
def test_what_is_no_encoding(rle: Any) -> None:
    with pytest.raises(InputError, match="not a run-length encoding"):
        mask_from_rle(rle)


def test_masks_of_another_rank() -> None:
    with pytest.raises(InputError, match=r"masks must be \[N, H, W\], got shape \(2, 3\)"):
        rles_from_masks(np.zeros((2, 3), bool))
    with pytest.raises(InputError, match=r"a mask must be \[H, W\], got shape \(1, 2, 3\)"):
        rle_from_mask(np.zeros((1, 2, 3), bool))


def test_without_pycocotools_the_extra_is_named(monkeypatch: Any) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pycocotools.mask", None)
    with pytest.raises(MissingExtraError, match=r"pycocotools.*sam2rt\[media\]"):
        rle_from_mask(np.zeros((2, 3), bool))
