"""Folders of images: no image is left out or mixed in without a word."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam2rt import FrameError
from sam2rt.runtime.media.open import open_frames


@pytest.fixture
def frames(tmp_path: Path) -> Any:
    """Four frames, all but the third of which lie in the folder."""
    frames = np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), np.uint8)
    for i in (0, 1, 3):
        Image.fromarray(frames[i]).save(tmp_path / f"{i:05d}.png")
    return frames


@pytest.mark.parametrize(
    ("name", "kind"),
    [("00002.jfif", "JPEG"), ("00002.JPE", "JPEG"), ("00002.jp2", "JPEG2000"),
     ("00002.avif", "AVIF"), ("00002.gif", "GIF"), ("00002.tga", "TGA"), ("00002.apng", "PNG")],
)  # fmt: skip
def test_what_pillow_reads_is_a_frame(name: str, kind: str, tmp_path: Path, frames: Any) -> None:
    Image.fromarray(np.full((24, 32, 3), 77, np.uint8)).save(tmp_path / name, format=kind)
    with open_frames(tmp_path) as opened:
        assert len(opened) == 4
        np.testing.assert_allclose(opened.read(2), np.full((24, 32, 3), 77), atol=3)
        np.testing.assert_array_equal(opened.read(3), frames[3])


@pytest.mark.parametrize("name", ["00002.heic", "00002.EXR", "00002.jxl", "00002.dng"])
def test_an_image_that_cannot_be_read_is_named(name: str, tmp_path: Path, frames: Any) -> None:
    (tmp_path / name).write_bytes(b"of a camera")
    message = f"^{tmp_path / name} is an image that the installed Pillow cannot read: convert"
    with pytest.raises(FrameError, match=message):
        open_frames(tmp_path)


def test_a_link_to_nothing_is_named(tmp_path: Path, frames: Any) -> None:
    (tmp_path / "00002.png").symlink_to("gone.png")
    with pytest.raises(FrameError, match=r"00002\.png is a link to nothing, or no file: restore"):
        open_frames(tmp_path)
    Image.fromarray(frames[2]).save(tmp_path / ".gone.png")
    (tmp_path / "00002.png").unlink()
    (tmp_path / "00002.png").symlink_to(".gone.png")
    with open_frames(tmp_path) as opened:
        np.testing.assert_array_equal(np.stack(list(opened)), frames)


@pytest.mark.parametrize("other", ["00001.jpg", "00001.PNG", "00001.heic"])
def test_two_files_of_one_frame_are_named(other: str, tmp_path: Path, frames: Any) -> None:
    Image.new("RGB", (32, 24)).save(tmp_path / other, format="PNG")
    with pytest.raises(FrameError) as caught:
        open_frames(tmp_path)
    message = str(caught.value)
    assert other in message
    if not other.endswith("heic"):
        assert "00001.png" in message
        assert message.endswith("move the masks or copies out of the folder")


def test_hidden_files_notes_and_folders_are_no_frames(tmp_path: Path, frames: Any) -> None:
    (tmp_path / "._00000.png").write_bytes(b"of a Mac")
    (tmp_path / "00000.txt").write_text("a note")
    (tmp_path / "00000.json").write_text("{}")
    (tmp_path / "00002.png").mkdir()
    with open_frames(tmp_path) as opened:
        assert len(opened) == 3
