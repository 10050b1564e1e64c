"""The examples of clients run against a real server and write what it found."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from served import Served, serving

from sam2rt import StreamTracker, VideoPredictor
from sam2rt.runtime.pixels.rle import mask_from_rle
from sam2rt.serving.sessions.media import _SAMPLES

EXAMPLES = Path(__file__).resolve().parents[2] / "examples"
CLIP = _SAMPLES / "shapes.mp4"


@pytest.fixture(scope="module")
def served(session) -> Iterator[Served]:
    with serving(session) as server:
        yield server


@pytest.fixture(scope="module")
def expected(session) -> list[np.ndarray]:
    predictor = VideoPredictor(session.bundle, session=session)
    state = predictor.init_state(CLIP)
    predictor.add_new_points_or_box(state, 0, 1, [[100, 120]], [1])
    return [np.asarray(logits[0, 0] > 0) for _, _, logits in predictor.propagate_in_video(state)]


def run(*words: object, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [str(word) for word in words], capture_output=True, text=True, check=False, timeout=120,
        env={**os.environ, **environment},
    )  # fmt: skip


def assert_tracked(printed: str, written: Path, expected: list[np.ndarray]) -> None:
    """Each frame's area is printed, each mask is in the file."""
    areas = [int(np.count_nonzero(mask)) for mask in expected]
    assert printed.splitlines()[0] == f"frame 0: {areas[0]} pixels"
    found = re.findall(r"^frame (\d+): \[(\d+)\] pixels$", printed, re.M)
    assert found == [(str(t), str(area)) for t, area in enumerate(areas)]
    assert "complete: 24 of 24 frames" in printed
    coco = json.loads(written.read_text())
    frames = {image["id"]: image["frame"] for image in coco["images"]}
    masks = {frames[r["image_id"]]: mask_from_rle(r["segmentation"]) for r in coco["annotations"]}
    assert masks.keys() == {t for t, area in enumerate(areas) if area}
    for t, mask in masks.items():
        np.testing.assert_array_equal(mask, expected[t])


def test_client_in_python(served, expected, tmp_path):
    out, server = tmp_path / "masks.json", f"http://127.0.0.1:{served.port}"
    words = (sys.executable, EXAMPLES / "client.py", CLIP, "--point", "100,120", "-o", out)
    done = run(*words, "--server", server)
    assert (done.returncode, done.stderr) == (0, "")
    assert_tracked(done.stdout, out, expected)
    (tmp_path / "no.mp4").write_bytes(b"no video")
    done = run(sys.executable, EXAMPLES / "client.py", tmp_path / "no.mp4", "--server", server)
    assert done.returncode == 1
    assert done.stderr.startswith("415: neither a video nor an image")


@pytest.mark.skipif(shutil.which("node") is None, reason="needs Node.js")
def test_client_in_javascript(served, expected, tmp_path):
    program = EXAMPLES / "client.js"
    out, server = tmp_path / "masks.json", f"http://127.0.0.1:{served.port}"
    done = run("node", program, CLIP, "100,120", out, SERVER=server)
    assert (done.returncode, done.stderr) == (0, "")
    assert_tracked(done.stdout, out, expected)
    done = run("node", program, "-", "999,999", out, SERVER=server)
    assert done.returncode == 1
    assert done.stderr.startswith("422: the point [999.0, 999.0] lies outside the image")


def test_camera(session, served):
    import cv2

    words = (sys.executable, EXAMPLES / "camera.py", CLIP, "--point", "100,120", "--frames", 6)
    done = run(*words, "--server", f"ws://127.0.0.1:{served.port}")
    assert (done.returncode, done.stderr) == (0, "")
    tracker = StreamTracker(session.bundle, session=session)
    tracker.add_points(1, [[100, 120]], [1])
    model = session.bundle.model
    lines = [f"{model.name} at {model.image_size} pixels"]
    camera = cv2.VideoCapture(str(CLIP))
    for t in range(6):
        content = cv2.imencode(".jpg", camera.read()[1], [cv2.IMWRITE_JPEG_QUALITY, 90])[1]
        rgb = np.asarray(_decoded(content.tobytes()))
        result = tracker.step(rgb)
        area, score = np.count_nonzero(result.masks[0]), result.object_scores[0]
        lines.append(f"frame {t}: object 1: {area} pixels, score {score:.1f}")
    assert done.stdout.splitlines() == lines
    done = run(
        sys.executable,
        EXAMPLES / "camera.py",
        "none.mp4",
        "--server",
        f"ws://127.0.0.1:{served.port}",
    )
    assert done.returncode == 1
    assert "cannot open none.mp4" in done.stderr


def _decoded(content: bytes) -> np.ndarray:
    import io

    from PIL import Image

    return np.array(Image.open(io.BytesIO(content)).convert("RGB"))
