"""Tracking against transformers' Sam2VideoModel, with memories in float32 on both sides."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

import sam2rt
from sam2rt.runtime.pixels.frame_tensor import video_frame_tensor

if TYPE_CHECKING:
    from transformers_oracle import Pair

oracle = pytest.importorskip("transformers_oracle", reason="transformers is not installed")

LOGITS, SCORE = 1e-3, 1e-4
FRAMES = 9


@pytest.fixture
def both(pair: Pair) -> tuple[Any, Any, Any]:
    """Their video, our predictor and its state on the same clip."""
    frames = oracle.moving_clip(pair.config, FRAMES, seed=3)
    pixels = np.stack([video_frame_tensor(f, pair.config.image_size) for f in frames])
    theirs = oracle.TheirVideo(pair.theirs, pixels, frames.shape[1:3])
    ours = sam2rt.VideoPredictor(pair.bundle, session=pair.session, fill_hole_area=0)
    return theirs, ours, ours.init_state(frames)


def prompt(both: Any, frame_idx: int, obj_id: int, points: list[Any], labels: list[int]) -> None:
    """The same prompt on both sides, in pixels of the clip; results compared."""
    theirs, ours, state = both
    scale = ours.config.image_size / state.video_width
    expected = theirs.prompt(frame_idx, obj_id, np.array(points) * scale, np.array(labels))
    box, clicks, kinds = None, points, labels
    if labels[:2] == [2, 3]:
        box, clicks, kinds = [*points[0], *points[1]], points[2:], labels[2:]
    _, ids, logits = ours.add_new_points_or_box(
        state, frame_idx, obj_id, points=clicks or None, labels=kinds or None, box=box
    )
    assert np.abs(logits[ids.index(obj_id)] - expected).max() < LOGITS


def compare(both: Any, start: int, reverse: bool = False) -> int:
    theirs, ours, state = both
    frames = 0
    pairs = zip(
        theirs.propagate(start, reverse),
        ours.propagate_in_video(state, start_frame_idx=start, reverse=reverse),
        strict=True,
    )
    for (idx, ids, expected, scores), (frame_idx, obj_ids, logits) in pairs:
        assert (idx, ids) == (frame_idx, obj_ids)
        assert np.abs(logits - expected).max() < LOGITS, frame_idx
        assert oracle.disagreements(expected, logits, LOGITS) == 0
        assert scores.shape[0] == len(obj_ids)
        frames += 1
    return frames


def test_one_click(both: Any) -> None:
    prompt(both, 0, 1, [[30, 25]], [1])
    assert compare(both, 0) == FRAMES


def test_box_and_clicks_two_objects(both: Any) -> None:
    prompt(both, 0, 7, [[10, 12], [40, 44]], [2, 3])
    prompt(both, 0, 3, [[50, 20], [20, 50]], [1, 0])
    assert compare(both, 0) == FRAMES


def test_forward_then_reverse(both: Any) -> None:
    prompt(both, 4, 1, [[12, 10], [44, 40], [20, 20]], [2, 3, 1])
    assert compare(both, 4) == FRAMES - 4
    assert compare(both, 4, reverse=True) == 5


def test_several_prompted_frames(both: Any) -> None:
    for frame_idx, point in [(0, [30, 25]), (3, [33, 27]), (8, [40, 30])]:
        prompt(both, frame_idx, 1, [point], [1])
    assert compare(both, 0) == FRAMES


def test_a_stream_gives_the_same(both: Any, pair: Pair) -> None:
    """Our push-one-frame tracker, told the length, against their propagation."""
    theirs, _, state = both
    expected = theirs.prompt(0, 1, np.array([[30.0, 25.0]]) * 4, np.array([1]))
    results = {idx: logits for idx, _, logits, _ in theirs.propagate(0)}
    with sam2rt.StreamTracker(
        pair.bundle, session=pair.session, fill_hole_area=0, num_frames=FRAMES
    ) as tracker:
        tracker.add_points(1, [[30, 25]], [1])
        for t in range(FRAMES):
            result = tracker.step(state.frames.read(t))
            assert np.abs(result.logits - results[t][:, 0]).max() < LOGITS
    assert np.abs(results[0][0] - expected).max() < 1e-5


def test_object_scores(both: Any, pair: Pair) -> None:
    theirs, _, state = both
    theirs.prompt(0, 1, np.array([[30.0, 25.0]]) * 4, np.array([1]))
    scores = {idx: found for idx, _, _, found in theirs.propagate(0)}
    with sam2rt.StreamTracker(
        pair.bundle, session=pair.session, fill_hole_area=0, num_frames=FRAMES
    ) as tracker:
        tracker.add_points(1, [[30, 25]], [1])
        for t in range(FRAMES):
            result = tracker.step(state.frames.read(t))
            assert np.abs(result.object_scores - scores[t].ravel()).max() < SCORE
