"""Simulated clicks and boxes against known positions and a slow search."""

from __future__ import annotations

import numpy as np
import pytest

from sam2rt.benchmarks.evaluation.clicks import Click, bounding_box, error_click, interior_point
from sam2rt.configs.errors import InputError


def block(rows: slice, cols: slice, size: tuple[int, int] = (40, 60)) -> np.ndarray:
    mask = np.zeros(size, bool)
    mask[rows, cols] = True
    return mask


def test_middle_of_a_square_and_of_the_larger_part() -> None:
    assert interior_point(block(slice(10, 21), slice(30, 41))) == Click(35, 15, 1)
    both = block(slice(0, 5), slice(0, 5)) | block(slice(20, 31), slice(20, 31))
    assert interior_point(both) == Click(25, 25, 1)


def test_the_pictures_border_is_outside() -> None:
    """Otherwise a mask that fills a corner would be clicked in the corner itself."""
    assert interior_point(block(slice(0, 9), slice(0, 9))) == Click(4, 4, 1)
    full = np.ones((11, 21), bool)
    click = interior_point(full)
    assert click.y == 5
    assert 5 <= click.x <= 15


def test_interior_point_equals_a_slow_search() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        mask = np.kron(rng.random((5, 6)) < 0.5, np.ones((4, 4), bool))
        mask[0, 0] = True
        outside = np.argwhere(np.pad(~mask, 1, constant_values=True)) - 1
        depth = {(x, y): ((outside - (y, x)) ** 2).sum(axis=1).min() for y, x in np.argwhere(mask)}
        click = interior_point(mask)
        assert depth[click.x, click.y] == max(depth.values())


def test_an_empty_mask_cannot_be_clicked_or_boxed() -> None:
    empty = np.zeros((4, 4), bool)
    with pytest.raises(InputError, match="at least one pixel"):
        interior_point(empty)
    with pytest.raises(InputError, match="at least one pixel"):
        bounding_box(empty)


def test_the_deeper_error_is_clicked() -> None:
    truth = block(slice(10, 30), slice(10, 30))
    missing = truth & ~block(slice(10, 30), slice(10, 19))
    assert error_click(missing, truth) == Click(14, error_click(missing, truth).y, 1)
    extra = truth | block(slice(0, 40), slice(40, 55))
    click = error_click(extra, truth)
    assert (click.x, click.label) == (47, 0)
    both = extra & ~block(slice(10, 30), slice(10, 13))
    assert error_click(both, truth).label == 0


def test_equally_deep_errors_give_a_negative_click() -> None:
    truth, mask = block(slice(5, 10), slice(5, 10)), block(slice(5, 10), slice(25, 30))
    assert error_click(mask, truth) == Click(27, 7, 0)


def test_no_error_no_click() -> None:
    truth = block(slice(10, 30), slice(10, 30))
    assert error_click(truth, truth) is None
    empty = np.zeros((4, 4), bool)
    assert error_click(empty, empty) is None


def test_absent_object_that_was_predicted_gets_a_negative_click() -> None:
    mask = block(slice(10, 21), slice(30, 41))
    assert error_click(mask, np.zeros_like(mask)) == Click(35, 15, 0)


@pytest.mark.parametrize(
    ("rows", "cols", "box"),
    [
        (slice(3, 9), slice(5, 17), (5, 3, 16, 8)),
        (slice(3, 4), slice(5, 6), (5, 3, 6, 4)),
        (slice(39, 40), slice(59, 60), (58, 38, 59, 39)),
        (slice(0, 40), slice(0, 60), (0, 0, 59, 39)),
    ],
)
def test_bounding_box(rows: slice, cols: slice, box: tuple[int, ...]) -> None:
    assert bounding_box(block(rows, cols)) == box


def test_box_of_a_one_pixel_picture_has_an_extent() -> None:
    assert bounding_box(np.ones((1, 1), bool)) == (0, 0, 1, 1)
