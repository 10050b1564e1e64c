"""Image files of several pages: each page is a frame, and none is the image by itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_model import ColourSession
from PIL import Image

from sam2rt import FrameError, VideoPredictor
from sam2rt.runtime.media.images import read_image
from sam2rt.runtime.media.open import open_frames
from sam2rt.runtime.tasks.prompts import ObjectPrompt
from sam2rt.runtime.tasks.segment import segment_image
from sam2rt.runtime.tasks.track import track_video

KINDS: dict[str, dict[str, Any]] = {
    "stack.tif": {},
    "stack.TIFF": {"compression": "tiff_lzw"},
    "anim.png": {"duration": 40},
    "anim.apng": {"duration": 40, "format": "PNG"},
    "anim.webp": {"duration": 40, "lossless": True},
    "anim.avif": {"duration": 40, "quality": 100, "subsampling": "4:4:4"},
}


def _frames(count: int = 5, size: tuple[int, int] = (24, 32)) -> Any:
    return np.random.default_rng(0).integers(0, 256, (count, *size, 3), np.uint8)


def _write(path: Path, frames: Any, **options: Any) -> Path:
    first, *rest = [Image.fromarray(frame) for frame in frames]
    first.save(path, save_all=True, append_images=rest, **{**KINDS.get(path.name, {}), **options})
    return path


@pytest.mark.parametrize("name", KINDS)
def test_pages_are_frames_in_any_order(name: str, tmp_path: Path) -> None:
    frames = _frames()
    if name.endswith(".avif"):
        # lossy: noise would not come back
        frames[:] = np.arange(20, 220, 40, dtype=np.uint8)[:, None, None, None]
    _write(tmp_path / name, frames)
    with open_frames(tmp_path / name) as opened:
        assert (len(opened), opened.height, opened.width) == (5, 24, 32)
        assert opened.fps == (None if "stack" in name else 25.0)
        for i in (3, 0, 4, 1, 1, 2):
            np.testing.assert_allclose(
                opened.read(i), frames[i], atol=3 if name.endswith(".avif") else 0
            )
        with pytest.raises(FrameError, match="frame 5: the video has frames 0 to 4"):
            opened.read(5)


@pytest.mark.parametrize("name", KINDS)
def test_a_single_page_stays_one_image(name: str, tmp_path: Path) -> None:
    frames = _frames(1) if not name.endswith(".avif") else np.full((1, 24, 32, 3), 90, np.uint8)
    _write(tmp_path / name, frames)
    with open_frames(tmp_path / name) as opened:
        assert (len(opened), opened.fps) == (1, None)
        np.testing.assert_allclose(opened.read(0), frames[0], atol=3)
    np.testing.assert_allclose(read_image(tmp_path / name), frames[0], atol=3)


@pytest.mark.parametrize("name", [*KINDS, "anim.gif"])
def test_an_image_of_several_pages_is_refused_with_their_number(name: str, tmp_path: Path) -> None:
    path = _write(tmp_path / name, _frames())
    message = f"^{path} holds 5 pages, expected an image of one: .*open_frames or 'sam2rt track'$"
    with pytest.raises(FrameError, match=message):
        read_image(path)
    session = ColourSession()
    with pytest.raises(FrameError, match="holds 5 pages"):
        segment_image(session.bundle, path, tmp_path / "o", boxes=[(1, 1, 9, 9)], session=session)
    assert not (tmp_path / "o").exists()


def test_smaller_copies_and_previews_are_no_pages(tmp_path: Path) -> None:
    frame = _frames(1)[0]
    image, thumbnail = Image.fromarray(frame), Image.fromarray(frame[::4, ::4])
    # written one after the other, so that each page has tags of its own
    from PIL.TiffImagePlugin import AppendingTiffWriter

    with AppendingTiffWriter(str(tmp_path / "photo.tif"), True) as writer:
        image.save(writer, format="TIFF")
        writer.newFrame()
        thumbnail.save(writer, format="TIFF", tiffinfo={254: 1})
    image.save(tmp_path / "stereo.jpg", format="MPO", save_all=True, append_images=[image])
    assert Image.open(tmp_path / "stereo.jpg").n_frames == 2
    for name in ("photo.tif", "stereo.jpg"):
        with open_frames(tmp_path / name) as opened:
            assert len(opened) == 1
        assert read_image(tmp_path / name).shape == frame.shape
    np.testing.assert_array_equal(read_image(tmp_path / "photo.tif"), frame)


def test_an_animation_may_leave_its_still_image_out(tmp_path: Path) -> None:
    _write(tmp_path / "anim.png", _frames(), default_image=True)
    with open_frames(tmp_path / "anim.png") as opened:
        np.testing.assert_array_equal(np.stack(list(opened)), _frames()[1:])


def test_pages_that_cannot_be_frames(tmp_path: Path) -> None:
    frames = list(_frames(3))
    frames[1] = frames[1][:10]
    path = _write(tmp_path / "stack.tif", frames)
    with open_frames(path) as opened, pytest.raises(FrameError, match="frame 1 is 32 x 10, the"):
        list(opened)
    with open_frames(path, on_error="skip") as opened:
        assert [i for i, _ in opened.items()] == [0, 2]
    deep = np.full((4, 4), 60000, np.uint16)
    Image.fromarray(deep).save(path, save_all=True, append_images=[Image.fromarray(deep)])
    with pytest.raises(FrameError, match=r"^frame 0: .*stack\.tif has pixels of mode I;16"):
        open_frames(path)
    path.write_bytes(path.read_bytes()[:4])
    with pytest.raises(FrameError, match=r"cannot read the image .*stack\.tif"):
        open_frames(path)


def test_a_stack_is_tracked_page_by_page(tmp_path: Path) -> None:
    session, frames = ColourSession(), np.full((4, 64, 64, 3), 90, np.uint8)
    path = _write(tmp_path / "stack.tif", frames)
    state = VideoPredictor(session.bundle, session=session).init_state(path)
    assert state.num_frames == 4
    prompts = [ObjectPrompt(1, 3, [(20, 20, 1)])]
    found = track_video(session.bundle, path, tmp_path / "out", prompts, session=session)
    assert found.num_frames == 4
    assert len(json.loads((tmp_path / "out" / "masks.json").read_text())["images"]) == 4


@pytest.mark.parametrize(
    ("kind", "content"),
    [
        ("HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
        ("HEIC", b"\0\0\0\x18ftypmif1\0\0\0\0mif1heic"),
        ("JXL", b"\xff\x0a"),
        ("JXL", b"\0\0\0\x0cJXL \x0d\x0a\x87\x0a"),
    ],
)
@pytest.mark.parametrize("name", ["a.heic", "a.jpg"])
@pytest.mark.parametrize("read", [open_frames, read_image])
def test_a_format_that_pillow_does_not_know_is_not_the_file_s_fault(
    kind: str, content: bytes, name: str, read: Any, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content + bytes(100))
    with pytest.raises(FrameError) as refused:
        read(tmp_path / name)
    assert str(refused.value) == (
        f"{tmp_path / name} is {kind}, which the installed Pillow cannot read: convert it to PNG"
    )


def test_a_damaged_avif_is_the_file_s_fault_where_pillow_reads_them(tmp_path: Path) -> None:
    """Elsewhere the line names the format."""
    (tmp_path / "a.avif").write_bytes(b"\0\0\0\x18ftypavif\0\0\0\0mif1avif" + bytes(100))
    is_read = ".avif" in Image.registered_extensions()
    with pytest.raises(FrameError, match="cannot read the image" if is_read else "is AVIF, which"):
        read_image(tmp_path / "a.avif")


def test_pages_have_the_times_of_their_durations(tmp_path: Path) -> None:
    images = [Image.fromarray(np.full((8, 8, 3), 50 * i, np.uint8)) for i in range(4)]
    images[0].save(
        tmp_path / "a.webp", save_all=True, append_images=images[1:], duration=[40, 100, 20, 40]
    )
    with open_frames(tmp_path / "a.webp") as frames:
        list(frames)
        assert [frames.time_of(i) for i in range(5)] == [0, 0.04, 0.14, 0.16, None]
    images[0].save(tmp_path / "a.tif", save_all=True, append_images=images[1:])
    with open_frames(tmp_path / "a.tif") as frames:
        list(frames)
        assert [frames.time_of(i) for i in range(4)] == [None] * 4
