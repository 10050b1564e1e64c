"""The models in a real Triton server on a CPU: masks, many at once, lost clients, wrong input."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from square_clip import CLICK, moving_square
from triton_server import ROOT, TritonServer, environment

from sam2rt import StreamTracker, open_frames
from sam2rt.runtime.media.images import write_image
from sam2rt.runtime.media.video.writer import open_video_writer
from sam2rt.serving.sessions.limits import ServerLimits
from sam2rt.serving.triton.repository import RepositoryOptions, write_repository

pytestmark = pytest.mark.slow
IDLE = 4
EXAMPLE = ROOT / "examples" / "triton_client.py"
PROMPTS = {"prompts": [{"object": 1, **CLICK}]}
SESSIONS, FRAMES = 8, 50


def repository(bundle: Any, folder: Path) -> Path:
    limits = ServerLimits(idle_seconds=IDLE, sessions=64)
    write_repository(bundle, folder, RepositoryOptions(threads=1, limits=limits))
    return folder


@pytest.fixture(scope="module", autouse=True)
def possible() -> None:
    environment()


@pytest.fixture(scope="module")
def served(bundle, tmp_path_factory) -> Iterator[TritonServer]:
    work = tmp_path_factory.mktemp("triton")
    with TritonServer(repository(bundle, work / "repository"), work) as server:
        server.wait()
        yield server


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """A video of 150 frames."""
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    with open_video_writer(path, 25.0, (96, 128)) as writer:
        for frame in moving_square(150):
            writer.write(frame)
    return path


def described(result: Any) -> dict[str, Any]:
    """A tracker's result as the example's client describes a response."""
    height, width = result.frame_size
    objects = [
        {"object": i, "score": float(s), "mask": {"size": [height, width], "counts": r["counts"]}}
        for i, s, r in zip(result.obj_ids, result.object_scores, result.rles(), strict=True)
    ]
    return {"frame": result.frame_idx, "objects": objects}


def tracked(session: Any, frames: Any, num_frames: int | None = None) -> list[dict[str, Any]]:
    tracker = StreamTracker(session.bundle, session=session, num_frames=num_frames)
    tracker.add_points(1, CLICK["points"], CLICK["labels"])
    return [described(tracker.step(frame)) for frame in frames]


def test_outputs_have_bytes(served):
    sizes = served.calls("sizes")
    assert sizes.pop("RLE") > 4
    assert sizes == {"OBJECT_IDS": 8, "SCORES": 4, "FRAME_SIZE": 8, "FRAME_INDEX": 8}


def test_eight_sessions_at_once_over_each_interface(served, session, tmp_path):
    clips = {}
    for number in range(SESSIONS):
        clips[f"clip{number}"] = np.roll(moving_square(FRAMES), 5 * number, 1)
        prompt = {"object": number, "points": [[20, 42 + 5 * number]], "labels": [1]}
        clips[f"prompts{number}"] = np.array(json.dumps({"prompts": [prompt]}))
    np.savez(tmp_path / "clips.npz", **clips)
    found = served.calls("load", tmp_path / "clips.npz")
    assert len(found) == 2 * SESSIONS
    for number in range(SESSIONS):
        tracker = StreamTracker(session.bundle, session=session)
        tracker.add_points(number, [[20, 42 + 5 * number]], [1])
        expected = [described(tracker.step(frame)) for frame in clips[f"clip{number}"]]
        # scores are compared too, to the last bit
        assert found[f"grpc{number}"] == expected, number
        assert found[f"http{number}"] == expected, number
    served.until("sam2rt_triton_sessions", 0)


@pytest.mark.parametrize("api", ["grpc", "http"])
def test_wrong_requests_are_one_line_each_and_harm_nothing(served, api):
    said = served.calls("wrong", api)
    assert said.pop("goes on with") == 1
    begins = {
        "start on a live id": "is live, with 1 frames: end it with sequence_end, or begin with",
        "other size": "the frame is 100 x 96, earlier ones were 128 x 96: resize it, or begin",
        "no frame": "neither FRAME nor ENCODED was given: expected uint8 RGB [H, W, 3], or the",
        "no image": "the frame is no JPEG, PNG or WebP that can be read: send another",
        "no JSON of prompts": "PROMPTS is no JSON that can be used (NaN, which is no number)",
        "unknown object": "PROMPTS, remove: object 7 is not tracked: leave it out",
        "text id": "the sequence id is the text 'camera': expected a whole number from 1 on",
        # the server itself says these
        "two dimensions": "unexpected shape for input 'FRAME' for model 'sam2rt_stream'. Expected",
        "four channels": "unexpected shape for input 'FRAME' for model 'sam2rt_stream'. Expected",
        "wrong type": "data-type is 'FP64', but model 'sam2rt_stream' expects 'UINT8'",
        "after the end": "must specify the START flag on the first request of the sequence",
        "no start": "must specify the START flag on the first request of the sequence",
        "id 0": "must specify",
    }
    assert said.keys() == begins.keys()
    for name, line in begins.items():
        assert said[name], name
        assert line in said[name], (name, said[name])
        assert "\n" not in said[name].strip(), name
    served.until("sam2rt_triton_sessions", 0)


def test_a_killed_client_s_session_is_gone_after_its_time(served):
    before = served.figure("sam2rt_triton_expired")
    script = Path(__file__).resolve().parents[2] / "support" / "triton_calls.py"
    started = time.monotonic()
    done = served.client(script, "begun", served.grpc, served.http, 77)
    assert (done.returncode, json.loads(done.stdout)["frame"]) == (-9, 0)
    assert served.figure("sam2rt_triton_sessions") == 1
    served.until("sam2rt_triton_sessions", 0)
    assert time.monotonic() - started > IDLE
    assert served.figure("sam2rt_triton_expired") == before + 1
    # the id is free again
    done = served.client(script, "begun", served.grpc, served.http, 77)
    assert json.loads(done.stdout)["frame"] == 0
    served.until("sam2rt_triton_sessions", 0)


def test_the_example_tracks_a_clip_and_pictures(served, session, clip, tmp_path):
    server = f"127.0.0.1:{served.grpc}"
    done = served.client(EXAMPLE, clip, "--point", "20,42", "--server", server)
    assert done.returncode == 0, done.stderr
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found == tracked(session, open_frames(clip), num_frames=150)
    for t, frame in enumerate(moving_square(5)):
        write_image(tmp_path / f"{t}.png", frame)
    done = served.client(EXAMPLE, tmp_path, "--point", "20,42", "--server", server)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert found == tracked(session, moving_square(5))
    (tmp_path / "5.png").write_text("no image")
    done = served.client(EXAMPLE, tmp_path, "--point", "20,42", "--server", server)
    assert done.returncode == 1
    assert done.stderr.strip() == "the frame is no JPEG, PNG or WebP that can be read: send another"


@pytest.mark.parametrize("how", ["closed", "killed"])
def test_a_clip_ends_when_its_client_goes(served, clip, how):
    before = served.figure("sam2rt_triton_clip_frames")
    script = Path(__file__).resolve().parents[2] / "support" / "triton_calls.py"
    words = ("left", served.grpc, served.http, clip, json.dumps(PROMPTS), how)
    done = served.client(script, *words)
    assert done.returncode == (-9 if how == "killed" else 0), done.stderr
    served.until("sam2rt_triton_clips", 0)
    assert 3 <= served.figure("sam2rt_triton_clip_frames") - before < 150


def test_a_wrong_clip_is_one_line(served, clip, tmp_path):
    (tmp_path / "list.m3u8").write_text("#EXTM3U\nfile:///etc/passwd\n")
    said = served.calls("wrong_clip", tmp_path / "list.m3u8", json.dumps(PROMPTS))
    assert said.startswith("neither a video nor an image that is known")
    late = {"prompts": [{"frame": 150, **CLICK}]}
    said = served.calls("wrong_clip", clip, json.dumps(late))
    assert said == (
        "the prompt of object 1 is on frame 150, which was never reached: 150 frames could be read"
    )


@pytest.mark.skipif(np.__version__ < "2", reason="the tests' own NumPy is the old one")
def test_a_server_that_cannot_read_arrays_loads_nothing_and_says_why(bundle, tmp_path):
    place = repository(bundle, tmp_path / "repository")
    with TritonServer(place, tmp_path, python=Path(sys.executable).parent) as server:
        assert server.process.wait(120) != 0
    log = server.log.read_text()
    assert f"this server does not read arrays of NumPy {np.__version__}: install 'numpy<2'" in log
    assert os.path.exists(place / "sam2rt.json")
