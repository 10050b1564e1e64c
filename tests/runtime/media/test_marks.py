"""Prompts on a frame: their colours, their shapes, a size that fits the picture."""

from __future__ import annotations

import numpy as np
import pytest

from sam2rt.runtime.arrays import Array
from sam2rt.runtime.media.marks import draw_prompt
from sam2rt.runtime.media.overlay import object_colour

GREEN, RED = (0, 200, 0), (230, 0, 0)


def _drawn(height: int, width: int, *given: object) -> Array:
    frame = np.full((height, width, 3), 90, np.uint8)
    draw_prompt(frame, *given)  # type: ignore[arg-type]
    return frame


def _is(frame: Array, colour: tuple[int, int, int]) -> Array:
    return (frame == np.array(colour, np.uint8)).all(-1)


@pytest.mark.parametrize(("height", "width"), [(60, 80), (540, 960), (2160, 3840)])
def test_a_click_on_the_object_is_a_green_plus(height: int, width: int) -> None:
    x, y = width // 3, height // 2
    green = _is(_drawn(height, width, [(x, y, 1)], None, 1), GREEN)
    rows, columns = np.nonzero(green)
    assert (rows.min() + rows.max(), columns.min() + columns.max()) == (2 * y, 2 * x)
    side = rows.max() - rows.min() + 1
    assert side == columns.max() - columns.min() + 1
    # about a fortieth of the picture, and never too small to be seen
    assert max(9, 0.02 * width) <= side <= max(15, 0.035 * width)
    assert green[y, columns.min()]
    assert green[rows.min(), x]
    assert not green[rows.min(), columns.min()]


def test_a_click_on_the_background_is_a_red_minus() -> None:
    frame = _drawn(540, 960, [(300, 200, 0)], None, 1)
    assert not _is(frame, GREEN).any()
    rows, columns = np.nonzero(_is(frame, RED))
    assert columns.max() - columns.min() > 3 * (rows.max() - rows.min())
    # white around it, and nothing anywhere else
    assert tuple(frame[200, columns.min() - 1]) == (255, 255, 255)
    far = np.ones(frame.shape[:2], bool)
    far[180:221, 270:331] = False
    assert (frame[far] == 90).all()


def test_a_box_has_the_colour_of_its_object() -> None:
    frame = _drawn(540, 960, [], (100, 50, 400, 300), 7)
    shown = _is(frame, object_colour(7))
    for x, y in ((100, 50), (400, 50), (100, 300), (400, 300), (250, 50), (100, 170)):
        assert shown[y, x], (x, y)
    assert (frame[60:290, 110:390] == 90).all()


def test_what_lies_beyond_the_frame_is_cut_off() -> None:
    frame = _drawn(60, 80, [(-3, 70, 1)], (-5, -5, 200, 30), 2)
    assert frame.shape == (60, 80, 3)
    assert _is(frame, object_colour(2))[30, 40]
