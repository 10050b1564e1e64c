"""Evaluation on videos whose answers are known, because the model goes by colour."""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_model import BLUE, GREEN, RED, Clip, ColourOpener, ColourSession, box_mask
from PIL import Image

from sam2rt.benchmarks.evaluation import workers as evaluate_workers
from sam2rt.benchmarks.evaluation.datasets import Dataset, open_dataset, read_labels
from sam2rt.benchmarks.evaluation.evaluate import evaluate, evaluate_to_file, parts_folder
from sam2rt.benchmarks.evaluation.interactive import EncoderCache
from sam2rt.benchmarks.evaluation.job import Job, Settings
from sam2rt.benchmarks.evaluation.metrics import RULES
from sam2rt.benchmarks.evaluation.report import table
from sam2rt.benchmarks.evaluation.workers import _serve
from sam2rt.configs.errors import FrameError, InputError, MissingExtraError, SessionError

#: the place of an object 1 and of an object 2
ONE, TWO = (20, 20, 100, 80), (140, 120, 220, 200)


def still(name: str = "still", frames: int = 6) -> Clip:
    """A red and a green object that stay where they are."""
    shapes = ((RED, ONE), (GREEN, TWO))
    return Clip(name, (shapes,) * frames, {i: {1: ONE, 2: TWO} for i in range(frames)})


def turns_blue(frames: int = 8, at: int = 4) -> Clip:
    """Red, then blue: who was clicked while red is lost from there on."""
    shapes = tuple(((RED if i < at else BLUE, ONE),) for i in range(frames))
    return Clip("turns blue", shapes, {i: {1: ONE} for i in range(frames)})


def job(*clips: Any, rule: str = "synthetic", **settings: Any) -> Job:
    merged = rule != "sav"
    dataset = Dataset("test", RULES[rule], clips, merged)
    return Job(dataset, ColourOpener(), Settings(**settings))


@pytest.mark.parametrize("prompt", ["mask", "box", "click"])
def test_every_prompt_finds_and_follows_both_objects(prompt: str) -> None:
    data = evaluate(job(still(), prompt=prompt))
    assert (data["J&F"], data["J"], data["F"], data["objects"]) == (1, 1, 1, 2)
    assert data["prompt"] == prompt
    assert [o["frames"] for o in data["results"]] == [4, 4]


def test_lost_frames_lower_the_mean_and_are_named() -> None:
    """Frames 1 to 6 are scored; 4, 5 and 6 are lost."""
    data = evaluate(job(turns_blue(), prompt="click"))
    assert (data["J&F"], data["J"], data["F"]) == (0.5, 0.5, 0.5)
    assert data["lowest"] == {"video": "turns blue", "object": 1, "frame": 4, "J": 0}


def test_objects_that_appear_later_are_prompted_then() -> None:
    shapes = tuple(((RED, ONE),) + (((GREEN, TWO),) if i >= 3 else ()) for i in range(8))
    truths = {i: {1: ONE} | ({2: TWO} if i >= 3 else {}) for i in range(8)}
    data = evaluate(job(Clip("later", shapes, truths), rule="lvos"))
    assert [(o["object"], o["frames"], o["J"]) for o in data["results"]] == [(1, 6, 1), (2, 3, 1)]
    # by MOSE's rule the frames without it count as well, rightly empty
    mose = evaluate(job(Clip("later", shapes, truths), rule="mose"))
    assert [(o["object"], o["frames"], o["J"]) for o in mose["results"]] == [(1, 6, 1), (2, 6, 1)]


def test_an_object_that_leaves_and_returns() -> None:
    """Absent on 3 and 4, rightly found absent: J 1 there, and a perfect object score."""
    there = [i not in (3, 4) for i in range(8)]
    shapes = tuple(((RED, ONE),) if seen else () for seen in there)
    truths = {i: {1: ONE if seen else None} for i, seen in enumerate(there)}
    data = evaluate(job(Clip("returns", shapes, truths)))
    assert data["J&F"] == 1
    assert data["object_score_auc"] == 1
    assert data["lowest"]["J"] == 1


def test_an_object_taken_for_another_scores_nothing() -> None:
    """The truth calls the red box 1 first and 2 later: both are wrong from then on."""
    shapes = (((RED, ONE), (GREEN, TWO)),) * 6
    truths = {i: {1: ONE, 2: TWO} if i < 3 else {1: TWO, 2: ONE} for i in range(6)}
    data = evaluate(job(Clip("swapped", shapes, truths)))
    assert [o["J"] for o in data["results"]] == [0.5, 0.5]


def test_sparse_annotations_of_single_objects() -> None:
    """SA-V: every fourth frame, overlapping masks, frames between them only tracked."""
    shapes = (((RED, ONE),),) * 13
    truths = {i: {0: ONE, 3: ONE} for i in (0, 4, 8, 12)}
    data = evaluate(job(Clip("sparse", shapes, truths), rule="sav"))
    assert [(o["object"], o["frames"], o["J"]) for o in data["results"]] == [(0, 2, 1), (3, 2, 1)]
    # where objects share a map the second one would lose every pixel
    merged = Job(
        Dataset("test", RULES["sav"], (Clip("s", shapes, truths),)), ColourOpener(), Settings()
    )
    assert [o["J"] for o in evaluate(merged)["results"]] == [1, 0]


def test_an_object_without_a_file_on_a_frame_is_not_scored_there() -> None:
    shapes = (((RED, ONE), (GREEN, TWO)),) * 9
    truths: dict[int, Any] = {i: {1: ONE, 2: TWO} for i in (0, 2, 4, 6, 8)}
    truths[4] = {1: ONE}
    data = evaluate(job(Clip("gap", shapes, truths), rule="sav"))
    assert [o["frames"] for o in data["results"]] == [3, 2]


def test_annotation_of_another_size_is_an_error() -> None:
    clip = Clip("big", (((RED, ONE),),) * 4, {0: {1: ONE}}, size=(128, 256))
    message = "video big, frame 00000: the annotation is 256 x 128, the frame 256 x 256"
    for protocol in ("semi-supervised", "offline"):
        with pytest.raises(InputError, match=message):
            evaluate(job(clip, protocol=protocol))


def test_first_frame_annotations_alone_score_nothing() -> None:
    clip = Clip("first", (((RED, ONE),),) * 4, {0: {1: ONE}})
    data = evaluate(job(clip, rule="mose"))
    assert (data["J&F"], data["lowest"], data["object_score_auc"]) == (None, None, None)
    assert "nothing was scored" in table(data)


def test_offline_corrects_the_worst_frame_after_each_pass() -> None:
    data = evaluate(job(turns_blue(), protocol="offline", rounds=3, clicks=1))
    assert data["rounds"] == [0.5, 1.0, 1.0]
    assert data["J&F"] == pytest.approx(2.5 / 3)
    assert (data["J"], data["F"]) == (1, 1)
    assert "J&F after each round: 0.500 1.000 1.000" in table(data)


def test_online_corrects_while_passing() -> None:
    data = evaluate(job(turns_blue(), protocol="online", rounds=3, clicks=1))
    assert data["rounds"] == [0.5, 1.0, 1.0]


def test_online_changes_no_earlier_frame() -> None:
    """Blue on frames 2 to 5, then red again; one frame may be corrected beside the first."""
    shapes = tuple(((BLUE if 2 <= i < 6 else RED, ONE),) for i in range(10))
    clip = Clip("twice", shapes, {i: {1: ONE} for i in range(10)})
    data = evaluate(job(clip, protocol="online", rounds=2, clicks=1))
    # 8 scored frames, 4 of them blue
    assert data["rounds"] == [0.5, 1.0]


def test_clicks_stop_when_nothing_is_wrong() -> None:
    """Of three clicks a frame one is needed; a right video needs no second round."""
    session = ColourSession()

    class Opener(ColourOpener):
        def open(self) -> ColourSession:
            return session

    clips = (still(frames=4),)
    dataset = Dataset("test", RULES["synthetic"], clips)
    data = evaluate(Job(dataset, Opener(), Settings("offline", clicks=3, rounds=8)))
    assert data["rounds"] == [1.0] * 8
    # per object one click and three tracked frames
    assert session.calls["mask_decoder"] == 2 * (1 + 3)
    # the four frames are equal images
    assert session.calls["image_encoder"] == 1


def test_two_objects_one_at_a_time_in_an_interactive_protocol() -> None:
    data = evaluate(job(still(), protocol="offline", rounds=1, clicks=1))
    assert [(o["object"], o["J&F"]) for o in data["results"]] == [(1, 1), (2, 1)]


def test_encoder_cache_keeps_what_fits() -> None:
    session = ColourSession()
    images = [np.full((1, 3, 256, 256), v, np.float32) for v in (0, 1, 2)]
    size = sum(a.nbytes for a in session.run("image_encoder", {"image": images[0]}).values())
    session.calls.clear()
    with EncoderCache(session, limit=2 * size) as cache:
        for i in (0, 1, 0, 1, 2, 1, 0):
            out = cache.run("image_encoder", {"image": images[i]})
            assert out["high_res_0"][0, 0, 0, 0] == i
    # 0 and 1 once each, 2 drops 0, which is made again
    assert session.calls["image_encoder"] == 4
    assert not session.closed


def test_groups_are_averaged_apart() -> None:
    clips = (still("a"), turns_blue(), still("b"))
    groups = {"seen": frozenset({"a", "b"}), "unseen": frozenset({"turns blue"})}
    dataset = Dataset("test", RULES["lvos"], clips, groups=groups)
    data = evaluate(Job(dataset, ColourOpener(), Settings(prompt="click")))
    assert (data["groups"]["seen"]["J&F"], data["groups"]["unseen"]["J&F"]) == (1, 0.5)
    assert data["J&F"] == 0.75
    assert data["J"] == pytest.approx(4.5 / 5)


def test_predictions_are_written_in_the_datasets_layout(tmp_path: Path) -> None:
    evaluate(job(still(frames=3), rule="davis", masks_folder=tmp_path / "maps"))
    files = sorted(p.relative_to(tmp_path / "maps") for p in (tmp_path / "maps").rglob("*.png"))
    assert [str(f) for f in files] == [f"still/0000{i}.png" for i in range(3)]
    with Image.open(tmp_path / "maps" / "still" / "00001.png") as image:
        assert image.mode == "P"
        # the colours of DAVIS' maps
        assert image.getpalette()[:12] == [0, 0, 0, 128, 0, 0, 0, 128, 0, 128, 128, 0]
        labels = np.array(image)
    wanted = box_mask(ONE) + 2 * box_mask(TWO)
    np.testing.assert_array_equal(labels, wanted)
    evaluate(job(still(frames=3), rule="sav", masks_folder=tmp_path / "single"))
    with Image.open(tmp_path / "single" / "still" / "002" / "00002.png") as image:
        np.testing.assert_array_equal(np.array(image) == 255, wanted == 2)


def test_single_masks_of_later_objects_are_empty_before(tmp_path: Path) -> None:
    """SA-V's evaluator reads a file of every object on every annotated frame."""
    shapes = tuple(((RED, ONE),) + (((GREEN, TWO),) if i >= 3 else ()) for i in range(5))
    truths = {i: {0: ONE} | ({1: TWO} if i >= 3 else {}) for i in range(5)}
    evaluate(job(Clip("later", shapes, truths), rule="sav", masks_folder=tmp_path))
    for obj_id, there in (("000", [True] * 5), ("001", [False] * 3 + [True] * 2)):
        masks = [read_labels(tmp_path / "later" / obj_id / f"{i:05d}.png") for i in range(5)]
        assert [bool(m.any()) for m in masks] == there
        assert {m.shape for m in masks} == {(256, 256)}


def test_a_folder_dataset_from_end_to_end(tmp_path: Path) -> None:
    clip = still(frames=4)
    for i, frame in enumerate(clip.frames()):
        for part, picture in (("JPEGImages", frame), ("Annotations", None)):
            folder = tmp_path / part / "v"
            folder.mkdir(parents=True, exist_ok=True)
            if picture is None:
                masks = clip.truth(i).masks
                picture = (masks[1] + 2 * masks[2]).astype(np.uint8)
            Image.fromarray(picture).save(folder / f"{i:05d}.png")
    dataset = open_dataset(tmp_path)
    data = evaluate(Job(dataset, ColourOpener(), Settings()))
    assert (data["dataset"], data["J&F"], data["frames"]) == ("mose", 1, 4)


def test_a_frame_of_another_size_names_its_video_and_no_option(tmp_path: Path) -> None:
    for i, side in enumerate((64, 64, 32)):
        for part, kind in (("JPEGImages", (side, side, 3)), ("Annotations", (side, side))):
            folder = tmp_path / part / "walk"
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(np.ones(kind, np.uint8)).save(folder / f"{i:05d}.png")
    wanted = "video walk: frame 2 is 32 x 32, the first is 64 x 64: resize it"
    with pytest.raises(FrameError) as raised:
        evaluate(Job(open_dataset(tmp_path), ColourOpener(), Settings()))
    assert str(raised.value) == wanted


def test_processes_give_the_same_report() -> None:
    clips = [still(str(i), 4) for i in range(3)] + [turns_blue()]
    alone, together = (evaluate(job(*clips, prompt="click"), processes=p) for p in (1, 3))
    assert _timeless(alone) == _timeless(together)
    assert [o["video"] for o in alone["results"]] == [*"001122", "turns blue"]


def test_processes_report_how_far_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    """Long videos: something has to be seen before the first of them is finished."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    monkeypatch.setattr(evaluate_workers, "_REPORT_EVERY", 0)
    near, far = multiprocessing.Pipe()
    for index in (0, None):
        near.send(index)
    _serve(far, job(still(frames=4)))
    reported = [near.recv() for _ in range(5)]
    assert reported[:4] == [("at", 0), ("at", 0.25), ("at", 0.5), ("at", 0.75)]
    assert (reported[4][0], reported[4][1]["name"]) == ("done", "still")


def _timeless(data: dict[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in data.items() if k != "seconds"}


class Stop(KeyboardInterrupt):
    """An interrupt of the test's own."""


def test_an_interrupted_run_goes_on_where_it_stopped(tmp_path: Path) -> None:
    clips = [still(f"v{i}", 4) for i in range(4)]
    path = tmp_path / "report.json"
    seen: list[str] = []

    def interrupt(what: str, done: int = 0, total: int | None = None) -> None:
        seen.append(what)
        if "v2" in what and done == 1:
            raise Stop

    with pytest.raises(Stop):
        evaluate_to_file(job(*clips), path, progress=interrupt)
    assert not path.exists()
    assert sorted(os.listdir(parts_folder(path))) == ["v0.json", "v1.json"]
    seen.clear()
    data = evaluate_to_file(job(*clips), path, progress=lambda what, *_: seen.append(what))
    assert [w for w in dict.fromkeys(seen) if "video" in w] == [
        "video 3 of 4, v2", "video 4 of 4, v3"
    ]  # fmt: skip
    assert json.loads(path.read_text()) == data
    assert data["videos"] == 4
    assert not parts_folder(path).exists()


@pytest.mark.parametrize("processes", [1, 2])
def test_finished_videos_are_kept_when_one_fails(tmp_path: Path, processes: int) -> None:
    broken = Clip("broken", (((RED, ONE),),) * 4, {0: {1: ONE}}, size=(9, 9))
    clips = [still("v0", 4), still("v1", 4), broken]
    path = tmp_path / "report.json"
    with pytest.raises(InputError, match="video broken"):
        evaluate_to_file(job(*clips), path, processes=processes)
    kept = set(os.listdir(parts_folder(path)))
    assert kept <= {"v0.json", "v1.json"}
    assert kept
    assert not list(tmp_path.glob("*.tmp"))


def test_records_of_another_model_or_protocol_are_not_taken_over(tmp_path: Path) -> None:
    clip = still("v", 4)
    parts = tmp_path / "parts"
    evaluate(job(clip), parts=parts)
    made: list[str] = []
    report = lambda what, *_: made.append(what)
    evaluate(job(clip), parts=parts, progress=report)
    assert made == []
    other = Job(job(clip).dataset, ColourOpener("other"), Settings())
    for changed in (other, job(clip, prompt="box"), job(clip, rule="davis"), job(still("v", 5))):
        made.clear()
        evaluate(changed, parts=parts, progress=report)
        assert made


def test_damaged_records_are_made_anew(tmp_path: Path) -> None:
    clip, path = still("v", 4), tmp_path / "v.json"
    wanted = _timeless(evaluate(job(clip), parts=tmp_path))
    text = path.read_text()
    part = json.loads(text)
    lost = {**part, "record": {**part["record"], "objects": {}}}
    damaged = [b"", text[:-9].encode(), b"\xff\xfe", b"[]", json.dumps(lost).encode()]
    damaged.append(json.dumps({k: v for k, v in part.items() if k != "record"}).encode())
    for content in damaged:
        path.write_bytes(content)
        data = evaluate(job(clip), parts=tmp_path)
        assert _timeless(data) == wanted
        assert json.loads(path.read_text())["record"]["objects"] == part["record"]["objects"]


def test_predictions_that_are_gone_are_made_anew(tmp_path: Path) -> None:
    again = job(still("v", 4), masks_folder=tmp_path / "masks")
    evaluate(again, parts=tmp_path / "parts")
    shutil.rmtree(tmp_path / "masks")
    evaluate(again, parts=tmp_path / "parts")
    assert len(list((tmp_path / "masks" / "v").iterdir())) == 4


def test_predictions_that_another_run_replaced_are_made_anew(tmp_path: Path) -> None:
    """Its record was kept by another report, so that only the masks tell."""
    ours = job(still("v", 4), masks_folder=tmp_path / "masks")
    evaluate(ours, parts=tmp_path / "parts")
    first = [read_labels(tmp_path / "masks" / "v" / f"{i:05d}.png") for i in range(4)]
    blank = job(Clip("v", (((BLUE, ONE),),) * 4, {0: {1: ONE}}), masks_folder=tmp_path / "masks")
    evaluate(blank, parts=tmp_path / "other parts")
    assert not np.array_equal(read_labels(tmp_path / "masks" / "v" / "00002.png"), first[2])
    evaluate(ours, parts=tmp_path / "parts")
    again = [read_labels(tmp_path / "masks" / "v" / f"{i:05d}.png") for i in range(4)]
    assert np.array_equal(again, first)


def test_errors_of_processes_arrive(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    clips = (still("a", 3), still("b", 3))
    dataset = Dataset("test", RULES["synthetic"], clips)
    dying = Job(dataset, ColourOpener(fails="dies"), Settings())
    with pytest.raises(SessionError, match=r"exit code 3.*fewer --processes"):
        evaluate(dying, processes=2)
    lacking = Job(dataset, ColourOpener(fails="lacks a package"), Settings())
    with pytest.raises(MissingExtraError, match=r"this test needs the package 'nothing'"):
        evaluate(lacking, processes=2)
    (tmp_path / "file").touch()
    unwritable = Job(dataset, ColourOpener(), Settings(masks_folder=tmp_path / "file" / "masks"))
    with pytest.raises(OSError, match="Not a directory"):
        evaluate(unwritable, processes=2)
    assert capfd.readouterr().err == ""


def test_a_process_whose_parent_has_gone_ends_quietly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    near, far = multiprocessing.Pipe()
    near.send(0)
    near.close()
    _serve(far, job(still(frames=3)))


def test_a_folder_is_no_report(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is a folder: name a file"):
        evaluate_to_file(job(still()), tmp_path)


def test_settings_that_make_no_sense(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="at least one of each"):
        Settings("offline", clicks=0)
    with pytest.raises(InputError, match="predictions of the online protocol are not written"):
        Settings("online", masks_folder=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file is no folder: name one for the predictions"):
        Settings(masks_folder=tmp_path / "file")


def test_table_shows_every_object_and_the_means() -> None:
    data = evaluate(job(still("clip"), turns_blue(), prompt="click"))
    lines = table(data).splitlines()
    assert lines[0].split() == ["video", "object", "J&F", "J", "F", "lowest", "J"]
    assert lines[1].split()[:5] == ["clip", "1", "1.000", "1.000", "1.000"]
    assert lines[3] == "turns blue       1   0.500   0.500   0.500  0.000 in frame 4"
    assert lines[5].split() == ["3", "objects,", "2", "videos", "0.833", "0.833", "0.833"]


def test_only_records_are_removed_beside_a_report(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    parts = parts_folder(path)

    def busy(what: str, done: int = 0, total: int | None = None) -> None:
        parts.mkdir(exist_ok=True)
        (parts / "notes.txt").write_text("mine")
        (parts / "mine.json").write_text('{"mine": 1}')
        (parts / ".v.json.abcd1234").write_bytes(b"killed")

    data = evaluate_to_file(job(still("v", 4)), path, progress=busy)
    assert json.loads(path.read_text()) == data
    assert sorted(os.listdir(parts)) == ["mine.json", "notes.txt"]
    assert (parts / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("name", ["notes.txt", "mine.json", "folder"])
def test_what_is_no_record_is_refused_before_the_work(tmp_path: Path, name: str) -> None:
    path = tmp_path / "r.json"
    parts = parts_folder(path)
    parts.mkdir()
    if name == "folder":
        (parts / name).mkdir()
    else:
        (parts / name).write_text("[1, 2]")
    with pytest.raises(InputError) as refused:
        evaluate_to_file(job(still("v", 4)), path)
    assert str(refused.value) == (
        f"folder {parts} holds {name}, which is no record of a video: move it, or name another "
        "report"
    )
    assert os.listdir(parts) == [name]
    assert not path.exists()


def test_a_file_in_the_place_of_records_is_refused(tmp_path: Path) -> None:
    parts = parts_folder(tmp_path / "r.json")
    parts.write_text("mine")
    with pytest.raises(InputError, match=r"r\.json\.videos is a file, records of videos go there"):
        evaluate_to_file(job(still("v", 4)), tmp_path / "r.json")
    assert parts.read_text() == "mine"
