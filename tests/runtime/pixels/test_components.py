"""Holes and specks, against a flood fill written with nothing but a stack."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sam2rt import MissingExtraError
from sam2rt.runtime.pixels.components import clean_mask, fill_holes, small_components

F32 = np.float32


def _flood(mask: Any, area: int) -> Any:
    """Pixels of 8-connected components of at most `area` pixels, one pixel at a time."""
    height, width = mask.shape
    seen = np.zeros(mask.shape, bool)
    small = np.zeros(mask.shape, bool)
    for start in zip(*np.nonzero(mask), strict=True):
        if seen[start]:
            continue
        seen[start] = True
        stack, members = [start], []
        while stack:
            y, x = stack.pop()
            members.append((y, x))
            for dy in (-1, 0, 1):
                for dx in (-1, 0, 1):
                    p = y + dy, x + dx
                    if 0 <= p[0] < height and 0 <= p[1] < width and mask[p] and not seen[p]:
                        seen[p] = True
                        stack.append(p)
        if len(members) <= area:
            small[tuple(np.array(members).T)] = True
    return small


def _blobs(seed: int, shape: tuple[int, ...]) -> Any:
    """Logits with structure at several scales, some exactly at 0."""
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    x = x + np.roll(x, 1, -1) + np.roll(x, 1, -2) + np.roll(x, (1, 1), (-1, -2))
    return np.round(x * 2).astype(F32)


@pytest.mark.parametrize("area", [1, 3, 8, 50, 10_000])
def test_small_components_equal_a_flood_fill(area: int) -> None:
    masks = _blobs(area, (3, 2, 31, 40)) > 0.5
    expected = np.stack([_flood(m, area) for m in masks.reshape(-1, 31, 40)])
    np.testing.assert_array_equal(small_components(masks, area), expected.reshape(masks.shape))


@pytest.mark.parametrize("area", [4, 8, 30])
def test_filled_holes_get_a_tenth_and_nothing_else_changes(area: int) -> None:
    logits = _blobs(7, (2, 1, 33, 29))
    before = logits.copy()
    filled = fill_holes(logits, area)
    np.testing.assert_array_equal(logits, before)
    assert filled.dtype == F32
    for plane, was in zip(filled[:, 0], logits[:, 0], strict=True):
        hole = _flood(was <= 0, area)
        assert hole.any()
        np.testing.assert_array_equal(plane, np.where(hole, F32(0.1), was))


def test_a_pixel_at_the_threshold_is_background_and_corners_connect() -> None:
    logits = np.ones((5, 5), F32)
    logits[1, 1] = logits[2, 2] = 0.0
    np.testing.assert_array_equal(fill_holes(logits, 1), logits)
    assert (fill_holes(logits, 2) > 0).all()


def test_the_image_rule_judges_both_kinds_by_the_logits_as_they_came() -> None:
    logits = _blobs(11, (3, 28, 28))
    cleaned = clean_mask(logits, 0.5, hole_area=6, sprinkle_area=4)
    for plane, was in zip(cleaned, logits, strict=True):
        expected = np.where(_flood(was <= 0.5, 6), F32(10.5), was)
        expected = np.where(_flood(was > 0.5, 4), F32(-9.5), expected)
        np.testing.assert_array_equal(plane, expected)


def test_areas_of_zero_leave_logits_alone() -> None:
    logits = _blobs(12, (1, 9, 9))
    np.testing.assert_array_equal(clean_mask(logits, 0.0, 0.0, 0.0), logits)


def test_no_masks_is_no_work() -> None:
    assert fill_holes(np.empty((0, 1, 8, 8), F32), 8).shape == (0, 1, 8, 8)


def test_without_opencv_the_extra_is_named(monkeypatch: Any) -> None:
    monkeypatch.setitem(__import__("sys").modules, "cv2", None)
    with pytest.raises(MissingExtraError, match=r"filling holes needs .*sam2rt\[media\]"):
        fill_holes(np.zeros((1, 4, 4), F32), 8)
