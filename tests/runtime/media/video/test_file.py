"""Frames of video files: any order, seeking, damage, what cannot be opened."""

from __future__ import annotations

import gc
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from clips import index_of, write_clip
from golden import data_path

from sam2rt import FrameError
from sam2rt.runtime.frames import OnError
from sam2rt.runtime.media.open import open_frames
from sam2rt.runtime.media.video.container import OpenVideo
from sam2rt.runtime.media.video.file import VideoFile
from sam2rt.runtime.media.video.frame_spool import FrameSpool


@pytest.fixture(
    params=[
        ("c.mp4", "libx264", {"b_frames": 3, "options": {"preset": "veryfast"}}),
        ("c.avi", "mjpeg", {"pix_fmt": "yuvj420p"}),
        ("c.avi", "mpeg4", {"b_frames": 2}),
        ("c.mkv", "mpeg4", {"gop": 300}),
        ("c.ts", "libx264", {"b_frames": 2, "options": {"preset": "veryfast"}}),
        ("c.webm", "libvpx-vp9", {}),
    ],
    ids=lambda p: "-".join(p[:2]),
)
def clip(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    name, codec, more = request.param
    return write_clip(tmp_path / name, codec, 150, **more)


class TestVideoFiles:
    def test_forward_backward_and_scattered_reading_give_the_frame_asked_for(
        self, clip: Path
    ) -> None:
        with open_frames(clip) as frames:
            assert (frames.height, frames.width, frames.fps) == (96, 128, 25.0)
            order = np.random.default_rng(0).permutation(150)[:25]
            for i in order:
                assert index_of(frames.read(int(i))) == i
        with open_frames(clip) as frames:
            assert frames.num_frames == 150
            assert [index_of(f) for f in frames] == list(range(150))
            assert [index_of(frames.read(i)) for i in range(149, -1, -1)] == list(range(150))[::-1]

    def test_the_order_of_frames_is_exact_without_any_seek(
        self, clip: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(
            "sam2rt.runtime.media.video.pictures.VideoPictures.seek", lambda self, key: False
        )
        with open_frames(clip) as frames:
            assert frames.num_frames == 150
            for i in (149, 70, 71, 3):
                assert index_of(frames.read(i)) == i

    @pytest.mark.parametrize("slots", [1, 7, 1000])
    def test_reading_in_reverse_through_one_long_group(
        self, slots: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """However many frames are kept, they are the right ones."""
        path = write_clip(tmp_path / "c.mp4", "libx264", 90, gop=900)
        with VideoFile(str(path)) as frames:
            monkeypatch.setattr(frames, "_spool", FrameSpool(slots * 96 * 128 * 3))
            assert [index_of(frames.read(i)) for i in range(89, -1, -1)] == list(range(90))[::-1]

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

    def test_reading_in_reverse_decodes_each_frame_twice_at_most(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """One group as long as the clip: to the last, and from the first once more."""
        path = write_clip(tmp_path / "c.mp4", "libx264", 400, gop=1000)
        decoded = _counting(monkeypatch)
        with VideoFile(str(path)) as frames:
            for i in range(399, -1, -1):
                assert index_of(frames.read(i)) == i % 256
            for i in np.random.default_rng(0).permutation(400):
                assert index_of(frames.read(int(i))) == i % 256
        assert len(decoded) <= 2 * 400

    def test_a_hole_is_passed_once(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        """Whatever its length: going on behind it decodes nothing again."""
        path = write_clip(tmp_path / "c.mp4", "mjpeg", 90, pix_fmt="yuvj420p")
        content = bytearray(path.read_bytes())
        for place, size in _packet_places(path)[20:60]:
            content[place : place + size] = bytes(size)
        path.write_bytes(content)
        decoded = _counting(monkeypatch)
        with open_frames(path, on_error="skip") as frames:
            assert [i for i, _ in frames.items()] == [*range(20), *range(60, 90)]
            assert len(decoded) == 50

    def test_decoded_frames_are_freed_at_once(self, clip: Path) -> None:
        """Not by the collector of cycles, which lets hundreds pile up."""

        def alive() -> int:
            return sum(isinstance(item, av.VideoFrame) for item in gc.get_objects())

        gc.collect()
        gc.disable()
        try:
            with open_frames(clip) as frames:
                # looking through all objects of a process takes a tenth of a second
                most = max(alive() for i, _ in frames.items() if i % 15 == 14)
                for i in range(149, 100, -1):
                    frames.read(i)
                    most = max(most, alive() if i % 10 == 0 else 0)
        finally:
            gc.enable()
        # those that threads have ready, the one converted, one in the cycle of the first
        assert most <= 24

    @pytest.mark.slow
    def test_ten_thousand_frames_take_no_more_memory_than_two_thousand(
        self, tmp_path: Path
    ) -> None:
        path = write_clip(tmp_path / "c.mp4", "libx264", 10_000, gop=250, size=(240, 320))
        code = (
            "import resource, sys; from sam2rt.runtime.media.open import open_frames\n"
            "def peak(): return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
            f"with open_frames({str(path)!r}) as frames:\n"
            "    for i, _ in frames.items():\n"
            "        early = peak() if i == 2000 else locals().get('early')\n"
            "    late = peak()\n"
            "    for i in range(9999, 7000, -1): frames.read(i)\n"
            "print(i, late - early, peak() - late)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        index, forward, reverse = map(int, done.stdout.split())
        assert index == 7001, done.stderr
        # kilobytes; 8000 stamps take 64, a frame 225
        assert forward < 8_000
        assert reverse < 16_000

    def test_a_truncated_file_is_an_error_or_a_shorter_video(self, tmp_path: Path) -> None:
        path = write_clip(tmp_path / "c.avi", "mjpeg", 100, pix_fmt="yuvj420p")
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
            assert [index_of(f) for f in frames] == list(range(count))

    def test_frames_that_the_decoder_refuses_move_no_other(self, tmp_path: Path) -> None:
        """A hole of zeros; every frame outside it keeps its index, whatever the policy."""
        path = write_clip(tmp_path / "c.mp4", "mjpeg", 60, pix_fmt="yuvj420p")
        whole = _packet_places(path)
        content = bytearray(path.read_bytes())
        for place, size in whole[20:25]:
            content[place : place + size] = bytes(size)
        path.write_bytes(content)
        with open_frames(path, on_error="hold") as frames:
            held = [index_of(f) for f in frames]
            assert held == [19 if 20 <= i < 25 else i for i in range(60)]
            assert frames.num_frames == 60
        with open_frames(path, on_error="skip") as frames:
            assert [i for i, _ in frames.items()] == [*range(20), *range(25, 60)]
        with open_frames(path) as frames:
            assert index_of(frames.read(40)) == 40
            with pytest.raises(FrameError, match=r"frame 22 of .* cannot be decoded"):
                frames.read(22)
            with pytest.raises(FrameError, match=r"frame 20 of .* cannot be decoded"):
                list(frames)

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
        path = write_clip(tmp_path / "clip.mp4", count=20)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        code = (
            "from sam2rt.runtime.media.open import open_frames\n"
            f"try: open_frames({str(path)!r})\n"
            "except ValueError as error: print(error)\n"
        )
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert done.stderr == ""
        assert "cannot be opened as a video" in done.stdout


def _counting(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Notes each frame that decoders give from now on."""
    from sam2rt.runtime.media.video.pictures import VideoPictures

    decoded: list[int] = []
    real: Callable[[Any], Any] = VideoPictures.next

    def counted(self: VideoPictures) -> Any:
        frame = real(self)
        if frame is not None:
            decoded.append(frame.pts)
        return frame

    monkeypatch.setattr(VideoPictures, "next", counted)
    return decoded


def _packet_places(path: Path) -> list[tuple[int, int]]:
    with av.open(str(path)) as container:
        return [(p.pos or 0, p.size) for p in container.demux(video=0) if p.size]


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
def test_names_of_any_kind_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """FFmpeg takes a colon for the end of a protocol's name, and no name that is no UTF-8."""
    monkeypatch.chdir(tmp_path)
    clip = write_clip(tmp_path / "clip.mp4", count=7).read_bytes()
    for name in ("2024-05-01T10:22:33.mp4", "file:x.mp4", "v\udcff.mp4", "100%03d.mp4", "-.mp4"):
        Path(name).write_bytes(clip)
        with open_frames(name) as frames:
            assert frames.num_frames == 7, name
            assert [index_of(frame) for frame in frames] == list(range(7)), name


@pytest.mark.timeout(60)
@pytest.mark.parametrize("on_error", ["raise", "skip", "hold"])
def test_a_video_that_opens_and_has_no_frame(on_error: OnError, tmp_path: Path) -> None:
    """Skipping what cannot be read comes to an end."""
    path = write_clip(tmp_path / "c.avi", "mjpeg", 3, pix_fmt="yuvj420p")
    content = path.read_bytes()
    path.write_bytes(content[: content.index(b"movi") + 4])
    OpenVideo(str(path), "c.avi").close()
    with pytest.raises(FrameError, match="no frame"):
        open_frames(path, on_error=on_error)


def test_what_holds_no_video_says_what_it_holds(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.m4a"), "w", format="ipod") as container:
        stream = container.add_stream("aac", rate=48_000)
        frame = av.AudioFrame.from_ndarray(np.zeros((2, 1024), np.float32), "fltp", "stereo")
        frame.sample_rate = 48_000
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(FrameError) as refused:
        open_frames(tmp_path / "a.m4a")
    assert str(refused.value) == f"{tmp_path}/a.m4a holds no video, only audio: expected a video"


def test_a_frame_of_another_size_comes_in_the_size_of_the_first(tmp_path: Path) -> None:
    small = write_clip(tmp_path / "a.ts", "libx264", 10)
    large = write_clip(tmp_path / "b.ts", "libx264", 10, size=(192, 256))
    (tmp_path / "c.ts").write_bytes(small.read_bytes() + large.read_bytes())
    with open_frames(tmp_path / "c.ts") as frames:
        found = list(frames)
        assert frames.num_frames == len(found)
        assert {frame.shape for frame in found} == {(96, 128, 3)}
        assert [index_of(frame) for frame in found] == [*range(10), *range(10)]
