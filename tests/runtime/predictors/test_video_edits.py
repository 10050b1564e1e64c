"""Videos under work: objects that go while it runs, prompts that are cleared, frames left out."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest
from recorded import CallLog
from square_clip import BOX, CLICK, moving_square

from sam2rt import FrameError, VideoPredictor, open_frames


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return moving_square(10)


@pytest.fixture
def predictor(session):
    return VideoPredictor(session.bundle, session=session, fill_hole_area=0)


def run(predictor, state):
    return {t: logits for t, _, logits in predictor.propagate_in_video(state)}


@pytest.mark.parametrize("prompt", ["click", "mask"])
def test_after_clearing_its_only_prompt_an_object_may_start_on_a_tracked_frame(
    predictor, video, prompt
):
    """The original raises: at the click, or when it propagates from the mask."""

    def add(state):
        if prompt == "mask":
            mask = np.zeros((96, 128), bool)
            mask[30:54, 23:47] = True
            return predictor.add_new_mask(state, 3, 1, mask)
        return predictor.add_new_points_or_box(state, 3, 1, [[35, 42]], [1])

    state = predictor.init_state(video)
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    run(predictor, state)
    predictor.clear_all_prompts_in_frame(state, 0, 1)
    _, _, logits = add(state)
    if prompt == "mask":
        # a click is given the earlier mask of its frame
        np.testing.assert_array_equal(logits, add(predictor.init_state(video))[2])
    assert list(run(predictor, state)) == list(range(3, 10))
    assert list(state.objects[1].history.cond) == [3]


@pytest.mark.parametrize("prefetch", [False, True])
@pytest.mark.parametrize("reset", [False, True])
def test_frames_after_the_last_object_is_removed_are_empty(session, video, prefetch, reset):
    log = CallLog(session)
    predictor = VideoPredictor(session.bundle, session=log, prefetch=prefetch)
    state = predictor.init_state(video)
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    seen, graphs = {}, {}
    for t, obj_ids, logits in predictor.propagate_in_video(state):
        seen[t] = (obj_ids, logits.shape)
        graphs[t] = {graph for graph, _, _ in log.take()}
        if t == 2:
            predictor.reset_state(state) if reset else predictor.remove_object(state, 1)
        if t == 6:
            predictor.add_new_points_or_box(state, 7, 2, **BOX)
    none = ([], (0, 1, 96, 128))
    assert [seen[t] for t in (3, 4, 5, 6)] == [none] * 4
    # with prefetch frames are encoded before it is known who is on them
    most = {"image_encoder"} if prefetch else set()
    assert all(graphs[t] <= most for t in (3, 4, 5, 6)), graphs
    assert [seen[t] for t in (2, 7, 9)] == [([i], (1, 1, 96, 128)) for i in (1, 2, 2)]


@pytest.mark.parametrize("prefetch", [False, True])
def test_frames_that_cannot_be_read_follow_the_policy_of_their_source(session, video, prefetch):
    predictor = VideoPredictor(session.bundle, session=session, prefetch=prefetch)
    frames = [frame if t not in (4, 5) else frame[:50] for t, frame in enumerate(video)]
    passed = {}
    for policy in ("raise", "skip", "hold"):
        state = predictor.init_state(open_frames(frames, on_error=policy))
        predictor.add_new_points_or_box(state, 0, 1, **CLICK)
        seen = passed[policy] = []
        try:
            seen.extend(t for t, _, _ in predictor.propagate_in_video(state))
        except FrameError as error:
            seen.append(str(error)[:20])
        assert [t for t, _, _ in predictor.propagate_in_video(state, 6)] == [6, 7, 8, 9]
    assert passed == {
        "raise": [0, 1, 2, 3, "frame 4 is 128 x 50,"],
        "skip": [0, 1, 2, 3, 6, 7, 8, 9],
        "hold": list(range(10)),
    }


def test_prompts_on_one_frame_share_its_features(session, video):
    log = CallLog(session)
    predictor = VideoPredictor(session.bundle, session=log)
    state = predictor.init_state(video)
    for obj_id in (1, 2, 3):
        for t in (3, 6):
            predictor.add_new_points_or_box(state, t, obj_id, **BOX)
    log.take()
    predictor.propagate_in_video_preflight(state)
    graphs = [graph for graph, _, _ in log.take()]
    assert graphs == ["image_encoder", *["memory_encoder"] * 3] * 2


def test_removing_an_object_gives_the_others_on_the_frames_it_had_prompts_on(predictor, video):
    state = predictor.init_state(video)
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    predictor.add_new_points_or_box(state, 5, 2, **BOX)
    predictor.add_new_mask(state, 3, 2, np.ones((96, 128), bool))
    predictor.add_new_mask(state, 7, 2, np.ones((96, 128), bool))
    predictor.clear_all_prompts_in_frame(state, 7, 2)
    left = run(predictor, state)
    obj_ids, updated = predictor.remove_object(state, 2)
    assert (obj_ids, [t for t, _ in updated]) == ([1], [3, 5])
    for t, logits in updated:
        np.testing.assert_array_equal(logits, left[t][:1])


def test_a_mask_prompt_is_kept_as_its_result_alone(predictor, video):
    """Of the mask itself, [S, S] float32, nothing: annotated clips have hundreds."""
    state = predictor.init_state(video)
    mask = np.zeros((96, 128), bool)
    mask[30:54, 8:32] = True
    predictor.add_new_mask(state, 0, 1, mask)
    tracemalloc.start()
    for t in range(1, 9):
        predictor.add_new_mask(state, t, 1, mask)
    kept, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    # low-resolution logits: a sixteenth of the 256 kB of a mask
    assert kept < 8 * 40e3
