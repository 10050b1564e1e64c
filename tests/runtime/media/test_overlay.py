"""Drawings of results: what colour which pixel gets, and files that are whole or absent."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam2rt import InputError
from sam2rt.configs.staging import replaced_file
from sam2rt.runtime.media.images import read_image, write_image
from sam2rt.runtime.media.overlay import contact_sheet, draw_overlay, object_colour, thumbnail


def test_colours_of_objects_differ() -> None:
    colours = np.array([object_colour(i) for i in range(12)], float)
    distances = [np.abs(a - b).sum() for a, b in itertools.combinations(colours, 2)]
    assert min(distances) > 60
    assert object_colour(3) == object_colour(3)
    assert all(0 <= c <= 255 for i in (-1, 10**6) for c in object_colour(i))


def test_masks_are_tinted_outlined_and_labelled() -> None:
    rgb = np.full((400, 600, 3), 100, np.uint8)
    before = rgb.copy()
    masks = np.zeros((2, 400, 600), bool)
    masks[0, 100:300, 50:250] = True
    masks[1, 200:390, 200:400] = True
    drawn = draw_overlay(rgb, masks, [1, 7])
    np.testing.assert_array_equal(rgb, before)
    first, second = (np.array(object_colour(i)) for i in (1, 7))
    tinted = (100 * 0.55 + first * 0.45).round()
    np.testing.assert_allclose(drawn[250, 100], tinted, atol=1)
    # where both are, the later one lies over the earlier
    np.testing.assert_allclose(drawn[250, 220], (tinted * 0.55 + second * 0.45).round(), atol=1)
    np.testing.assert_array_equal(drawn[299, 100], first)
    np.testing.assert_array_equal(drawn[10, 500], [100, 100, 100])
    patch = (drawn[80:120] == first).all(-1)
    assert patch.sum() > 100  # the label's background above and on the upper edge
    assert len(np.unique(drawn[80:101, 30:100].reshape(-1, 3), axis=0)) > 6  # smooth text


def test_a_label_of_a_mask_in_the_corner_stays_inside() -> None:
    masks = np.zeros((1, 50, 60), bool)
    masks[0, :4, :4] = True
    drawn = draw_overlay(np.zeros((50, 60, 3), np.uint8), masks, [123])
    assert (drawn[:14, :30] == object_colour(123)).all(-1).sum() > 40


def test_nothing_to_draw_changes_nothing() -> None:
    rgb = np.random.default_rng(0).integers(0, 256, (9, 8, 3), np.uint8)
    np.testing.assert_array_equal(draw_overlay(rgb, np.zeros((0, 9, 8), bool), []), rgb)
    np.testing.assert_array_equal(draw_overlay(rgb, np.zeros((1, 9, 8), bool), [1]), rgb)


def test_a_read_only_frame_can_be_drawn_over() -> None:
    rgb = np.broadcast_to(np.uint8(9), (20, 20, 3))
    assert draw_overlay(rgb, np.ones((1, 20, 20), bool), [1]).max() > 9


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(InputError, match=r"must be \[1, 9, 8\] .* got shape \(1, 8, 9\)"):
        draw_overlay(np.zeros((9, 8, 3), np.uint8), np.zeros((1, 8, 9), bool), [1])


def test_images_and_masks_come_back(tmp_path: Path) -> None:
    rgb = np.random.default_rng(1).integers(0, 256, (20, 30, 3), np.uint8)
    write_image(tmp_path / "a.png", rgb)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), rgb)
    mask = rgb[..., 0] > 99
    write_image(tmp_path / "m.png", mask)
    with Image.open(tmp_path / "m.png") as image:
        assert image.mode == "L"
        np.testing.assert_array_equal(np.asarray(image), mask * np.uint8(255))


def test_a_file_is_replaced_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "f.txt"
    with replaced_file(path) as part:
        part.write_text("one")
    assert path.read_text() == "one"

    def failing() -> None:
        with replaced_file(path) as part:
            part.write_text("two")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        failing()
    assert path.read_text() == "one"
    assert [p.name for p in tmp_path.iterdir()] == ["f.txt"]


def test_a_contact_sheet_reads_row_by_row() -> None:
    images = [np.full((30, 60, 3), 20 * i, np.uint8) for i in range(1, 6)]
    sheet = contact_sheet(images, columns=3, width=20)
    assert sheet.shape == (20, 60, 3)
    centres = sheet[5::10, 10::20, 0]
    np.testing.assert_array_equal(centres, [[20, 40, 60], [80, 100, 0]])
    assert contact_sheet(images[:1], columns=3, width=20).shape == (10, 20, 3)
    with pytest.raises(InputError, match="at least one image"):
        contact_sheet([])


def test_thumbnails_keep_the_aspect_ratio() -> None:
    rgb: Any = np.zeros((90, 160, 3), np.uint8)
    rgb[:, 80:] = 255
    small = thumbnail(rgb, 32)
    assert small.shape == (18, 32, 3)
    assert small[:, :14].max() == 0
    assert small[:, 18:].min() == 255


def test_thumbnails_of_very_tall_images_are_bounded() -> None:
    strip = np.zeros((9000, 3, 3), np.uint8)
    assert thumbnail(strip, 32).shape == (128, 32, 3)
    assert contact_sheet([strip] * 2, width=32).shape == (128, 64, 3)
    assert thumbnail(strip.transpose(1, 0, 2), 32).shape == (1, 32, 3)
