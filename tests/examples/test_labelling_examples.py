"""The programs for labelling tools give what the predictors give."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from served import serving

from sam2rt import ImagePredictor, StreamTracker, VideoPredictor
from sam2rt.benchmarks.synthetic.clips import make_clip
from sam2rt.runtime.backends.onnxruntime_session import OnnxRuntimeSession
from sam2rt.serving.labelling.outlines import mask_of_polygon
from sam2rt.serving.labelling.xanylabeling import xanylabeling_routes

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "labelling"
FRAMES = 18


@pytest.fixture(scope="module")
def bundle(shared_bundles: Any) -> Any:
    return shared_bundles.built_in()


def run(name: str, *arguments: object) -> str:
    command = [sys.executable, str(EXAMPLES / name), *map(str, arguments)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=300)
    assert done.returncode == 0, done.stderr
    return done.stdout


def edges(mask: Any) -> list[int]:
    rows, columns = np.nonzero(mask)
    return [int(v) for v in (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)]


def test_every_program_is_listed() -> None:
    page = (EXAMPLES.parent / "README.md").read_text()
    for path in EXAMPLES.iterdir():
        assert path.suffix != ".py" or f"(labelling/{path.name})" in page, path.name
        assert path.suffix != ".py" or len(path.read_text().splitlines()) <= 70, path.name


def test_cvat(bundle: Any, tmp_path: Path) -> None:
    pytest.importorskip("cvat_sdk", reason="needs cvat-sdk, which wants Python 3.11")
    clip = make_clip(5, "plain", FRAMES)
    (tmp_path / "frames").mkdir()
    for t, frame in enumerate(clip.frames):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{t:03d}.png")
    box = edges(clip.labels[0] == 2)
    said = run("cvat_dry_run.py", bundle.path, tmp_path / "frames", *box, tmp_path / "masks")
    areas = {int(t): int(n) for t, n in re.findall(r"^frame (\d+): (\d+) pixels$", said, re.M)}
    with ImagePredictor(bundle, threads=1) as image, VideoPredictor(bundle, threads=1) as video:
        image.set_image(clip.frames[0])
        mask = image.predict(box=box, multimask_output=False)[0][0]
        state = video.init_state(clip.frames)
        video.add_new_mask(state, 0, 1, mask)
        expected = {t: logits[0, 0] > 0 for t, _, logits in video.propagate_in_video(state)}
    assert areas == {t: int(true.sum()) for t, true in expected.items() if t > 0}
    for t in areas:
        found = np.asarray(Image.open(tmp_path / "masks" / f"{t:05d}.png")) > 0
        np.testing.assert_array_equal(found, expected[t])


def test_label_studio(bundle: Any, tmp_path: Path) -> None:
    """The server answers; what it answers is tested with the module."""
    pytest.importorskip("label_studio_ml.response", reason="needs Label Studio's ML backend")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, EXAMPLES / "label_studio_backend.py", bundle.path, str(port)]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.DEVNULL)
    try:
        for _ in range(600):
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/health") as answer:
                    assert json.load(answer)["status"] == "UP"
                break
            except OSError:
                assert process.poll() is None
                time.sleep(0.1)
        else:
            raise AssertionError("the server did not start")
    finally:
        process.terminate()
        process.wait()


def test_xanylabeling(bundle: Any, tmp_path: Path) -> None:
    clip = make_clip(5, "plain", 2)
    Image.fromarray(clip.frames[0]).save(tmp_path / "image.png")
    rows, columns = np.nonzero(clip.labels[0] == 2)
    x, y = int(columns.mean()), int(rows.mean())
    with (
        OnnxRuntimeSession(bundle, threads=1) as session,
        serving(session, extra=lambda _: xanylabeling_routes()) as served,
    ):
        server = f"http://127.0.0.1:{served.port}"
        words = ("xanylabeling_client.py", tmp_path / "image.png", x, y, "--server", server)
        names, first, points = run(*words).splitlines()[:3]
        image = ImagePredictor(bundle, session=session)
        image.set_image(clip.frames[0])
        masks, ious, _ = image.predict([[x, y]], [1], multimask_output=False)
    assert names == f"sam2rt {bundle.model.name}, sam2rt {bundle.model.name} video"
    assert first.endswith(f" points, {ious[0]:.3f}")
    pixels = mask_of_polygon(json.loads(points), masks[0].shape)
    assert (pixels & masks[0]).sum() / (pixels | masks[0]).sum() > 0.95


def test_supervision(bundle: Any, tmp_path: Path) -> None:
    clip = make_clip(5, "plain", 3)
    (tmp_path / "frames").mkdir()
    for t, frame in enumerate(clip.frames):
        Image.fromarray(frame).save(tmp_path / "frames" / f"{t:03d}.png")
    rows, columns = np.nonzero(clip.labels[0] == 2)
    x, y = int(columns.mean()), int(rows.mean())
    said = run("supervision_video.py", bundle.path, tmp_path / "frames", x, y, tmp_path / "out")
    areas = [int(n) for n in re.findall(r"(\d+) pixels$", said, re.M)]
    with StreamTracker(bundle, threads=1) as tracker:
        tracker.add_points(1, [[x, y]], [1])
        for t, frame in enumerate(clip.frames):
            mask = tracker.step(frame).masks[0]
            assert areas[t] == pytest.approx(mask.sum(), rel=1e-3)
            drawn = np.asarray(Image.open(tmp_path / "out" / f"{t:05d}.png"))
            changed = (drawn != frame).any(axis=-1)
            assert changed[mask].mean() > 0.9


def test_osam(bundle: Any, tmp_path: Path) -> None:
    pytest.importorskip("osam", reason="needs osam")
    clip = make_clip(5, "plain", 2)
    Image.fromarray(clip.frames[0]).save(tmp_path / "image.png")
    rows, columns = np.nonzero(clip.labels[0] == 2)
    x, y = int(columns.mean()), int(rows.mean())
    out = tmp_path / "mask.png"
    said = run("osam_click.py", bundle.path, tmp_path / "image.png", x, y, out)
    with ImagePredictor(bundle) as image:
        image.set_image(clip.frames[0])
        masks, ious, _ = image.predict([[x, y]], [1], multimask_output=False)
    assert said == f"{masks[0].sum()} pixels, predicted IoU {ious[0]:.3f}\n"
    np.testing.assert_array_equal(np.asarray(Image.open(out)) > 0, masks[0])


def test_fiftyone(bundle: Any, tmp_path: Path) -> None:
    pytest.importorskip(
        "fiftyone.core.labels", reason="needs FiftyOne, which wants an older OpenCV"
    )
    clip = make_clip(5, "plain", 2)
    Image.fromarray(clip.frames[0]).save(tmp_path / "image.png")
    box, out = [40.0, 30.0, 150.0, 140.0], tmp_path / "mask.png"
    said = run("fiftyone_masks.py", bundle.path, tmp_path / "image.png", *box, out)
    with ImagePredictor(bundle) as image:
        image.set_image(clip.frames[0])
        masks, ious, _ = image.predict(box=box, multimask_output=False)
    assert said.endswith(f"{masks[0].sum()} pixels, predicted IoU {ious[0]:.3f}\n")
    np.testing.assert_array_equal(np.asarray(Image.open(out)) > 0, masks[0])
