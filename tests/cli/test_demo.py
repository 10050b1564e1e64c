"""The demonstration: it runs offline, and what it shows is what was tracked."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sam2rt.benchmarks.demo import prompts_of, removed_on_failure
from sam2rt.benchmarks.synthetic.clips import make_clip
from sam2rt.cli import main
from sam2rt.configs.models import MODELS
from sam2rt.export.checkpoint.load import built_in_file
from sam2rt.export.model.untrained import untrained_state


@pytest.mark.parametrize("named", [False, True])
def test_demo(named: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ["demo", "-o", str(tmp_path / "out"), "--frames", "3", "--threads", "1"]
    if named:
        torch.save(untrained_state(MODELS["micro"]), tmp_path / "w.pt")
        args.append(str(tmp_path / "w.pt"))
    with pytest.raises(SystemExit) as done:
        main(args)
    out, err = capsys.readouterr()
    assert (done.value.code, err) == (0, "")
    built_in = built_in_file("sam2rt_micro").is_file()
    assert ("these are random" in out) == (not named and not built_in)
    assert re.search(r"tracked 2 objects through 3 frames:\n  \d+\.\d\d frames per second", out)

    frames = json.loads((tmp_path / "out" / "work" / "track" / "masks.json").read_text())["images"]
    assert [len(f["object_scores"]) for f in frames] == [2, 2, 2]
    video = cv2.VideoCapture(str(tmp_path / "out" / "demo.mp4"))
    assert int(video.get(cv2.CAP_PROP_FRAME_COUNT)) == 3
    assert cv2.imread(str(tmp_path / "out" / "demo.png")) is not None
    shown = float(re.search(r"true masks (\d\.\d+)", out)[1])  # type: ignore[index]
    assert shown == pytest.approx(_mean_iou(tmp_path / "out" / "work" / "track"), abs=5e-4)


def _mean_iou(track: Path) -> float:
    clip = make_clip(5, "plain", 3)
    found = []
    for obj_id in (p.obj_id for p in prompts_of(clip)):
        for t in range(3):
            name = str(track / "masks" / str(obj_id) / f"{t:05d}.png")
            mask, true = cv2.imread(name, 0) > 0, clip.labels[t] == obj_id
            found.append((mask & true).sum() / max((mask | true).sum(), 1))
    return float(np.mean(found))


def test_prompts_lie_on_their_objects() -> None:
    clip = make_clip(5, "plain", 1)
    box, click = prompts_of(clip)
    assert box.box is not None
    x0, y0, x1, y1 = map(int, box.box)
    inside = clip.labels[0] == box.obj_id
    assert inside.sum() == inside[y0:y1, x0:x1].sum() > 0
    x, y, label = click.points[0]
    assert (clip.labels[0][int(y), int(x)], label) == (click.obj_id, 1)


def test_a_failure_removes_what_the_demonstration_made_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "out"
    _interrupted(out, "work/bundle/manifest.json", "work/clip.mp4")
    assert list(tmp_path.iterdir()) == []

    # another's file, there before or come meanwhile, keeps its folder
    (out / "work" / "track").mkdir(parents=True)
    _interrupted(out, "demo.mp4", "work/notes.txt")
    left = sorted(path.relative_to(out).as_posix() for path in out.rglob("*"))
    assert left == ["work", "work/notes.txt", "work/track"]

    fresh = tmp_path / "fresh"
    _interrupted(fresh, "work/track/masks.json", "notes.txt")
    assert [path.name for path in fresh.rglob("*")] == ["notes.txt"]


@pytest.mark.parametrize("own", ["work/track/notes.txt", "work/bundle/notes/a.png"])
def test_a_failure_leaves_folders_in_which_something_has_come(own: str, tmp_path: Path) -> None:
    made = ("work/track/masks.json", "work/bundle/manifest.json", "demo.png")
    _interrupted(tmp_path / "out", *made, own)
    left = [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
    kept = next(name for name in made if name.startswith(own[:8]))
    assert sorted(left) == sorted([tmp_path / "out" / own, tmp_path / "out" / kept])


def _interrupted(out: Path, *made: str) -> None:
    """A demonstration that is stopped after files of those names were made."""

    def work() -> None:
        with removed_on_failure(out):
            for name in made:
                (out / name).parent.mkdir(parents=True, exist_ok=True)
                # folders are made as a whole, so that a manifest is one
                (out / name).write_text('{"schema": 1}')
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
