"""What training draws: synthetic clips and folders of annotated videos."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from sam2rt import FrameError
from sam2rt.benchmarks.synthetic.clips import make_clip, save_davis
from sam2rt.training.batches import (
    FolderSource,
    has_swap,
    make_batch,
    synthetic_source,
    take_over,
)
from sam2rt.training.recipe import BatchPlan


def test_what_takes_an_objects_place_has_its_outline_and_no_label():
    rng = np.random.default_rng(3)
    labels = np.zeros((4, 8, 8), np.uint8)
    labels[:, 2:4], labels[2:, 6:] = 1, 2
    frames = np.full((4, 8, 8, 3), (200, 40, 90), np.uint8)
    taken, relabelled = frames.copy(), labels.copy()
    take_over(rng, taken, relabelled)
    gone = (relabelled != labels).any(axis=(1, 2))
    after = int(gone.argmax())
    assert 1 <= after <= 3
    assert gone[after:].all()
    # object 2 is not there on the first frame: it cannot be prompted, and so cannot be lost
    np.testing.assert_array_equal(relabelled[after:] == 0, labels[after:] != 2)
    np.testing.assert_array_equal((taken != frames).any(-1), relabelled != labels)
    assert tuple(taken[after, 2, 0]) in ((40, 90, 200), (55, 215, 165))


def test_an_object_that_would_hardly_change_stays():
    frames = np.full((3, 4, 4, 3), 127, np.uint8)
    labels = np.ones((3, 4, 4), np.uint8)
    for seed in range(8):
        take_over(np.random.default_rng(seed), frames, labels)
    assert (frames == 127).all()
    assert (labels == 1).all()


def _leaving(frames: int = 8) -> np.ndarray:
    """Object 1 is gone from frame 4 on; object 2 comes to its place meanwhile."""
    labels = np.zeros((frames, 64, 64), np.uint8)
    labels[:4, 10:30, 10:30] = 1
    for t in range(frames):
        labels[t, 40 - 4 * t : 60 - 4 * t, 32:52] = 2
    return labels


def test_in_a_swap_an_object_stays_away_and_others_are_where_it_was():
    labels = _leaving()
    assert has_swap(labels, 1)
    # in two of five frames only, but in two of the three that are scored
    assert not has_swap(labels[:6], 1)
    assert has_swap(labels[:6], 3)
    # nobody comes near
    far = np.where(labels == 2, 0, labels)
    far[:, 50:60, 50:60] = 2
    assert not has_swap(far, 1)
    # it was not there to be prompted
    labels[0][labels[0] == 1] = 0
    assert not has_swap(labels, 1)


def test_swaps_are_drawn_as_often_as_asked_and_earlier_runs_keep_their_clips():
    levels = ("standard",)
    plans = [BatchPlan(1, 9, 4, levels, 64, burn_in=4, swaps=share) for share in (0.0, 1.0)]
    drawn = [[_labels_of(np.random.default_rng([0, k]), plan) for k in range(25)] for plan in plans]
    often = [np.mean([has_swap(labels, 5) for labels in some]) for some in drawn]
    assert often[0] < 0.5 < 0.9 < often[1]
    rng = np.random.default_rng([0, 3])
    assert np.array_equal(drawn[0][3], synthetic_source(rng, plans[0])[1])


def _labels_of(rng: np.random.Generator, plan: BatchPlan) -> np.ndarray:
    kept = []

    def source(rng: np.random.Generator, plan: BatchPlan) -> tuple[np.ndarray, np.ndarray]:
        kept.append(synthetic_source(rng, plan))
        return kept[-1]

    make_batch(rng, plan, source)
    return kept[-1][1]


def test_a_folder_without_annotations_is_refused(tmp_path):
    with pytest.raises(FrameError, match="no annotated video"):
        FolderSource(tmp_path)


def test_folder_batches_match_their_annotations(tmp_path):
    clip = make_clip(4, "plain", 6, 128)
    save_davis(clip, tmp_path, "clip")
    batch = make_batch(
        np.random.default_rng(0), BatchPlan(2, 3, 2, (), 256), FolderSource(tmp_path)
    )
    assert batch.frames.shape == (2, 3, 3, 256, 256)
    shares = {round(float((clip.labels[0] == k).mean()), 2) for k in range(1, clip.num_objects + 1)}
    assert all(min(abs(m[0].mean() - s) for s in shares) < 0.02 for m in batch.masks)


_TRAINING = """
from sam2rt.configs.models import model_config
from sam2rt.training.batches import PrefetchedBatches, synthetic_source
from sam2rt.training.recipe import Recipe
recipe = Recipe(model_config("micro"), steps=9, images=1, objects=1)
with PrefetchedBatches(0, recipe.batch_plan, synthetic_source, 0) as batches:
    next(batches)
    print("drawn", flush=True)
    import time
    time.sleep(600)
"""


@pytest.mark.skipif(os.name != "posix", reason="groups of processes")
def test_a_killed_training_leaves_no_process():
    command = [sys.executable, "-c", _TRAINING]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "drawn\n"
        process.kill()
    end = time.monotonic() + 60
    while time.monotonic() < end:
        try:
            os.killpg(process.pid, 0)
        except ProcessLookupError:
            return
        time.sleep(0.1)
    os.killpg(process.pid, signal.SIGKILL)
    pytest.fail("the process that draws batches lives on")
