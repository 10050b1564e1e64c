"""Frames from every kind of source, in any order, and what happens when they cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam2rt import FrameError, InputError
from sam2rt.runtime.media import images
from sam2rt.runtime.media.images import read_image
from sam2rt.runtime.media.open import open_frames


def _frames(count: int, size: tuple[int, int] = (24, 32)) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)


def _folder(path: Path, frames: Any) -> Path:
    path.mkdir(exist_ok=True)
    for i, frame in enumerate(frames):
        Image.fromarray(frame).save(path / f"{i}.png")
    return path


def _generator(frames: Any) -> Iterator[Any]:
    yield from frames


@pytest.fixture(params=["array", "list", "generator", "folder", "paths", "grey generator"])
def source(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[Any, Any]:
    """A source of 12 frames, and the frames it must give."""
    frames = _frames(12)
    folder = _folder(tmp_path / "folder", frames)
    if request.param == "grey generator":
        return _generator(frames[..., 0]), np.repeat(frames[..., :1], 3, axis=-1)
    sources = {
        "array": frames,
        "list": list(frames),
        "generator": _generator(frames),
        "folder": folder,
        "paths": [str(folder / f"{i}.png") for i in range(12)],
    }
    return sources[request.param], frames


def test_any_source_reads_in_any_order(source: tuple[Any, Any]) -> None:
    given, expected = source
    with open_frames(given) as frames:
        assert (frames.height, frames.width, frames.fps) == (24, 32, None)
        for i in (3, 0, 11, 5, 4, 4):
            np.testing.assert_array_equal(frames.read(i), expected[i])
        assert frames.num_frames == len(frames) == 12
        np.testing.assert_array_equal(np.stack(list(frames)), expected)
        for i in (-1, 12):
            with pytest.raises(FrameError, match=f"frame {i}: the video has frames 0 to 11"):
                frames.read(i)


def test_a_generator_is_pulled_only_as_far_as_needed() -> None:
    pulled = []

    def produce() -> Iterator[Any]:
        for i, frame in enumerate(_frames(9)):
            pulled.append(i)
            yield frame

    made = produce()
    with open_frames(made) as frames:
        assert pulled == [0]
        frames.read(3)
        frames.read(1)
        assert pulled == [0, 1, 2, 3]
        assert frames.num_frames == 9
    assert made.gi_frame is None


def test_a_source_is_given_back_as_it_is() -> None:
    with open_frames(_frames(2)) as frames:
        assert open_frames(frames) is frames


def test_folders_read_in_natural_order_and_leave_other_files_out(tmp_path: Path) -> None:
    frames = _frames(4)
    names = ["img9.PNG", "img10.png", "img010b.bmp", "x.webp"]
    for name, frame in zip(names, frames, strict=True):
        Image.fromarray(frame).save(tmp_path / name, lossless=True)
    (tmp_path / "notes.txt").write_text("not an image")
    (tmp_path / ".hidden.png").write_bytes(b"")
    (tmp_path / "sub.png").mkdir()
    with open_frames(tmp_path) as opened:
        np.testing.assert_array_equal(np.stack(list(opened)), frames)


def test_a_single_image_is_a_video_of_one_frame(tmp_path: Path) -> None:
    frame = _frames(1)[0]
    Image.fromarray(frame).save(tmp_path / "one.png")
    with open_frames(tmp_path / "one.png") as frames:
        assert frames.num_frames == 1
        np.testing.assert_array_equal(frames.read(0), frame)


def test_images_lose_alpha_and_gain_colour(tmp_path: Path) -> None:
    frame = _frames(1)[0]
    Image.fromarray(np.dstack([frame, frame[..., 0]])).save(tmp_path / "rgba.png")
    Image.fromarray(frame[..., 0]).save(tmp_path / "grey.png")
    np.testing.assert_array_equal(read_image(tmp_path / "rgba.png"), frame)
    np.testing.assert_array_equal(read_image(tmp_path / "grey.png"), np.dstack([frame[..., 0]] * 3))


def test_images_that_cannot_be_read(tmp_path: Path) -> None:
    whole = tmp_path / "whole.png"
    Image.fromarray(_frames(1, (200, 200))[0]).save(whole)
    (tmp_path / "cut.png").write_bytes(whole.read_bytes()[:5000])
    (tmp_path / "text.png").write_text("not an image")
    Image.fromarray(np.full((4, 4), 60000, np.uint16)).save(tmp_path / "deep.png")
    for name, reason in [
        ("cut.png", "truncated"),
        ("text.png", "cannot identify"),
        ("deep.png", "convert it to 8 bits"),
        ("absent.png", "does not exist"),
        ("text.png", r"\): get it again, or save it as PNG$"),
        (".", "is a folder: expected an image$"),
    ]:
        with pytest.raises(FrameError, match=reason) as caught:
            read_image(tmp_path / name)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("nowhere.mp4", "nowhere.mp4 does not exist"),
        ([], "no frame to read"),
        (np.empty((0, 4, 4, 3), np.uint8), "no frame to read"),
        (iter(()), "no frame to read"),
        (np.zeros((4, 4, 3), np.uint8), r"for one frame use frame\[None\]"),
        (np.zeros((2, 4, 4, 3), np.float32), "frame 0: a frame must be uint8"),
        (7, "cannot read frames from int"),
    ],
)
def test_sources_that_cannot_be_used(source: Any, message: str) -> None:
    with pytest.raises(FrameError, match=message):
        open_frames(source)


def test_a_folder_without_images_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    with pytest.raises(
        FrameError, match=r"holds no images: expected files \.bmp \.jfif \.jpe \.jpeg \.jpg"
    ):
        open_frames(tmp_path)


def test_an_empty_path_is_not_the_working_folder() -> None:
    with pytest.raises(FrameError, match=r"^the path is empty: expected a video file or a folder"):
        open_frames("")


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(InputError, match="expected one of raise, skip, hold"):
        open_frames(_frames(2), on_error="ignore")  # type: ignore[arg-type]


class TestDamagedFrames:
    """Frames 2 and 3 of 6 are unusable: one damaged, one of another size."""

    @pytest.fixture(params=["folder", "list", "generator"])
    def damaged(self, request: pytest.FixtureRequest, tmp_path: Path) -> Any:
        frames = _frames(6)
        small = frames[3, :10]
        if request.param == "folder":
            folder = _folder(tmp_path / "folder", frames)
            (folder / "2.png").write_bytes((folder / "2.png").read_bytes()[:60])
            Image.fromarray(small).save(folder / "3.png")
            return folder
        items = [*frames[:2], frames[2].astype(np.float32), small, *frames[4:]]
        return items if request.param == "list" else _generator(items)

    def test_raise(self, damaged: Any) -> None:
        with open_frames(damaged) as frames:
            with pytest.raises(FrameError, match=r"^frame 2: (a frame must be|cannot read)") as no:
                list(frames)
            assert str(no.value).endswith(", or use on_error='skip' or 'hold'")
            with pytest.raises(FrameError, match="frame 3 is 32 x 10, the first is 32 x 24"):
                frames.read(3)
            np.testing.assert_array_equal(frames.read(4), _frames(6)[4])

    def test_skip(self, damaged: Any) -> None:
        with open_frames(damaged, on_error="skip") as frames:
            items = dict(frames.items())
            assert list(items) == [0, 1, 4, 5]
            for i, frame in items.items():
                np.testing.assert_array_equal(frame, _frames(6)[i])
            assert frames.num_frames == 6
            with pytest.raises(FrameError):
                frames.read(2)

    def test_hold(self, damaged: Any) -> None:
        with open_frames(damaged, on_error="hold") as frames:
            expected = _frames(6)[[0, 1, 1, 1, 4, 5]]
            np.testing.assert_array_equal(frames.read(3), expected[3])
            np.testing.assert_array_equal(np.stack(list(frames)), expected)


def test_nothing_can_be_held_before_the_first_good_frame(tmp_path: Path) -> None:
    bad = [np.zeros((4, 4, 3)), *_frames(2)]
    with pytest.raises(FrameError, match="frame 0: a frame must be uint8"):
        open_frames(bad, on_error="hold")
    with open_frames(bad, on_error="skip") as frames:
        assert [i for i, _ in frames.items()] == [1, 2]


def test_more_pixels_than_agreed_are_not_decoded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The header decides: 169 million pixels of one colour are 500 kB on disk, and 500 MB here."""
    Image.new("1", (13_000, 13_000)).save(tmp_path / "large.png")
    Image.new("RGB", (20, 10), (1, 2, 3)).save(tmp_path / "small.png")
    monkeypatch.setattr(images, "check_frame", lambda image: pytest.fail("it was decoded"))
    with pytest.raises(FrameError) as caught:
        read_image(tmp_path / "large.png")
    assert str(caught.value) == (
        f"{tmp_path / 'large.png'} has 13000 x 13000 pixels, expected at most 100 million: make it "
        "smaller, or cut it into parts"
    )
    monkeypatch.undo()
    monkeypatch.setattr(images, "LARGEST_PIXELS", 200)
    assert read_image(tmp_path / "small.png").tolist() == [[[1, 2, 3]] * 20] * 10
    monkeypatch.setattr(images, "LARGEST_PIXELS", 199)
    with pytest.raises(FrameError, match="has 20 x 10 pixels"):
        read_image(tmp_path / "small.png")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "1", "CMYK"])
def test_strips_are_the_whole(mode: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (23, 17, 4), dtype=np.uint8)
    image = (
        Image.fromarray(noise).convert(mode)
        if mode != "CMYK"
        else Image.frombytes("CMYK", (17, 23), noise.tobytes())
    )
    path = tmp_path / ("i.tif" if mode == "CMYK" else "i.png")
    image.save(path)
    whole = read_image(path)
    monkeypatch.setattr(images, "_STRIP_PIXELS", 50)
    assert np.array_equal(read_image(path), whole)
