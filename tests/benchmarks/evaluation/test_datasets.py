"""Folder layouts of public datasets, one made here for each, and what is refused."""

from __future__ import annotations

import json
import pickle
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2rt.benchmarks.evaluation.datasets import check_ids, open_dataset, read_labels
from sam2rt.benchmarks.evaluation.metrics import RULES
from sam2rt.benchmarks.evaluation.synthetic_dataset import (
    START_AREA,
    TRAINING_SEEDS,
    synthetic_dataset,
)
from sam2rt.configs.errors import InputError
from sam2rt.training.batches import FolderSource

SIZE = (6, 9)


def write_frames(folder: Path, names: list[str]) -> None:
    folder.mkdir(parents=True)
    for value, name in enumerate(names):
        Image.fromarray(np.full((*SIZE, 3), value * 10, np.uint8)).save(folder / f"{name}.png")


def write_map(path: Path, ids: dict[int, int]) -> None:
    """An indexed PNG: column -> id."""
    path.parent.mkdir(parents=True, exist_ok=True)
    labels = np.zeros(SIZE, np.uint8)
    for column, i in ids.items():
        labels[:, column] = i
    image = Image.fromarray(labels)
    image.putpalette(list(range(256)) * 3)
    image.save(path)


def names(*numbers: int, width: int = 5) -> list[str]:
    return [f"{n:0{width}d}" for n in numbers]


def column_ids(video, index: int) -> dict[int, list[int]]:
    truth = video.truth(index)
    return {i: np.flatnonzero(m.any(axis=0)).tolist() for i, m in truth.masks.items()}


@pytest.fixture
def davis(tmp_path: Path) -> Path:
    root = tmp_path / "DAVIS"
    for video in ("bear", "left out", "dog"):
        write_frames(root / "JPEGImages" / "480p" / video, names(0, 1, 2))
        for i in range(3):
            write_map(root / "Annotations" / "480p" / video / f"{i:05d}.png", {0: 1, 3: 2, 8: 255})
    (root / "ImageSets" / "2017").mkdir(parents=True)
    (root / "ImageSets" / "2017" / "val.txt").write_text("dog\nbear\n\n")
    (root / "ImageSets" / "2017" / "train.txt").write_text("left out")
    return root


def test_davis(davis: Path) -> None:
    dataset = open_dataset(davis)
    assert (dataset.name, dataset.rule, dataset.merged) == ("davis", RULES["davis"], True)
    assert [v.name for v in dataset.videos] == ["dog", "bear"]
    video = dataset.videos[0]
    assert video.frame_names == ("00000", "00001", "00002")
    assert [int(f[0, 0, 0]) for f in video.frames()] == [0, 10, 20]
    assert column_ids(video, 1) == {1: [0], 2: [3]}
    assert np.flatnonzero(video.truth(1).void.any(axis=0)).tolist() == [8]
    assert [v.name for v in open_dataset(davis, subset="train").videos] == ["left out"]
    assert [v.name for v in open_dataset(davis, only=("bear",)).videos] == ["bear"]


def test_a_video_listed_twice_counts_once(davis: Path) -> None:
    (davis / "ImageSets" / "2017" / "val.txt").write_text("dog\r\nbear\r\ndog\r\n")
    assert [v.name for v in open_dataset(davis).videos] == ["dog", "bear"]


def test_davis_without_its_list_or_video(davis: Path) -> None:
    with pytest.raises(InputError, match=r"list of videos .*test\.txt"):
        open_dataset(davis, subset="test")
    with pytest.raises(InputError, match="no video 'cat'"):
        open_dataset(davis, only=("cat", "dog"))
    (davis / "ImageSets" / "2017" / "val.txt").write_text("wolf")
    with pytest.raises(InputError, match="wolf holds no frames"):
        open_dataset(davis)


def test_davis_as_training_takes_it(davis: Path, tmp_path: Path) -> None:
    """No folder of a resolution and no list: what docs/training.md describes."""
    expected = open_dataset(davis)
    plain = tmp_path / "plain"
    for part in ("JPEGImages", "Annotations"):
        shutil.copytree(davis / part / "480p", plain / part)
    dataset = open_dataset(plain, "davis")
    assert [v.name for v in dataset.videos] == ["bear", "dog", "left out"]
    assert dataset.rule == expected.rule
    assert column_ids(dataset.videos[1], 1) == column_ids(expected.videos[0], 1)
    assert [v.name for v in training_videos(davis)] == [v.name for v in training_videos(plain)]


def training_videos(root: Path) -> list[Path]:
    """The folders of the videos that training draws from."""
    found = FolderSource(root).videos
    assert all(len(pairs) == 3 for pairs in found)
    return [pairs[0][0].parent for pairs in found]


def test_ids_are_checked_before_any_work(davis: Path, mose: Path) -> None:
    message = r"^pixels of id 255 are no object but {}, in video {}$"
    assert re.match(
        message.format("not scored", "dog and 1 more"),
        check_ids(open_dataset(davis), written=True)[0],
    )
    assert re.match(
        message.format("background", "a"), check_ids(open_dataset(mose), written=True)[0]
    )
    assert check_ids(open_dataset(mose, only=("b",)), written=True) == []
    for layout in ("mose", "davis"):
        write_map(mose / "Annotations" / "a" / "00000.png", {3: 255})
        with pytest.raises(InputError, match="video a: its annotations hold 0 and 255 alone"):
            check_ids(open_dataset(mose, layout), written=False)
    deep = np.zeros(SIZE, np.uint16)
    deep[:, 2] = 300
    Image.fromarray(deep).save(mose / "Annotations" / "a" / "00000.png")
    assert check_ids(open_dataset(mose), written=False) == []
    with pytest.raises(InputError, match="video a: object id 300 does not fit 8-bit maps: number"):
        check_ids(open_dataset(mose), written=True)


@pytest.fixture
def mose(tmp_path: Path) -> Path:
    root = tmp_path / "valid"
    for video in ("b", "a"):
        write_frames(root / "JPEGImages" / video, names(0, 1, 2, 3))
    write_map(root / "Annotations" / "a" / "00000.png", {0: 1, 8: 255})
    for i in range(4):
        write_map(root / "Annotations" / "b" / f"{i:05d}.png", {0: 1, 4: 2} if i > 1 else {0: 1})
    return root


def test_mose(mose: Path) -> None:
    """First-frame annotations alone are a valid set: predictions can still be written."""
    dataset = open_dataset(mose)
    assert (dataset.name, dataset.rule.source) == ("mose", RULES["mose"].source)
    first, second = dataset.videos
    assert [column_ids(second, i) for i in range(4)] == [{1: [0]}] * 2 + [{1: [0], 2: [4]}] * 2
    assert column_ids(first, 0) == {1: [0]}
    assert first.truth(0).void is None
    assert [first.truth(i) for i in (1, 2, 3)] == [None, None, None]


@pytest.fixture
def sav(tmp_path: Path) -> Path:
    root = tmp_path / "sav_val"
    write_frames(root / "JPEGImages_24fps" / "sav_1", names(*range(9)))
    for i in (0, 4, 8):
        for name, column in (("000", 1), ("003", 1 + i // 4)):
            path = root / "Annotations_6fps" / "sav_1" / name / f"{i:05d}.png"
            write_map(path, {column: 1, 5: 1})
    return root


def test_sav(sav: Path) -> None:
    """One folder of overlapping masks per object, annotated at 6 of 24 frames a second."""
    dataset = open_dataset(sav)
    assert (dataset.name, dataset.rule, dataset.merged) == ("sav", RULES["sav"], False)
    (video,) = dataset.videos
    assert len(video.frame_names) == 9
    assert [i for i in range(9) if video.truth(i)] == [0, 4, 8]
    assert column_ids(video, 4) == {0: [1, 5], 3: [2, 5]}
    (sav / "sav_val.txt").write_text("sav_1\nsav_2\n")
    with pytest.raises(InputError, match="sav_2 holds no frames"):
        open_dataset(sav)


def test_the_list_of_sav_is_found_whatever_its_folder_is_called(
    sav: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for part in ("JPEGImages_24fps", "Annotations_6fps"):
        shutil.copytree(sav / part / "sav_1", sav / part / "sav_2")
    (sav / "sav_val.txt").write_text("sav_2\n")
    monkeypatch.chdir(sav)
    for root in (Path(), sav.rename(sav.with_name("copy"))):
        assert [v.name for v in open_dataset(root).videos] == ["sav_2"]


@pytest.fixture
def lvos(tmp_path: Path) -> Path:
    root = tmp_path / "val"
    numbers = list(range(1, 52, 5))
    write_frames(root / "JPEGImages" / "x", names(*numbers, width=8))
    for n in numbers:
        write_map(root / "Annotations" / "x" / f"{n:08d}.png", {0: 1} | ({4: 7} if n > 15 else {}))
    ranges = {
        # as published: `end` is the number of the last frame
        "1": {"start": "00000001", "end": "00000051", "frame_nums": "11"},
        # a range that ends one step behind its last frame
        "7": {"start": 16, "end": 41, "frame_nums": 5},
    }
    objects = {i: {"frame_range": r} for i, r in ranges.items()}
    meta = {"videos": {"x": {"objects": objects}}}
    (root / "val_meta.json").write_text(json.dumps(meta))
    return root


def test_lvos(lvos: Path) -> None:
    dataset = open_dataset(lvos)
    assert (dataset.name, dataset.rule, dataset.groups) == ("lvos", RULES["lvos"], {})
    (video,) = dataset.videos
    # frames 1 and 51, 16 and 36 by number are left out
    assert video.spans == {1: (0, 10), 7: (3, 7)}
    assert column_ids(video, 2) == {1: [0]}
    assert column_ids(video, 3) == {1: [0], 7: [4]}
    (lvos / "unseen_videos.txt").write_text("x\n")
    groups = open_dataset(lvos).groups
    assert groups == {"seen": frozenset(), "unseen": frozenset({"x"})}


def test_lvos_has_a_list_of_expressions_beside_that_of_objects(lvos: Path) -> None:
    (lvos / "val_expression_meta.json").write_text('{"videos": {"x": {"expressions": {}}}}')
    assert open_dataset(lvos).videos[0].spans == {1: (0, 10), 7: (3, 7)}
    (lvos / "val_meta.json").unlink()
    assert open_dataset(lvos).name == "mose"


def test_lvos_without_meta_file_is_read_when_named(lvos: Path) -> None:
    (lvos / "val_meta.json").unlink()
    assert open_dataset(lvos).name == "mose"
    assert open_dataset(lvos, "lvos").videos[0].spans == {}


def test_lvos_meta_file_that_is_none(lvos: Path) -> None:
    for text in ("{", "[]", '{"videos": {"x": {"objects": {"1": {}}}}}'):
        (lvos / "val_meta.json").write_text(text)
        with pytest.raises(InputError, match="is no LVOS meta file"):
            open_dataset(lvos)


def test_unknown_layout_and_no_folder(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="none of the known layouts"):
        open_dataset(tmp_path)
    with pytest.raises(InputError, match="no folder"):
        open_dataset(tmp_path / "nothing")
    (tmp_path / "JPEGImages").mkdir()
    (tmp_path / "Annotations").mkdir()
    with pytest.raises(InputError, match="holds no video"):
        open_dataset(tmp_path)


def test_an_annotation_without_its_frame(mose: Path) -> None:
    write_map(mose / "Annotations" / "a" / "00009.png", {0: 1})
    with pytest.raises(InputError, match=r"00009\.png annotates no frame"):
        open_dataset(mose)


def test_copies_from_a_mac_hold_a_second_file_of_each(mose: Path) -> None:
    for folder in ("Annotations", "JPEGImages"):
        (mose / folder / "a" / "._00000.png").write_bytes(b"no picture")
    assert column_ids(open_dataset(mose).videos[0], 0) == {1: [0]}


def test_annotations_of_one_bit_hold_the_object_1(mose: Path) -> None:
    Image.fromarray(np.eye(*SIZE) > 0).save(mose / "Annotations" / "a" / "00000.png")
    ((obj_id, mask),) = open_dataset(mose).videos[0].truth(0).masks.items()
    assert (type(obj_id), obj_id) == (int, 1)
    assert (mask == (np.eye(*SIZE) > 0)).all()


def test_annotations_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    with pytest.raises(InputError, match="cannot read the annotation"):
        read_labels(path)
    path.write_bytes(b"no picture")
    with pytest.raises(InputError, match="cannot read the annotation"):
        read_labels(path)
    Image.new("RGB", (4, 4)).save(path)
    with pytest.raises(InputError, match="mode RGB: expected an indexed or grey PNG"):
        read_labels(path)


def test_synthetic_objects_are_annotated_from_their_first_good_view_on() -> None:
    dataset = synthetic_dataset("standard", 0, 3, 8)
    assert dataset.rule == RULES["synthetic"]
    assert len({v.name for v in dataset.videos}) == 3
    for video in dataset.videos:
        labels = video.clip.labels
        for i in range(1, video.clip.num_objects + 1):
            shares = (labels == i).mean(axis=(1, 2))
            good = np.flatnonzero(shares >= START_AREA)
            if not good.size:
                assert i not in video.spans
                continue
            assert video.spans[i] == (good[0], 7)
            held = [t for t in range(8) if i in video.truth(t).masks]
            assert held == list(range(good[0], 8))
            assert (video.truth(7).masks[i] == (labels[7] == i)).all()
        assert video.truth(0).void is None


def test_evaluation_draws_no_clip_of_the_training() -> None:
    seeds = [v.seed for s in (0, 1, 429_495) for v in synthetic_dataset("hard", s, 3, 9).videos]
    assert seeds == [0, 1, 2, 10_000, 10_001, 10_002, *range(4_294_950_000, 4_294_950_003)]
    assert max(seeds) < TRAINING_SEEDS


def test_synthetic_clips_differ_by_seed_and_travel_as_arguments() -> None:
    first, other = (synthetic_dataset("plain", seed, 1, 3).videos[0] for seed in (0, 1))
    assert (first.clip.frames != other.clip.frames).any()
    drawn = len(pickle.dumps(first))
    assert drawn < 500
    again = pickle.loads(pickle.dumps(first))
    assert (again.clip.frames == first.clip.frames).all()
    assert again.spans == first.spans


@pytest.mark.parametrize(
    "numbers", [(-1, 1, 9), (429_496, 1, 9), (0, 0, 9), (0, 10_001, 9), (0, 1, 2)]
)
def test_synthetic_numbers_that_make_no_clip(numbers: tuple[int, int, int]) -> None:
    with pytest.raises(InputError, match="at least 3 frames"):
        synthetic_dataset("plain", *numbers)


def test_unknown_level() -> None:
    with pytest.raises(InputError, match="unknown level 'easy'"):
        synthetic_dataset("easy", 0, 1, 9)
