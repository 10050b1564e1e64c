"""The clip generator: truth that agrees with what was drawn, fixed by its seed."""

from __future__ import annotations

import numpy as np
import pytest

from sam2rt import InputError
from sam2rt.benchmarks.synthetic.clips import LEVELS, make_clip, make_scene, save_davis


@pytest.mark.parametrize("level", LEVELS)
def test_a_seed_fixes_every_pixel(level):
    first, again = (make_clip(7, level, 4, 96) for _ in range(2))
    np.testing.assert_array_equal(first.frames, again.frames)
    np.testing.assert_array_equal(first.labels, again.labels)
    other = make_clip(8, level, 4, 96)
    assert not np.array_equal(first.frames, other.frames)


def test_a_larger_label_lies_in_front():
    scene = make_scene(np.random.default_rng(3), "standard", 20, 128)
    rng = np.random.default_rng(0)
    hidden = 0
    for t in (0.0, 6.0, 13.0):
        _, labels = scene.render(t, rng)
        front = np.zeros((128, 128), bool)
        for k in reversed(range(len(scene.objects))):
            whole = scene.silhouette(k, t)
            np.testing.assert_array_equal(labels == k + 1, whole & ~front)
            hidden += int((whole & front).sum())
            front |= whole
    assert hidden > 0, "no object ever hides another: the scene tests nothing"


def test_plain_objects_never_overlap():
    for seed in range(12):
        scene = make_scene(np.random.default_rng(seed), "plain", 20, 96)
        for t in (0.0, 9.0, 19.0):
            covered = sum(scene.silhouette(k, t).astype(int) for k in range(len(scene.objects)))
            assert covered.max() <= 1


def test_plain_objects_differ_from_the_ground():
    clip = make_clip(5, "plain", 1, 128)
    frame, labels = clip.frames[0].astype(float), clip.labels[0]
    ground = frame[labels == 0].mean(0)
    for k in range(1, clip.num_objects + 1):
        assert np.linalg.norm(frame[labels == k].mean(0) - ground) > 25


def test_standard_objects_leave_and_return():
    returned = 0
    for seed in range(30):
        clip = make_clip(seed, "standard", 30, 64)
        for k in range(1, clip.num_objects + 1):
            seen = (clip.labels == k).any((1, 2))
            gone = np.flatnonzero(~seen)
            if len(gone) and seen[: gone[0]].any() and seen[gone[-1] + 1 :].any():
                returned += 1
    assert returned >= 5


def test_camera_and_light_move_the_background():
    clip = make_clip(11, "hard", 20, 96)
    ground = [
        frame[label == 0].mean() for frame, label in zip(clip.frames, clip.labels, strict=True)
    ]
    assert np.ptp(ground) > 2


def test_an_unknown_level_names_the_known():
    with pytest.raises(InputError, match="plain, standard, hard"):
        make_clip(0, "easy", 1, 64)


def test_saved_clips_come_back(tmp_path):
    from PIL import Image

    clip = make_clip(2, "standard", 3, 64)
    save_davis(clip, tmp_path, "one")
    for i in range(3):
        labels = np.asarray(Image.open(tmp_path / f"Annotations/one/{i:05d}.png"))
        np.testing.assert_array_equal(labels, clip.labels[i])
        frame = np.asarray(Image.open(tmp_path / f"JPEGImages/one/{i:05d}.jpg")).astype(int)
        assert np.abs(frame - clip.frames[i]).mean() < 8


@pytest.mark.parametrize("numbers", [(-1, "plain", 3, 64), (0, "hard", 0, 64), (0, "plain", 3, 0)])
def test_numbers_that_make_no_clip_are_refused(numbers):
    with pytest.raises(InputError, match="at least one frame of at least one pixel"):
        make_clip(*numbers)
