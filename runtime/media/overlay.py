"""Drawings of results: coloured masks over frames, and sheets of thumbnails."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from typing import Any

import numpy as np

from ...configs.errors import InputError
from ..arrays import Array
from ..packages import opencv, pillow_image

#: share of the colour in a mask's interior
_OPACITY = 0.45
#: heights of a thumbnail per width, at most
_TALLEST = 4


def object_colour(obj_id: int) -> tuple[int, int, int]:
    """A vivid RGB colour, 0..255, always the same for an id; neighbouring ids differ most."""
    # steps of the golden ratio never come back to a hue, and spread any first few evenly
    hue = (0.58 + obj_id * 0.618033988749895) % 1.0
    value = (0.95, 0.75)[(obj_id // 8) % 2]
    red, green, blue = colorsys.hsv_to_rgb(hue, 0.85, value)
    return round(red * 255), round(green * 255), round(blue * 255)


def draw_overlay(rgb: Array, masks: Array, obj_ids: Sequence[int]) -> Array:
    """A copy of the frame with each mask tinted, outlined and labelled with its object's id.

    rgb: uint8 [H, W, 3]; masks: bool [N, H, W], later ones on top. MissingExtraError without
    OpenCV.
    """
    if masks.shape != (len(obj_ids), *rgb.shape[:2]):
        raise InputError(
            f"masks must be [{len(obj_ids)}, {rgb.shape[0]}, {rgb.shape[1]}] for this frame and "
            f"these ids, got shape {masks.shape}"
        )
    drawn = np.array(rgb, order="C")
    for mask, obj_id in zip(masks, obj_ids, strict=True):
        draw_object(drawn, mask, obj_id)
    return drawn


def draw_object(frame: Array, mask: Array, obj_id: int) -> None:
    """Tint, outline and label one object on a frame, uint8 [H, W, 3], which is changed.

    mask: bool [H, W]. MissingExtraError without OpenCV.
    """
    cv2 = opencv("drawing overlays")
    colour, scale = object_colour(obj_id), max(frame.shape[:2]) / 1000
    tint = np.array(colour, np.float32) * _OPACITY
    frame[mask] = (frame[mask] * np.float32(1 - _OPACITY) + tint).round().astype(np.uint8)
    outlines, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    if outlines:
        cv2.drawContours(frame, outlines, -1, colour, max(1, round(2 * scale)))
        _draw_label(cv2, frame, max(outlines, key=len), str(obj_id), colour, scale)


def _draw_label(
    cv2: Any, drawn: Array, outline: Array, text: str, colour: tuple[int, int, int], scale: float
) -> None:
    """Black or white text on a patch of the object's colour, at the outline's topmost point."""
    size, weight = max(0.4, 0.6 * scale), max(1, round(1.5 * scale))
    (width, height), below = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, size, weight)
    x, y = outline[outline[:, 0, 1].argmin(), 0].tolist()
    left = int(np.clip(x - width // 2, 0, max(0, drawn.shape[1] - width)))
    base = int(np.clip(y - below, height, max(height, drawn.shape[0] - below)))
    ink = (0, 0, 0) if np.dot(colour, (0.299, 0.587, 0.114)) > 128 else (255, 255, 255)
    corners = (left, base - height - 1), (left + width, base + below)
    cv2.rectangle(drawn, *corners, colour, cv2.FILLED)
    cv2.putText(drawn, text, (left, base), cv2.FONT_HERSHEY_SIMPLEX, size, ink, weight, cv2.LINE_AA)


def contact_sheet(images: Sequence[Array], *, columns: int = 4, width: int = 320) -> Array:
    """Images of one size as a grid of thumbnails `width` pixels wide, read row by row.

    images: uint8 [H, W, 3] each, at least one. Returns uint8 RGB; empty places are black.
    """
    if not images:
        raise InputError("a contact sheet needs at least one image")
    height = _thumbnail_height(images[0], width)
    columns = min(columns, len(images))
    rows = -(-len(images) // columns)
    sheet = np.zeros((rows, height, columns, width, 3), np.uint8)
    for i, image in enumerate(images):
        sheet[i // columns, :, i % columns] = thumbnail(image, width, height)
    return sheet.reshape(rows * height, columns * width, 3)


def thumbnail(rgb: Array, width: int, height: int | None = None) -> Array:
    """The image `width` pixels wide, its aspect ratio kept unless `height` is given.

    One that is more than four times as high as wide is shown four times as high.
    """
    module = pillow_image()
    if height is None:
        height = _thumbnail_height(rgb, width)
    if rgb.shape[:2] == (height, width):
        return rgb
    small = module.fromarray(rgb).resize((width, height), module.Resampling.BILINEAR)
    return np.asarray(small)


def _thumbnail_height(rgb: Array, width: int) -> int:
    height = round(int(rgb.shape[0]) * width / int(rgb.shape[1]))
    return min(max(1, height), _TALLEST * width)
