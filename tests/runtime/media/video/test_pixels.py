"""Colours and orientation: values by the standards' formulas, and turns by the display matrix."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from clips import turn, write_clip

from sam2rt.runtime.media.open import open_frames

#: red and blue weights of luma, by the matrix code of ITU-T H.273
_WEIGHTS = {1: (0.2126, 0.0722), 5: (0.299, 0.114), 9: (0.2627, 0.0593)}
_COLOURS = [(200, 30, 30), (20, 180, 60), (30, 60, 210), (128, 128, 128), (230, 220, 40)]


def _planes(rgb: tuple[int, int, int], matrix: int, full: bool) -> tuple[int, int, int]:
    """Y, Cb, Cr of a colour, 8 bits (ITU-T H.273, equations 8.3)."""
    red, green, blue = (value / 255 for value in rgb)
    kr, kb = _WEIGHTS[matrix]
    luma = kr * red + (1 - kr - kb) * green + kb * blue
    cb, cr = (blue - luma) / (2 * (1 - kb)), (red - luma) / (2 * (1 - kr))
    if full:
        return round(255 * luma), round(255 * cb + 128), round(255 * cr + 128)
    return round(219 * luma + 16), round(224 * cb + 128), round(224 * cr + 128)


def _stored(path: Path, matrix: int, full: bool, tags: dict[str, int], size: int) -> Path:
    """Frames of one colour each, their planes written as they are."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream("ffv1", rate=25)
        stream.width = stream.height = size
        stream.pix_fmt = "yuv444p"
        for name, value in tags.items():
            setattr(stream.codec_context, name, value)
        for i, colour in enumerate(_COLOURS):
            planes = np.empty((3, size, size), np.uint8)
            planes[:] = np.reshape(_planes(colour, matrix, full), (3, 1, 1))
            frame = av.VideoFrame.from_ndarray(planes, format="yuv444p")
            frame.pts = i
            for name, value in tags.items():
                setattr(frame, name, value)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize(
    ("matrix", "full", "tags"),
    [
        (1, False, {"colorspace": 1, "color_range": 1}),
        (5, False, {"colorspace": 5, "color_range": 1}),
        (9, False, {"colorspace": 9, "color_range": 1}),
        (1, True, {"colorspace": 1, "color_range": 2}),
        (5, False, {}),
    ],
    ids=["bt709", "bt601", "bt2020", "full range", "untagged"],
)
@pytest.mark.parametrize("size", [64, 1280])
def test_colours_are_those_of_the_tags(
    matrix: int, full: bool, tags: dict[str, int], size: int, tmp_path: Path
) -> None:
    """Without tags BT.601 of limited range, at every size."""
    with open_frames(_stored(tmp_path / "c.mkv", matrix, full, tags, size)) as frames:
        for frame, colour in zip(frames, _COLOURS, strict=True):
            # planes are rounded to whole numbers, which blue multiplies by up to 2.2
            np.testing.assert_allclose(frame[size // 2, size // 2], colour, atol=3)
            assert np.ptp(frame.reshape(-1, 3), 0).max() == 0


@pytest.mark.parametrize(
    ("matrix", "upright"),
    [
        ((1, 0, 0, 1), lambda image: image),
        ((0, 1, -1, 0), lambda image: np.rot90(image, -1)),
        ((-1, 0, 0, -1), lambda image: np.rot90(image, 2)),
        ((0, -1, 1, 0), lambda image: np.rot90(image, 1)),
        ((-1, 0, 0, 1), lambda image: image[:, ::-1]),
        ((1, 0, 0, -1), lambda image: image[::-1]),
        ((0, 1, 1, 0), lambda image: image.transpose(1, 0, 2)),
        ((0, -1, -1, 0), lambda image: np.rot90(image, 2).transpose(1, 0, 2)),
    ],
    ids=["0", "90", "180", "270", "mirrored", "upside down", "transposed", "anti-transposed"],
)
def test_frames_are_upright(matrix, upright, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    """A click at x, y hits what a player shows there."""
    path = write_clip(tmp_path / "c.mp4", "libx264", 5)
    with open_frames(path) as frames:
        stored = list(frames)
    turn(path, matrix)
    with open_frames(path) as frames:
        found = list(frames)
        assert (frames.height, frames.width) == upright(stored[0]).shape[:2]
        for frame, image in zip(found, stored, strict=True):
            np.testing.assert_array_equal(frame, upright(image))
