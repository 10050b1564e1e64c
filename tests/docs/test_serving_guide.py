"""The guide on serving: its Python runs, its requests are answered, its options exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from served import serving

from sam2rt import StreamTracker, open_frames
from sam2rt.cli.main import command_group
from sam2rt.serving.sessions.media import _SAMPLES

PAGE = (Path(__file__).resolve().parents[2] / "docs/guides/serving.md").read_text()


def test_the_loop_gives_the_masks_of_a_stream(session, tmp_path, monkeypatch):
    (block,) = re.findall(r"```python\n(.*?)```", PAGE, re.S)
    shutil.copy(_SAMPLES / "shapes.mp4", tmp_path / "clip.mp4")
    shutil.copytree(session.bundle.path, tmp_path / "bundle")
    monkeypatch.chdir(tmp_path)
    names: dict[str, object] = {}
    exec(block, names)
    tracker = StreamTracker(session.bundle, session=session)
    tracker.add_points(1, [[128, 128]], [1])
    tracker.add_points(2, box=[40, 60, 120, 150])
    for frame in open_frames("clip.mp4"):
        result = tracker.step(frame)
    assert names["later"].frame_idx == 24
    for mask, expected in zip(names["masks"], result.masks, strict=True):
        np.testing.assert_array_equal(mask, expected)


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_requests_are_answered(session, tmp_path):
    block = next(b for b in re.findall(r"```sh\n(.*?)```", PAGE, re.S) if "curl" in b)
    shutil.copy(_SAMPLES / "shapes.mp4", tmp_path / "clip.mp4")
    with serving(session) as served:
        media = served.upload(tmp_path / "clip.mp4")
        at = served.session(media=media)
        text = block.replace("http://127.0.0.1:8765", f"http://127.0.0.1:{served.port}")
        text = text.replace('"media": "ID"', f'"media": "{media}"')
        text = text.replace("sessions/ID", at.removeprefix("/v1/")).replace(
            "[210, 350]", "[99, 99]"
        )
        done = subprocess.run(
            ["bash", "-ec", text], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert '"error":"' not in done.stdout
        assert '{"end":"complete","done":24,"total":24,"error":null}' in done.stdout
        assert (tmp_path / "clip-masks.json").is_file()


def test_the_options_exist():
    known = {o for p in command_group().commands["serve"].params for o in p.opts}
    table = PAGE.partition("## The API")[0]
    named = set(re.findall(r"`(--[a-z-]+)`", table))
    assert named - {"--json"} <= known
    assert {"--host", "--port", "--token", "--root", "--data", "--idle"} <= named
