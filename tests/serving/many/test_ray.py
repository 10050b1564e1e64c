"""The same work on a real cluster of Ray, several worker processes on this machine."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from many_clips import KilledOnce, clip_of, tiny_clip
from square_clip import CLICK

import sam2rt
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import SessionError
from sam2rt.serving.many import run
from sam2rt.serving.many.clips import Clip
from sam2rt.serving.many.cluster import RayTeam, joined_cluster
from sam2rt.serving.many.run import Spreading, track_many
from sam2rt.serving.many.spread import Team

ROOT = Path(__file__).resolve().parents[3]
needs_ray = pytest.mark.skipif(
    importlib.util.find_spec("ray") is None,
    reason="Ray is not installed: pip install 'ray[data]' -c constraints.txt",
)
CLIPS, WORKERS = 40, 3


@pytest.fixture(autouse=True)
def _as_urgent_as_others(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ray's workers give way to any other process, and would starve on a machine that is busy."""
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(sys.path))
    yield
    if (ray := sys.modules.get("ray")) is not None:
        ray.shutdown()


def _clips(folder: Path, count: int) -> list[Clip]:
    return [clip_of(tiny_clip(folder / f"{n}.mp4", n, frames=4)) for n in range(count)]


def _stored(ray: Any) -> float:
    """Bytes of the object store in use."""
    total = ray.cluster_resources()["object_store_memory"]
    return float(total - ray.available_resources().get("object_store_memory", total))


@needs_ray
@pytest.mark.slow
def test_forty_clips_one_worker_killed(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, stored = tmp_path / "out", [0.0]
    clips = _clips(tmp_path, CLIPS)
    started = time.monotonic()
    alone = track_many(bundle, clips, tmp_path / "alone", spreading=Spreading(1, 1))
    alone_seconds = time.monotonic() - started

    class Watched(RayTeam):
        def notices(self) -> Any:
            stored.append(_stored(self._ray))
            return super().notices()

    def team(made: Any, items: int, spreading: Spreading) -> tuple[Team, int]:
        cluster = joined_cluster("local", WORKERS, 1, "cpu")
        assert os.environ["RAY_USAGE_STATS_ENABLED"] == "0"
        assert not cluster.ray._private.worker.global_worker.node.webui_url
        work = KilledOnce(**vars(run._work(made, 1)), victim="7.mp4", mark=tmp_path / "killed")
        return Watched(cluster, work), WORKERS

    monkeypatch.setattr(run, "_team", team)
    started = time.monotonic()
    found = track_many(bundle, clips, out, spreading=Spreading(WORKERS, ray="local"))
    seconds = time.monotonic() - started
    assert (tmp_path / "killed").exists()
    assert found.counts == {"tracked": CLIPS}
    names = [r["folder"] for r in found.records]
    assert [r["attempts"] for r in found.records] == [2 if n == 7 else 1 for n in range(CLIPS)]
    # all there, none twice, nothing half written
    assert sorted(p.name for p in out.iterdir()) == sorted([*names, "summary.json"])
    assert len(set(names)) == CLIPS
    begun = (tmp_path / "tracked.txt").read_text().split()
    assert sorted(begun) == sorted([*names, names[7]])
    assert names == [r["folder"] for r in alone.records]
    for name in names:
        ours, theirs = (folder / name / "masks.json" for folder in (out, tmp_path / "alone"))
        assert ours.read_bytes() == theirs.read_bytes()
    # frames would be megabytes here
    assert max(stored) < 64 * 1024
    monkeypatch.setattr(run, "_spread", None)
    assert track_many(bundle, clips, out).counts == {"kept": CLIPS}
    print(f"\n{WORKERS} actors, started anew: {alone_seconds / seconds:.2f} x one process")


@needs_ray
@pytest.mark.slow
def test_the_example_gives_what_the_command_gives(bundle: Bundle, tmp_path: Path) -> None:
    clips = _clips(tmp_path, 3)
    (tmp_path / "bad.mp4").write_bytes(b"no clip")
    names = [*(clip.path.name for clip in clips), "bad.mp4"]
    manifest = tmp_path / "clips.jsonl"
    manifest.write_text("\n".join(json.dumps({"clip": n, "prompts": [CLICK]}) for n in names))
    program = str(ROOT / "examples" / "ray_pipeline.py")
    done = subprocess.run(
        [sys.executable, program, str(bundle.path), str(manifest), str(tmp_path / "out")],
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    lines = sorted(line for line in done.stdout.splitlines() if ".mp4: " in line)
    assert lines[:3] == [f"{n}.mp4: 4 frames" for n in range(3)]
    assert lines[3].startswith("bad.mp4: ")
    assert "cannot be opened as a video" in lines[3]
    again = track_many(bundle, clips, tmp_path / "again", spreading=Spreading(1, 1))
    for record in again.records:
        ours, theirs = (tmp_path / f / record["folder"] / "masks.json" for f in ("out", "again"))
        assert ours.read_bytes() == theirs.read_bytes()


@needs_ray
@pytest.mark.slow
def test_an_evaluation_has_equal_figures(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "sam2rt", "eval", "synthetic", "--clips", "3", "--frames", "4"]
    found = []
    for more in ("--processes=1", "--ray=local"):
        done = subprocess.run(
            [*words, "--threads=1", more, "--json"], capture_output=True, cwd=tmp_path, timeout=240
        )
        assert done.returncode == 0, done.stderr
        report = json.loads(done.stdout)
        found.append((report["J&F"], _without_seconds(report)))
    assert found[0][0] > 0.5
    assert found[0] == found[1]


def _without_seconds(data: Any) -> Any:
    """What an evaluation found, and not how long it took."""
    if isinstance(data, dict):
        return {k: _without_seconds(v) for k, v in data.items() if k not in ("seconds", "fps")}
    return [_without_seconds(v) for v in data] if isinstance(data, list) else data


@needs_ray
def test_an_address_where_nobody_answers_is_refused_at_once() -> None:
    with pytest.raises(SessionError, match=r"^no cluster of Ray at 127\.0\.0\.1:1 \(Connection"):
        joined_cluster("127.0.0.1:1", None, None, "cpu")
    with pytest.raises(SessionError, match=r"at ray://127\.0\.0\.1:x \(no number"):
        joined_cluster("ray://127.0.0.1:x", None, None, "cpu")


def test_ray_is_not_imported_unless_asked_for() -> None:
    code = (
        "import sys, sam2rt; sam2rt.ray.Tracker\n"
        "import sam2rt.serving.many.run, sam2rt.cli.group, sam2rt.serving.many.cluster\n"
        "assert 'ray' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, cwd="/")


def test_the_pipelines_tracker_gives_rows(bundle: Bundle, tmp_path: Path) -> None:
    import numpy as np

    (clip,) = _clips(tmp_path, 1)
    tracker = sam2rt.ray.Tracker(bundle.path, tmp_path / "out", threads=1)
    prompts = np.array([{"points": np.array([[20, 42]]), "labels": np.array([1]), "box": None}])
    found = tracker({"clip": np.array([str(clip.path)]), "prompts": np.array([prompts])})
    wanted = track_many(bundle, [clip], tmp_path / "many", spreading=Spreading(1, 1)).records[0]
    folder = tmp_path / "out" / wanted["folder"]
    assert found["folder"].tolist() == [str(folder)]
    assert (found["frames"].tolist(), found["error"].tolist()) == ([4], [""])
    ours, theirs = folder / "masks.json", tmp_path / "many" / wanted["folder"] / "masks.json"
    assert ours.read_bytes() == theirs.read_bytes()
    row = tracker({"clip": "gone.mp4", "prompts": '[{"points": [[1, 1]]}]', "id": 5})
    assert (row["id"], row["folder"]) == (5, "")
    assert row["error"].startswith(f"{Path.cwd() / 'gone.mp4'} does not exist")
    tracker.close()
