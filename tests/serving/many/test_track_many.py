"""Many clips on processes of this machine: masks, keys, what is kept, what failed."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from many_clips import KilledOnce, clip_of, tiny_clip
from square_clip import BOX, CLICK

from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import InputError
from sam2rt.runtime.pixels.rle import mask_from_rle
from sam2rt.runtime.predictors.video import VideoPredictor
from sam2rt.serving.many import run
from sam2rt.serving.many.clips import ClipOptions
from sam2rt.serving.many.processes import ProcessTeam
from sam2rt.serving.many.run import Spreading, track_many
from sam2rt.serving.many.spread import Team

TWO = Spreading(processes=2, threads=1)


def masks_in(folder: Path) -> dict[tuple[int, int], Any]:
    """Masks of a result by frame and object."""
    document = json.loads((folder / "masks.json").read_text())
    frames = {image["id"]: image["frame"] for image in document["images"]}
    return {
        (frames[a["image_id"]], a["object"]): mask_from_rle(a["segmentation"])
        for a in document["annotations"]
    }


def masks_of_predictor(bundle: Bundle, path: Path, **prompt: Any) -> dict[tuple[int, int], Any]:
    """The same of ``VideoPredictor``."""
    found = {}
    with VideoPredictor(bundle, threads=1) as predictor:
        state = predictor.init_state(path)
        predictor.add_new_points_or_box(state, 0, 1, **prompt)
        for frame, ids, logits in predictor.propagate_in_video(state):
            for obj_id, logit in zip(ids, logits, strict=True):
                if (mask := np.asarray(logit)[0] > 0).any():
                    found[frame, obj_id] = mask
    return found


def folder_of(summary: Any, out: Path, index: int) -> Path:
    return out / summary.records[index]["folder"]


def test_masks_are_those_of_the_predictor(bundle: Bundle, tmp_path: Path) -> None:
    paths = [tiny_clip(tmp_path / f"{n}.mp4", n) for n in range(3)]
    prompts = [CLICK, BOX, CLICK]
    clips = [clip_of(path, **prompt) for path, prompt in zip(paths, prompts, strict=True)]
    found = track_many(bundle, clips, tmp_path / "out", spreading=TWO)
    assert [r["status"] for r in found.records] == ["tracked"] * 3
    assert [r["frames"] for r in found.records] == [3, 3, 3]
    for index, (path, prompt) in enumerate(zip(paths, prompts, strict=True)):
        ours = masks_in(folder_of(found, tmp_path / "out", index))
        theirs = masks_of_predictor(bundle, path, **prompt)
        assert ours.keys() == theirs.keys()
        assert all((ours[key] == theirs[key]).all() for key in theirs)
    assert any(masks_in(folder_of(found, tmp_path / "out", 0)))


def test_a_second_run_does_nothing(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    clips = [clip_of(tiny_clip(tmp_path / f"{n}.mp4", n)) for n in range(2)]
    first = track_many(bundle, clips, out, spreading=TWO)
    monkeypatch.setattr(run, "_spread", None)
    before = {path: os.stat(path).st_mtime_ns for path in out.glob("*/*")}
    again = track_many(bundle, clips, out, spreading=TWO)
    assert {path: os.stat(path).st_mtime_ns for path in out.glob("*/*")} == before
    assert again.counts == {"kept": 2}
    kept = [{**record, "status": "kept"} for record in first.records]
    assert again.records == kept
    assert json.loads((out / "summary.json").read_text())["clips"] == kept


def test_a_key_goes_by_contents_prompts_bundle_and_options(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sam2rt.serving.many.clips import content_digest, result_name

    path = tiny_clip(tmp_path / "a.mp4", 1)
    other = tiny_clip(tmp_path / "b" / "a.mp4", 2)
    moved = Path(shutil.copy(path, tmp_path / "b" / "c.mp4")).rename(tmp_path / "a2.mp4")

    def name(path: Path, digest: str = "d", options: Any = None, **prompt: Any) -> str:
        clip = clip_of(path, **prompt)
        return result_name(clip, content_digest(path), digest, options or ClipOptions())

    base = name(path)
    assert base.startswith("a-")
    different = [
        name(other),
        name(path, **BOX),
        name(path, points=[[20, 42]], labels=[0]),
        name(path, object=2, **CLICK),
        name(path, frame=1, **CLICK),
        name(path, digest="e"),
        name(path, options=ClipOptions(non_overlap_masks=True)),
        name(path, options=ClipOptions(write_masks=True)),
    ]
    assert len({base, *different}) == 9
    # where a clip lies is no matter
    assert name(moved.rename(tmp_path / "b" / "a.mp4")) == base


def test_clips_of_one_name_do_not_collide_and_equal_ones_are_tracked_once(
    bundle: Bundle, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    paths = [tiny_clip(tmp_path / place / "a.mp4", n) for n, place in enumerate("xy")]
    (tmp_path / "z").mkdir()
    paths.append(Path(shutil.copy(paths[0], tmp_path / "z" / "a.mp4")))
    found = track_many(bundle, [clip_of(path) for path in paths], out, spreading=TWO)
    assert [r["status"] for r in found.records] == ["tracked"] * 3
    folders = [r["folder"] for r in found.records]
    assert folders[0] == folders[2] != folders[1]
    assert found.frames == 6
    assert sorted(p.name for p in out.iterdir()) == sorted({*folders, "summary.json"})


def test_a_folder_of_images_is_a_clip(bundle: Bundle, tmp_path: Path) -> None:
    from PIL import Image
    from square_clip import moving_square

    folder = tmp_path / "frames"
    folder.mkdir()
    for t, frame in enumerate(moving_square(3)):
        Image.fromarray(frame).save(folder / f"{t}.png")
    found = track_many(bundle, [clip_of(folder)], tmp_path / "out", spreading=TWO)
    first = found.records[0]["folder"]
    assert found.records[0]["frames"] == 3
    Image.fromarray(frame).save(folder / "3.png")
    found = track_many(bundle, [clip_of(folder)], tmp_path / "out", spreading=TWO)
    assert found.records[0]["frames"] == 4
    assert found.records[0]["folder"] != first


def test_a_worker_killed_amid_a_clip_loses_none_and_tracks_none_twice(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"

    def team(made: Any, items: int, spreading: Spreading) -> tuple[Team, int]:
        work = run._work(made, 1)
        return ProcessTeam(KilledOnce(**vars(work), victim="2.mp4", mark=tmp_path / "killed")), 2

    monkeypatch.setattr(run, "_team", team)
    clips = [clip_of(tiny_clip(tmp_path / f"{n}.mp4", n)) for n in range(6)]
    found = track_many(bundle, clips, out, spreading=TWO)
    assert (tmp_path / "killed").exists()
    assert [r["status"] for r in found.records] == ["tracked"] * 6
    assert [r["attempts"] for r in found.records] == [1, 1, 2, 1, 1, 1]
    names = [r["folder"] for r in found.records]
    # what the killed one had begun is gone
    assert sorted(p.name for p in out.iterdir()) == sorted([*names, "summary.json"])
    begun = (tmp_path / "tracked.txt").read_text().split()
    assert sorted(begun) == sorted([*names, names[2]])


def test_failures_are_listed_and_tried_by_the_next_run(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out, good = tmp_path / "out", tiny_clip(tmp_path / "good.mp4", 1)
    bad = tmp_path / "bad.mp4"
    bad.write_bytes(b"no clip")
    clips = [clip_of(bad), clip_of(good)]
    found = track_many(bundle, clips, out, spreading=TWO)
    assert [r["status"] for r in found.records] == ["failed", "tracked"]
    assert found.records[0]["error"].startswith(f"{bad} cannot be opened as a video")
    document = json.loads((out / "summary.json").read_text())
    assert (document["failed"], document["tracked"], document["frames"]) == (1, 1, 3)
    tiny_clip(bad, 2)
    assert track_many(bundle, clips, out, spreading=TWO).counts == {"tracked": 1, "kept": 1}


def test_places_that_hold_something_else_are_refused(bundle: Bundle, tmp_path: Path) -> None:
    clip = clip_of(tiny_clip(tmp_path / "a.mp4", 1))
    with pytest.raises(InputError, match=r"is not empty and holds no summary\.json"):
        track_many(bundle, [clip], tmp_path)
    with pytest.raises(InputError, match="is a file: name a folder"):
        track_many(bundle, [clip], clip.path)
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp4"]
