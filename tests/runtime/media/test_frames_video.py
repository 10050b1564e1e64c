"""Frames of video files: any order, seeking, damage, live addresses."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import data_path

from sam2rt import FrameError
from sam2rt.runtime.media.frames import FrameSource, OnError
from sam2rt.runtime.media.open import open_frames


def _marked(index: int, size: tuple[int, int] = (96, 128)) -> Any:
    """An image that shows its index as eight black or white bars, legible after compression."""
    bits = [(index >> k) & 1 for k in range(8)]
    row = np.repeat(np.array(bits, np.uint8) * 255, size[1] // 8)
    return np.ascontiguousarray(np.broadcast_to(row[None, :, None], (*size, 3)))


def _index_of(frame: Any) -> int:
    bars = frame.reshape(frame.shape[0], 8, -1).mean((0, 2)) > 127
    return int(sum(1 << k for k, on in enumerate(bars) if on))


def _video(path: Path, code: str, count: int = 150, fps: float = 25) -> Path:
    import cv2

    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, (128, 96))
    assert writer.isOpened()
    for i in range(count):
        writer.write(_marked(i))
    writer.release()
    return path


@pytest.fixture(
    params=[("c.mp4", "mp4v"), ("c.avi", "MJPG"), ("c.mkv", "mp4v"), ("c.webm", "VP90")]
)
def clip(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    name, code = request.param
    return _video(tmp_path / name, code)


class TestVideoFiles:
    def test_forward_backward_and_scattered_reading_give_the_frame_asked_for(
        self, clip: Path
    ) -> None:
        with open_frames(clip) as frames:
            assert (frames.height, frames.width, frames.fps) == (96, 128, 25.0)
            order = np.random.default_rng(0).permutation(150)[:25]
            for i in order:
                assert _index_of(frames.read(int(i))) == i
        with open_frames(clip) as frames:
            assert frames.num_frames == 150
            assert [_index_of(f) for f in frames] == list(range(150))
            assert [_index_of(frames.read(i)) for i in range(149, -1, -1)] == list(range(150))[::-1]

    def test_backward_reading_keeps_few_frames(self, clip: Path, monkeypatch: Any) -> None:
        from sam2rt.runtime.media import video_file as videofile

        monkeypatch.setattr(videofile, "_CACHE_BYTES", 5 * 96 * 128 * 3)
        with videofile.VideoFile(str(clip)) as frames:
            for i in range(149, 100, -1):
                assert _index_of(frames.read(i)) == i
                assert len(frames._cache) <= 5  # type: ignore[attr-defined]

    def test_without_usable_time_stamps_frames_are_still_exact(
        self, clip: Path, monkeypatch: Any
    ) -> None:
        from sam2rt.runtime.media.video_file import VideoFile

        monkeypatch.setattr(VideoFile, "_seekable", lambda self: False)
        with VideoFile(str(clip)) as frames:
            assert frames.num_frames == 150
            for i in (149, 70, 71, 3):
                assert _index_of(frames.read(i)) == i

    def test_frames_are_the_decoder_s_own(self) -> None:
        """Every frame of a real clip (one key frame in 250), forward, then in reverse."""
        import cv2

        path = data_path("bedroom.mp4")
        capture = cv2.VideoCapture(str(path))
        expected = []
        while (pair := capture.read())[0]:
            expected.append(hash(np.ascontiguousarray(pair[1][..., ::-1]).tobytes()))
        with open_frames(path) as frames:
            assert frames.num_frames == len(expected) == 200
            assert [hash(f.tobytes()) for f in frames] == expected
            found = [hash(frames.read(i).tobytes()) for i in range(199, -1, -1)]
            assert found == expected[::-1]

    def test_a_header_that_counts_too_many_or_too_few(self, tmp_path: Path) -> None:
        from sam2rt.runtime.media.video_file import VideoFile

        path = _video(tmp_path / "c.mp4", "mp4v", 40)
        for lie in (35, 44, 0, -5):
            with VideoFile(str(path)) as frames:
                frames._reported = lie
                assert frames.num_frames == 40, lie
                assert len(list(frames)) == 40

    def test_a_truncated_file_is_an_error_or_a_shorter_video(self, tmp_path: Path) -> None:
        path = _video(tmp_path / "c.avi", "MJPG", 100)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with (
            open_frames(path) as frames,
            pytest.raises(FrameError, match=r"ends after \d+ of 100 frames \(truncated or damaged"),
        ):
            _ = frames.num_frames
        with open_frames(path) as frames, pytest.raises(FrameError, match="ends after"):
            list(frames)
        with open_frames(path, on_error="skip") as frames:
            count = frames.num_frames
            assert 40 < count < 60
            assert [_index_of(f) for f in frames] == list(range(count))

    def test_holding_the_last_frame_of_a_damaged_file(self, tmp_path: Path) -> None:
        path = _video(tmp_path / "c.mp4", "mp4v", 60)
        content = bytearray(path.read_bytes())
        first, last = len(content) * 4 // 10, len(content) * 5 // 10
        content[first:last] = bytes(last - first)
        path.write_bytes(content)
        with open_frames(path, on_error="hold") as frames:
            found = [_index_of(f) for f in frames]
            assert len(found) == frames.num_frames
            held = found.index(max(found))
            assert found == [min(i, held) for i in range(len(found))]

    @pytest.mark.parametrize(
        ("content", "message"),
        [(b"", "is an empty file"), (b"no video at all" * 99, "cannot be opened as a video")],
    )
    def test_files_that_are_no_video(self, tmp_path: Path, content: bytes, message: str) -> None:
        (tmp_path / "clip.mp4").write_bytes(content)
        with pytest.raises(FrameError, match=message):
            open_frames(tmp_path / "clip.mp4")

    def test_nothing_is_printed_beside_the_error(self, tmp_path: Path) -> None:
        """FFmpeg writes to stderr by itself, unless told not to before its first video."""
        path = _video(tmp_path / "clip.mp4", "mp4v", 20)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        code = (
            "import os; from sam2rt.runtime.media.open import open_frames\n"
            f"try: open_frames({str(path)!r})\n"
            "except ValueError as error: print(error)\n"
            "assert 'OPENCV_FFMPEG_LOGLEVEL' not in os.environ\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stderr == ""
        assert "cannot be opened as a video" in done.stdout

    def test_memory_does_not_grow_with_length(self, tmp_path: Path) -> None:
        path = _video(tmp_path / "c.avi", "MJPG", 200)
        frames: FrameSource
        with open_frames(path) as frames:
            for _ in frames:
                assert len(frames._cache) == 1  # type: ignore[attr-defined]


def test_a_live_address_leaves_nothing_behind(tmp_path: Path, monkeypatch: Any) -> None:
    """Hours of a camera: neither frames nor time stamps pile up."""
    from sam2rt.runtime.media import video_file as videofile

    clip = str(_video(tmp_path / "c.avi", "MJPG", 60))
    real = videofile.opencv("test").VideoCapture
    monkeypatch.setattr(
        videofile.VideoFile, "_open", lambda self: setattr(self, "_capture", real(clip))
    )
    counted = videofile.VideoFile._property
    monkeypatch.setattr(
        videofile.VideoFile,
        "_property",
        lambda self, name: 0.0 if name == "FRAME_COUNT" else counted(self, name),
    )
    with videofile.VideoFile("rtsp://camera/1") as frames:
        assert [_index_of(f) for f in frames] == list(range(60))
        assert len(frames._stamps) == 0
        assert frames.num_frames == 60


def test_what_cannot_be_opened_says_why(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    address = "http://127.0.0.1:1/clip.mp4"
    with pytest.raises(FrameError) as refused:
        open_frames(address)
    assert str(refused.value) == (
        f"{address} cannot be opened as a stream: check the address, and that it can be reached "
        "from here"
    )
    (tmp_path / "secret.mp4").write_bytes(b"x")
    # whoever runs the tests as root may read anything
    monkeypatch.setattr(os, "access", lambda path, mode: False)
    with pytest.raises(FrameError) as refused:
        open_frames(tmp_path / "secret.mp4")
    assert str(refused.value) == f"{tmp_path}/secret.mp4 may not be read: ask its owner, or copy it"


@pytest.mark.skipif(sys.platform != "linux", reason="names of any bytes are Linux's")
def test_a_name_that_is_no_utf8_is_refused(tmp_path: Path) -> None:
    """OpenCV would end the process."""
    path = tmp_path / "v\udcff.mp4"
    path.write_bytes(b"x")
    with pytest.raises(FrameError, match=r"v\\udcff\.mp4' is no name in UTF-8, which OpenCV needs"):
        open_frames(path)


@pytest.mark.timeout(60)
@pytest.mark.parametrize("on_error", ["raise", "skip", "hold"])
def test_a_video_that_opens_and_has_no_frame(on_error: OnError, tmp_path: Path) -> None:
    """Skipping what cannot be read comes to an end."""
    import cv2

    path = _video(tmp_path / "c.avi", "MJPG", count=3)
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"movi") + 4])
    assert cv2.VideoCapture(str(path)).isOpened()
    with pytest.raises(FrameError, match="no frame"):
        open_frames(path, on_error=on_error)


def test_a_frame_of_no_pixels_is_an_unreadable_one(tmp_path: Path) -> None:
    """Random damage of MJPEG was seen to make OpenCV give one and call it good."""
    path = _video(tmp_path / "c.avi", "MJPG", count=3)
    with open_frames(path) as frames:
        frames.read(0)
        capture = frames._capture  # type: ignore[attr-defined]

        class Damaged:
            def __getattr__(self, name: str) -> Any:
                return getattr(capture, name)

            def retrieve(self) -> tuple[bool, Any]:
                return True, None

        frames._capture = Damaged()  # type: ignore[attr-defined]
        with pytest.raises(FrameError, match=r"frame 1 of .* cannot be decoded"):
            frames.read(1)


def test_opening_in_several_threads_leaves_the_log_levels_as_they_were() -> None:
    import cv2

    from sam2rt.runtime.packages import quiet_opencv

    def work() -> None:
        for _ in range(200):
            with quiet_opencv():
                levels.add(cv2.utils.logging.getLogLevel())

    levels: set[int] = set()
    before, switch = cv2.utils.logging.getLogLevel(), sys.getswitchinterval()
    environment = dict(os.environ)
    sys.setswitchinterval(1e-6)
    try:
        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    finally:
        sys.setswitchinterval(switch)
    assert levels == {cv2.utils.logging.LOG_LEVEL_SILENT}
    assert cv2.utils.logging.getLogLevel() == before
    assert dict(os.environ) == environment
