"""What training makes of the ids in a folder of annotated videos."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sam2rt import InputError
from sam2rt.benchmarks.evaluation.datasets import open_dataset
from sam2rt.training.batches import FolderSource, make_batch
from sam2rt.training.recipe import BatchPlan

PLAN = BatchPlan(1, 3, 4, (), 64)


def write(root: Path, maps: list[NDArray[np.generic]], video: str = "cat") -> None:
    for part in ("JPEGImages", "Annotations"):
        (root / part / video).mkdir(parents=True)
    for t, labels in enumerate(maps):
        rgb = np.full((64, 64, 3), 40 * t, np.uint8)
        Image.fromarray(rgb).save(root / "JPEGImages" / video / f"{t:05d}.jpg")
        Image.fromarray(labels).save(root / "Annotations" / video / f"{t:05d}.png")


def labels(*ids: int, kind: type[np.generic] = np.uint8) -> NDArray[np.generic]:
    """Columns of 16 pixels of each id, on 64 x 64."""
    made = np.zeros((64, 64), kind)
    for i, number in enumerate(ids):
        made[:, 16 * i : 16 * (i + 1)] = number
    return made


def test_255_is_no_object(tmp_path: Path) -> None:
    write(tmp_path, [labels(0, 1, 255, 2)] * 3)
    source = FolderSource(tmp_path)
    _, drawn = source(np.random.default_rng(0), PLAN)
    assert set(np.unique(drawn)) == {0, 1, 2}
    batch = make_batch(np.random.default_rng(1), PLAN, source)
    # two objects of a quarter each; the undecided quarter is nobody's
    assert batch.masks.shape[0] == 2
    np.testing.assert_allclose(batch.masks[:, 0].mean((1, 2)), 0.25)


def test_evaluation_has_the_same_rule(tmp_path: Path) -> None:
    write(tmp_path, [labels(0, 1, 255, 2)] * 3)
    truth = open_dataset(tmp_path).videos[0].truth(0)
    assert truth is not None
    assert sorted(truth.masks) == [1, 2]


@pytest.mark.parametrize("count", [1, 3])
def test_masks_of_0_and_255_are_refused_before_work(tmp_path: Path, count: int) -> None:
    write(tmp_path, [labels(0, 255)] * count)
    with pytest.raises(InputError, match=r"^video cat: its annotations hold 0 and 255 alone, .*"):
        FolderSource(tmp_path)


def test_a_late_object_is_enough(tmp_path: Path) -> None:
    write(tmp_path, [labels(0, 255), labels(0, 0), labels(0, 7, 255)])
    assert len(FolderSource(tmp_path).videos) == 1


@pytest.mark.parametrize("at", [0, 2])
def test_ids_above_255_are_refused_before_work(tmp_path: Path, at: int) -> None:
    """They were taken modulo 256: object 257 was object 1."""
    maps = [labels(0, 1, kind=np.uint16)] * 3
    maps[at] = labels(0, 1, 257, kind=np.uint16)
    write(tmp_path, maps)
    message = "^video cat: object id 257 does not fit 8-bit maps: number the objects from 1 to 254$"
    with pytest.raises(InputError, match=message):
        FolderSource(tmp_path)


def test_maps_of_16_bits_with_small_ids_are_taken(tmp_path: Path) -> None:
    write(tmp_path, [labels(0, 3, 255, kind=np.uint16)] * 3)
    _, drawn = FolderSource(tmp_path)(np.random.default_rng(0), PLAN)
    assert set(np.unique(drawn)) == {0, 3}


@pytest.mark.parametrize("at", [0, 2])
def test_colour_images_are_no_maps(tmp_path: Path, at: int) -> None:
    maps = [labels(0, 1)] * 3
    maps[at] = np.zeros((64, 64, 3), np.uint8)
    write(tmp_path, maps)
    with pytest.raises(InputError, match=rf"0000{at}\.png has pixels of mode RGB: expected an"):
        FolderSource(tmp_path)


def test_a_relative_folder_stays_what_it_was(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path / "here" / "data", [labels(0, 1)] * 3)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    source, dataset = FolderSource("data"), open_dataset(Path("data"))
    os.chdir(tmp_path / "elsewhere")
    frames, _ = source(np.random.default_rng(0), PLAN)
    assert {round(float(f.mean()) / 40) for f in frames} <= {0, 1, 2}
    (video,) = dataset.videos
    with video.frames() as opened:
        assert [round(float(frame.mean()) / 40) for frame in opened] == [0, 1, 2]
    truth = video.truth(2)
    assert truth is not None
    np.testing.assert_array_equal(truth.masks[1], labels(0, 1) == 1)
