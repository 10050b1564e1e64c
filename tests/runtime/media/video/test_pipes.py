"""Sources that can be read once: pipes are copied, then read in any order."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest
from clips import index_of, write_clip

from sam2rt import FrameError
from sam2rt.runtime.media.open import open_frames

pytestmark = pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes here")


def _piped(content: bytes, pipe: Path) -> threading.Thread:
    os.mkfifo(pipe)
    thread = threading.Thread(target=pipe.write_bytes, args=(content,), daemon=True)
    thread.start()
    return thread


@pytest.mark.timeout(60)
# the index of the first is at its end
@pytest.mark.parametrize("name", ["c.mp4", "c.mkv", "c.ts"])
def test_a_named_pipe_is_read_in_any_order(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    copies = tmp_path / "copies"
    copies.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(copies))
    content = write_clip(tmp_path / name, "libx264", 30).read_bytes()
    writer = _piped(content, tmp_path / "pipe")
    with open_frames(tmp_path / "pipe") as frames:
        writer.join()
        assert frames.num_frames == 30
        assert [index_of(frame) for frame in frames] == list(range(30))
        assert index_of(frames.read(3)) == 3
    assert list(copies.iterdir()) == []


@pytest.mark.timeout(60)
def test_standard_input_as_a_pipe_and_as_a_file(tmp_path: Path) -> None:
    clip = write_clip(tmp_path / "c.mp4", count=12)
    code = (
        "from sam2rt.runtime.media.open import open_frames\n"
        "with open_frames('/dev/stdin') as frames: print(frames.num_frames, len(list(frames)))\n"
    )
    command = [sys.executable, "-c", code]
    piped = subprocess.run(command, input=clip.read_bytes(), capture_output=True)
    assert piped.stdout == b"12 12\n", piped.stderr
    with clip.open("rb") as file:
        direct = subprocess.run(command, stdin=file, capture_output=True)
    assert direct.stdout == b"12 12\n", direct.stderr


@pytest.mark.timeout(60)
def test_a_pipe_whose_writer_never_comes_is_left_by_ctrl_c(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    code = (
        "from sam2rt.runtime.media.open import open_frames\n"
        "print('waiting', flush=True)\n"
        f"try: open_frames({str(tmp_path / 'pipe')!r})\n"
        "except KeyboardInterrupt: print('left')\n"
    )
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "waiting\n"
        time.sleep(0.5)
        assert child.poll() is None
        child.send_signal(signal.SIGINT)
        assert child.communicate(timeout=20)[0] == "left\n"


@pytest.mark.timeout(60)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "was closed by its writer with nothing in it: expected a video"),
        (b"no video at all" * 99, "cannot be opened as a video"),
    ],
)
def test_a_pipe_with_no_video_is_named(content: bytes, message: str, tmp_path: Path) -> None:
    _piped(content, tmp_path / "pipe")
    with pytest.raises(FrameError, match=f"pipe {message}"):
        open_frames(tmp_path / "pipe")


def test_a_device_is_no_video() -> None:
    with pytest.raises(FrameError) as refused:
        open_frames("/dev/null")
    assert str(refused.value) == (
        "/dev/null is a terminal or another device: expected a video file, a pipe or a folder of "
        "images"
    )
