"""Addresses: a live stream gives each frame once, a file on a server is a file."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from clips import index_of, write_clip

from sam2rt import FrameError
from sam2rt.runtime.media.open import open_frames
from sam2rt.runtime.media.video.file import VideoFile
from sam2rt.runtime.media.video.live import LiveVideo


@contextlib.contextmanager
def _served(content: bytes, kind: str, *, length: bool) -> Iterator[str]:
    """The address of a server that sends the bytes, with or without saying how many."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            first, _, _ = (self.headers.get("Range") or "bytes=0-")[6:].partition("-")
            part = content[int(first) :]
            self.send_response(206 if length and int(first) else 200)
            self.send_header("Content-Type", kind)
            if length:
                self.send_header("Accept-Ranges", "bytes")
                self.send_header("Content-Length", str(len(part)))
                last = len(content) - 1
                self.send_header("Content-Range", f"bytes {first}-{last}/{len(content)}")
            self.end_headers()
            with contextlib.suppress(OSError):
                self.wfile.write(part)

        def log_message(self, *_: object) -> None:
            return

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}/clip"
    finally:
        server.shutdown()
        server.server_close()


@pytest.mark.timeout(60)
def test_a_live_stream_gives_each_frame_once_and_keeps_none(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "c.ts", "libx264", 60)
    with (
        _served(clip.read_bytes(), "video/mp2t", length=False) as address,
        open_frames(address) as frames,
    ):
        assert isinstance(frames, LiveVideo)
        assert frames.live
        with pytest.raises(FrameError, match="is a live stream, whose length nobody knows"):
            _ = frames.num_frames
        for i, frame in frames.items():
            assert index_of(frame) == i
            assert frames.time_of(i) == pytest.approx(i / 25, abs=1e-4)
            assert frames.time_of(i - 1) is None
        assert i == 59
        assert frames.num_frames == 60
        with pytest.raises(FrameError, match=r"frame 58 of .* has passed"):
            frames.read(58)
        with pytest.raises(FrameError, match="the video has frames 0 to 59"):
            frames.read(60)


@pytest.mark.timeout(60)
def test_a_file_on_a_server_is_read_in_any_order(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "c.mp4", "libx264", 60)
    with (
        _served(clip.read_bytes(), "video/mp4", length=True) as address,
        open_frames(address) as frames,
    ):
        assert isinstance(frames, VideoFile)
        assert frames.num_frames == 60
        assert [index_of(frames.read(i)) for i in (59, 3, 30, 4)] == [59, 3, 30, 4]


def test_an_address_that_does_not_answer_says_so() -> None:
    address = "http://127.0.0.1:1/clip.mp4"
    with pytest.raises(FrameError) as refused:
        open_frames(address)
    assert str(refused.value) == (
        f"{address} cannot be opened as a stream: check the address, and that it can be reached "
        "from here"
    )
