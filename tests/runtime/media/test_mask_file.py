"""Masks from image files: which values mean what, and which files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2rt.configs.errors import FrameError
from sam2rt.runtime.media.mask_file import read_mask, read_mask_ids

WHERE = np.zeros((6, 8), bool)
WHERE[1:4, 2:7] = True


def _palette(pixels: np.ndarray) -> Image.Image:
    height, width = pixels.shape
    indexed = Image.frombytes("P", (width, height), pixels.astype(np.uint8).tobytes())
    # of 256 colours, as annotations have them: with fewer Pillow writes fewer bits
    indexed.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0, *range(247), *range(247), *range(253)])
    return indexed


@pytest.mark.parametrize(
    "image",
    [
        Image.fromarray(WHERE * np.uint8(255)),
        Image.fromarray(WHERE.astype(np.uint8)),
        Image.fromarray(WHERE * np.uint8(255)).convert("1"),
        Image.fromarray(WHERE * np.uint8(255)).convert("RGB"),
        Image.fromarray(WHERE * np.uint8(255)).convert("RGBA"),
        Image.fromarray(WHERE.astype(np.uint16)),
        _palette(WHERE),
    ],
    ids=["255", "1", "bit", "rgb", "rgba", "16 bits", "palette"],
)
def test_a_mask_of_two_values(image: Image.Image, tmp_path: Path) -> None:
    image.save(tmp_path / "m.png")
    found = read_mask(tmp_path / "m.png")
    assert found.dtype == np.bool_
    np.testing.assert_array_equal(found, WHERE)


def _ids() -> np.ndarray:
    ids = np.zeros((6, 8), np.uint8)
    ids[0, :3], ids[1:4, 2:7], ids[5] = 3, 1, 255
    return ids


def test_a_picture_of_ids_is_one_mask_an_object(tmp_path: Path) -> None:
    ids = _ids()
    _palette(ids).save(tmp_path / "ids.png")
    found = dict(read_mask_ids(tmp_path / "ids.png"))
    # 255 is what annotations write where nobody knows
    assert list(found) == [1, 3]
    for obj_id, mask in found.items():
        np.testing.assert_array_equal(mask, ids == obj_id)


def test_ids_of_16_bits(tmp_path: Path) -> None:
    ids = _ids().astype(np.uint16) * 300
    Image.fromarray(ids).save(tmp_path / "ids.png")
    found = dict(read_mask_ids(tmp_path / "ids.png"))
    assert list(found) == [300, 900, 76500 % 65536]
    np.testing.assert_array_equal(found[900], ids == 900)


@pytest.mark.parametrize("count", [1024, 1025])
def test_a_thousand_objects_are_taken_and_a_picture_is_not(count: int, tmp_path: Path) -> None:
    path = tmp_path / "ids.png"
    Image.fromarray(np.arange(count + 1, dtype=np.uint16)[None]).save(path)
    if count == 1024:
        assert [int(mask.sum()) for _, mask in read_mask_ids(path)] == [1] * count
        return
    with pytest.raises(FrameError, match="holds 1025 values: expected ids of 1024 objects at most"):
        read_mask_ids(path)


def _colours() -> Image.Image:
    pixels = np.zeros((6, 8, 3), np.uint8)
    pixels[1, 1] = 255, 0, 0
    return Image.fromarray(pixels)


def _transparent() -> Image.Image:
    return Image.fromarray(np.full((6, 8, 4), 255, np.uint8) * np.array([1, 1, 1, 0], np.uint8))


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            Image.fromarray(np.arange(48, dtype=np.uint8).reshape(6, 8)),
            "holds the values 0, 1, 2, 3, 4, 5, ...: expected 0 with 1 or 255; give object ids as "
            "mask ids, and save masks as PNG, since JPEG changes values",
        ),
        (Image.new("L", (8, 6)), "marks no pixel: expected 1 or 255 where the object is"),
        (_colours(), "has colours (mode RGB): expected a mask in grey or with a palette, whose"),
        (_transparent(), "is transparent in places: expected a mask in grey, flatten it"),
    ],
    ids=["many values", "empty", "colours", "transparent"],
)
def test_what_is_no_mask_is_refused(image: Image.Image, message: str, tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    image.save(path)
    with pytest.raises(FrameError) as refused:
        read_mask(path)
    assert str(refused.value).startswith(f"{path} {message}")


@pytest.mark.parametrize("highest", [0, 255])
def test_a_picture_without_ids_is_refused(highest: int, tmp_path: Path) -> None:
    path = tmp_path / "m.png"
    Image.fromarray(WHERE * np.uint8(highest)).save(path)
    with pytest.raises(FrameError) as refused:
        read_mask_ids(path)
    values = "0, 255" if highest else "0"
    assert str(refused.value).startswith(f"{path} holds the values {values}: expected object ids")


def test_a_missing_mask_and_pages_are_refused(tmp_path: Path) -> None:
    with pytest.raises(FrameError, match=r"absent\.png does not exist"):
        read_mask(tmp_path / "absent.png")
    page = Image.fromarray(WHERE * np.uint8(255))
    page.save(tmp_path / "m.tif", save_all=True, append_images=[page])
    with pytest.raises(FrameError, match=r"m\.tif holds 2 pages: expected a mask of one"):
        read_mask(tmp_path / "m.tif")
