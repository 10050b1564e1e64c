"""Evaluation in one pass equals the original's way: each object alone, from its own first frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from sam2rt.benchmarks.evaluation.datasets import Dataset, read_labels
from sam2rt.benchmarks.evaluation.metrics import RULES
from sam2rt.benchmarks.evaluation.protocols import semi_supervised
from sam2rt.benchmarks.evaluation.synthetic_dataset import SyntheticVideo
from sam2rt.runtime.predictors.video import VideoPredictor
from sam2rt.runtime.session import Session


def first_frames(video: SyntheticVideo) -> dict[int, int]:
    return {i: first for i, (first, _) in video.spans.items()}


@pytest.fixture(scope="module")
def video() -> SyntheticVideo:
    """A clip with an object that appears after the first frame."""
    clips = (SyntheticVideo(seed, "standard", 7) for seed in range(1000))
    return next(v for v in clips if len(v.spans) > 1 and max(first_frames(v).values()) > 0)


def test_masks_equal_separate_inference(
    video: SyntheticVideo, session: Session, tmp_path: Path
) -> None:
    dataset = Dataset("test", RULES["sav"], (video,), merged=False)
    result = semi_supervised(session, video, dataset, masks_folder=tmp_path)
    predictor = VideoPredictor(session.bundle, session=session, fill_hole_area=0)
    assert set(result.objects) == set(video.spans)
    for obj_id, first in first_frames(video).items():
        state = predictor.init_state(video.frames())
        predictor.add_new_mask(state, first, obj_id, video.truth(first).masks[obj_id])
        folder = tmp_path / video.name / f"{obj_id:03d}"
        seen = []
        for frame, _, logits in predictor.propagate_in_video(state, start_frame_idx=first):
            written = read_labels(folder / f"{video.frame_names[frame]}.png") > 0
            np.testing.assert_array_equal(written, logits[0, 0] > 0)
            seen.append(frame)
        assert seen == list(range(first, 7))
        # and empty ones before
        assert sorted(p.stem for p in folder.iterdir()) == [f"{t:05d}" for t in range(7)]
        assert sorted(result.objects[obj_id].object_scores) == seen


def test_merged_maps_give_each_pixel_to_the_highest_logit(
    video: SyntheticVideo, session: Session, tmp_path: Path
) -> None:
    dataset = Dataset("test", RULES["davis"], (video,))
    semi_supervised(session, video, dataset, masks_folder=tmp_path)
    predictor = VideoPredictor(
        session.bundle, session=session, fill_hole_area=0, non_overlap_masks=True
    )
    state = predictor.init_state(video.frames())
    start = {i for i, first in first_frames(video).items() if first == 0}
    for obj_id in start:
        predictor.add_new_mask(state, 0, obj_id, video.truth(0).masks[obj_id])
    until = min(first for first in first_frames(video).values() if first > 0)
    for frame, ids, logits in predictor.propagate_in_video(state):
        if frame >= until:
            break
        labels = read_labels(tmp_path / video.name / f"{video.frame_names[frame]}.png")
        for obj_id, mask in zip(ids, logits[:, 0] > 0, strict=True):
            np.testing.assert_array_equal(labels == obj_id, mask)
