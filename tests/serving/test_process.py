"""``sam2rt serve`` as a process: what a user sees, signals, kill -9 and a restart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from served import Client, raw_socket

from sam2rt.serving.sessions.media import _SAMPLES

SERVE = (sys.executable, "-m", "sam2rt", "serve")
CLIP = (_SAMPLES / "shapes.mp4").read_bytes()


@contextmanager
def command(bundle: Any, *options: str) -> Iterator[tuple[subprocess.Popen[str], Client]]:
    """A server on a free port, ended with the block if it still runs."""
    words = [sys.executable, "-m", "sam2rt", "serve", str(bundle.path), "--port", "0", "--json"]
    process = subprocess.Popen(
        [*words, "--threads", "1", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        text = ""
        assert process.stdout is not None
        while not text.endswith("}\n"):
            line = process.stdout.readline()
            assert line, process.stderr and process.stderr.read()
            text += line
        port = int(json.loads(text)["address"].rpartition(":")[2])
        yield process, Client(port)
    finally:
        process.kill()
        process.communicate()


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_kill_9_during_an_upload_leaves_no_half_file(bundle, tmp_path):
    data = tmp_path / "data"
    with command(bundle, "--data", str(data)) as (process, client):
        whole = client.ok("POST", "/v1/media?name=whole.mp4", CLIP)
        with raw_socket(client.port) as slow:
            head = f"POST /v1/media HTTP/1.1\r\nHost: localhost\r\nContent-Length: {2 * len(CLIP)}"
            slow.sendall(head.encode() + b"\r\n\r\n" + CLIP)
            until(lambda: list((data / "incoming").iterdir()))
            process.kill()
            process.wait()
    assert [path.name for path in (data / "media").iterdir()] == [whole["media"]]
    with command(bundle, "--data", str(data)) as (process, client):
        assert client.ok("GET", "/v1/media") == {"media": [whole]}
        assert list((data / "incoming").iterdir()) == []
        at = client.session(media=whole["media"])
        body = {"object": 1, "points": [[128, 128]], "labels": [1]}
        found = client.ok("POST", f"{at}/prompts", body)
        assert found["objects"][0]["mask"]["size"] == [256, 256]
        # one server at a time
        done = subprocess.run(
            [*SERVE, str(bundle.path), "--port", "0", "--data", str(data)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 1
        assert done.stderr == (
            f"sam2rt: {data} is in use by another process: name another folder, or end it\n"
        )


@pytest.mark.skipif(os.name != "posix", reason="signals of POSIX")
@pytest.mark.parametrize(
    ("number", "code", "line"),
    [(signal.SIGTERM, 143, "sam2rt: terminated\n"), (signal.SIGINT, 130, "sam2rt: interrupted\n")],
)
def test_a_signal_ends_it_with_what_is_in_hand(bundle, tmp_path, number, code, line):
    with command(bundle, "-q") as (process, client):
        at = client.session(sample="shapes")
        body = {"object": 1, "points": [[128, 128]], "labels": [1]}
        client.ok("POST", f"{at}/prompts", body)
        lines = client.lines(f"{at}/propagate", {"direction": "both", "start": 12})
        assert next(lines)["frame"] == 12
        process.send_signal(number)
        *_, end = lines
        assert end["end"] in ("cancelled", "complete")
        assert end["error"] is None
        process.wait(20)
        assert process.stderr is not None
        assert (process.returncode, process.stderr.read()) == (code, line)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--host", "0.0.0.0"], "host 0.0.0.0 can be reached by others: give --token, or stay on"),
        (["--token", "abc"], "the token must have at least 8 letters, digits, '-' or '_'"),
        (["--root", "none"], "root none is no folder: name the folder of the videos"),
        (["--host", "192.0.2.1", "--token", "correct-horse"], "cannot listen on 192.0.2.1 port 0"),
        (["--data", "/dev/null/x"], "/dev/null/x cannot be"),
    ],
)  # fmt: skip
def test_what_cannot_be_served_is_one_line(bundle, tmp_path, options, line):
    words = [sys.executable, "-m", "sam2rt", "serve", str(bundle.path), "--port", "0", *options]
    done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 1
    assert done.stderr.startswith(f"sam2rt: {line}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("kept", ["incoming/own.mp4", "media/.own/a.png", "own.txt"])
def test_a_folder_of_others_is_refused_and_left_as_it_is(bundle, tmp_path, kept):
    data = tmp_path / "data"
    (data / kept).parent.mkdir(parents=True)
    (data / kept).write_text("mine")
    words = [*SERVE, str(bundle.path), "--port", "0", "--data", str(data)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (
        1, f"sam2rt: {data} holds files of others: name a new or an empty folder\n"
    )  # fmt: skip
    assert [path for path in data.rglob("*") if path.is_file()] == [data / kept]
    assert (data / kept).read_text() == "mine"


def resident(process: subprocess.Popen[str]) -> int:
    """Bytes of memory that a process holds."""
    pages = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
    return int(pages) * os.sysconf("SC_PAGE_SIZE")


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_memory_is_flat_over_a_thousand_sessions(bundle):
    options = ("--idle", "1", "--max-sessions", "200")
    body = {"object": 1, "points": [[128, 128]], "labels": [1]}
    with command(bundle, *options) as (process, client):
        used = []
        for number in range(1000):
            while (opened := client.json("POST", "/v1/sessions", {"sample": "shapes"}))[0] == 429:
                time.sleep(0.1)
            at = f"/v1/sessions/{opened[1]['session']}"
            client.ok("POST", f"{at}/prompts", body)
            *_, end = client.lines(f"{at}/propagate", {"frames": 3})
            assert end["end"] == "complete"
            # left behind, without a word
            if number % 100 == 99:
                until(lambda: b"\nsam2rt_sessions 0.0" in client.raw("GET", "/metrics")[1])
                used.append(resident(process))
        descriptors = len(list(Path(f"/proc/{process.pid}/fd").iterdir()))
    # allocators keep what a first crowd took
    assert used[-1] < used[2] + (24 << 20), used
    assert descriptors < 60
