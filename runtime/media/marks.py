"""Prompts drawn on a frame: a green plus, a red minus, a box in the colour of its object."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..arrays import Array
from ..packages import opencv
from .overlay import object_colour

_PLUS, _MINUS, _HALO = (0, 200, 0), (230, 0, 0), (255, 255, 255)
#: half a mark's width as a share of the frame's longer side, and in pixels at least
_ARM, _SHORTEST = 0.012, 5


def draw_prompt(
    frame: Array,
    points: Sequence[tuple[float, float, int]],
    box: tuple[float, float, float, float] | None,
    obj_id: int,
) -> None:
    """Draw clicks and a box of one object on a frame, uint8 [H, W, 3], which is changed.

    points: x, y in pixels and label (1 object, 0 background); box: x0, y0, x1, y1 in pixels. White
    around them keeps them visible on any ground. MissingExtraError without OpenCV.
    """
    cv2 = opencv("drawing overlays")
    arm = max(_SHORTEST, round(_ARM * max(frame.shape[:2])))
    weight = max(1, round(arm / 3))
    if box is not None:
        corners = _pixel(box[0], box[1]), _pixel(box[2], box[3])
        # no white: along masks it would pass for a part of the picture
        cv2.rectangle(frame, *corners, object_colour(obj_id), max(1, weight // 2))
    for x, y, label in points:
        for colour, width in ((_HALO, weight + 2 * max(1, weight // 2)), (_PLUS, weight)):
            shown = _MINUS if colour is _PLUS and not label else colour
            _draw_mark(cv2, frame, _pixel(x, y), arm, width, shown, upright=bool(label))


def _pixel(x: float, y: float) -> tuple[int, int]:
    return round(x), round(y)


def _draw_mark(
    cv2: Any,
    frame: Array,
    centre: tuple[int, int],
    arm: int,
    width: int,
    colour: tuple[int, int, int],
    *,
    upright: bool,
) -> None:
    """A bar that lies, and one that stands for a plus; `width` makes it longer too."""
    x, y = centre
    half, reach = width // 2, arm + width // 4
    cv2.rectangle(frame, (x - reach, y - half), (x + reach, y + half), colour, cv2.FILLED)
    if upright:
        cv2.rectangle(frame, (x - half, y - reach), (x + half, y + reach), colour, cv2.FILLED)
