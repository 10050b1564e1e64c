"""Images whose names do not say what they are."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2rt import open_frames

#: 40 x 30, each pixel unlike its neighbours
_PIXELS = np.random.default_rng(3).integers(0, 256, (30, 40, 3), np.uint8)
#: Exif's orientations, and what sets the stored pixels upright
_UPRIGHT = {
    1: lambda image: image,
    3: lambda image: image[::-1, ::-1],
    6: lambda image: np.rot90(image, -1),
    8: lambda image: np.rot90(image, 1),
}


def _content(kind: str, orientation: int) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = orientation
    written = io.BytesIO()
    options = {"lossless": True} if kind == "WEBP" else {}
    Image.fromarray(_PIXELS).save(written, kind, exif=exif, **options)
    return written.getvalue()


def _only_frame(path: Path) -> np.ndarray:
    with open_frames(path) as frames:
        (frame,) = frames
        return np.asarray(frame)


@pytest.mark.parametrize("orientation", [1, 5, 6])
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF", "JPEG"])
def test_an_image_without_a_suffix_is_read_as_with_one(
    kind: str, orientation: int, tmp_path: Path
) -> None:
    named = tmp_path / f"image.{kind.lower()}"
    for path in (named, tmp_path / "image"):
        path.write_bytes(_content(kind, orientation))
    np.testing.assert_array_equal(_only_frame(tmp_path / "image"), _only_frame(named))


@pytest.mark.parametrize("orientation", _UPRIGHT)
def test_a_picture_under_the_name_of_a_video_is_upright(orientation: int, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(_content("PNG", orientation))
    found = _only_frame(tmp_path / "clip.mp4")
    np.testing.assert_array_equal(found, _UPRIGHT[orientation](_PIXELS))
