"""The video predictor beyond the recordings: clearing, removing, editing while it runs, errors."""

from __future__ import annotations

import numpy as np
import pytest
from failing_session import FailingSession

from sam2rt import FrameError, InputError, SessionError, StateError, VideoPredictor
from sam2rt.runtime.predictors.video import without_overlap

CLICK = {"points": [[20, 42]], "labels": [1]}
BOX = {"box": [8, 30, 32, 54]}


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    """[10, 96, 128, 3] uint8: a bright square crosses a textured background."""
    rng = np.random.default_rng(5)
    frames = np.repeat(rng.integers(30, 120, (1, 96, 128, 3), np.uint8), 10, 0)
    for t in range(10):
        frames[t, 30:54, 8 + 5 * t : 32 + 5 * t] = (230, 190, 60)
    return frames


@pytest.fixture
def predictor(session):
    return VideoPredictor(session.bundle, session=session, fill_hole_area=0)


def run(predictor, state, **options):
    return {t: logits for t, _, logits in predictor.propagate_in_video(state, **options)}


def assert_same(found, expected):
    assert list(found) == list(expected)
    for t in expected:
        np.testing.assert_array_equal(found[t], expected[t], err_msg=f"frame {t}")


def test_results_have_the_originals_shapes(predictor, video):
    state = predictor.init_state(video)
    frame_idx, obj_ids, logits = predictor.add_new_points_or_box(state, 0, 4, **CLICK)
    assert (frame_idx, obj_ids) == (0, [4])
    assert (logits.shape, logits.dtype) == ((1, 1, 96, 128), np.float32)
    assert [t for t, _, _ in predictor.propagate_in_video(state)] == list(range(10))


def test_normalised_coordinates_mean_the_same_points(predictor, video):
    state = predictor.init_state(video)
    _, _, pixels = predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    fractions = [[20 / 128, 42 / 96]]
    _, _, same = predictor.add_new_points_or_box(
        predictor.init_state(video), 0, 1, fractions, [1], normalize_coords=False
    )
    np.testing.assert_allclose(same, pixels, atol=1e-4)


def test_frame_limits_and_directions(predictor, video):
    state = predictor.init_state(video)
    predictor.add_new_points_or_box(state, 3, 1, **CLICK)
    assert list(run(predictor, state)) == list(range(3, 10))
    assert list(run(predictor, state, max_frame_num_to_track=2)) == [3, 4, 5]
    assert list(run(predictor, state, start_frame_idx=6)) == [6, 7, 8, 9]
    assert list(run(predictor, state, reverse=True)) == [3, 2, 1, 0]
    assert list(run(predictor, state, start_frame_idx=0, reverse=True)) == []


def test_clearing_prompts_falls_back_to_the_rest(predictor, video):
    state = predictor.init_state(video)
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    expected = run(predictor, state)

    state = predictor.init_state(video)
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    predictor.add_new_points_or_box(state, 5, 1, **BOX)
    frame_idx, obj_ids, logits = predictor.clear_all_prompts_in_frame(state, 5, 1)
    assert (frame_idx, obj_ids) == (5, [1])
    assert (logits == -1024).all()  # nothing is known of frame 5 any more
    assert_same(run(predictor, state), expected)


def test_a_cleared_prompt_that_was_taken_up_stays_as_a_tracked_result(predictor, video):
    state = predictor.init_state(video)
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    _, _, prompted = predictor.add_new_points_or_box(state, 5, 1, **BOX)
    run(predictor, state, max_frame_num_to_track=1)
    _, _, kept = predictor.clear_all_prompts_in_frame(state, 5, 1)
    np.testing.assert_array_equal(kept, prompted)
    item = state.objects[1]
    assert (list(item.history.cond), 5 in item.history.non_cond) == ([0], True)


def test_clearing_every_prompt_makes_propagation_an_error(predictor, video):
    state = predictor.init_state(video)
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    predictor.clear_all_prompts_in_frame(state, 0, 1, need_output=False)
    with pytest.raises(StateError, match="object 1 has no prompt"):
        next(predictor.propagate_in_video(state))
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    assert len(run(predictor, state)) == 10


def test_corrections_last_when_they_make_prompted_frames(session, video):
    """The original's option: without it a later pass recomputes the corrected frame."""
    results = {}
    for flag in (False, True):
        predictor = VideoPredictor(
            session.bundle, session=session, fill_hole_area=0,
            add_all_frames_to_correct_as_cond=flag,
        )  # fmt: skip
        state = predictor.init_state(video)
        predictor.add_new_points_or_box(state, 0, 1, **CLICK)
        run(predictor, state)
        _, _, corrected = predictor.add_new_points_or_box(state, 4, 1, [[100, 80]], [1])
        again = run(predictor, state)[4]
        results[flag] = np.array_equal(again, corrected)
        assert (4 in state.objects[1].history.cond) is flag
    assert results == {False: False, True: True}


def test_prompts_added_while_it_runs_count_from_the_next_frame(predictor, video):
    state = predictor.init_state(video)
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    seen = {}
    for t, obj_ids, logits in predictor.propagate_in_video(state):
        seen[t] = (obj_ids, logits)
        if t == 2:
            predictor.add_new_points_or_box(state, 3, 2, **BOX)
        if t == 6:
            predictor.remove_object(state, 1)
    assert [seen[t][0] for t in (2, 3, 6, 7)] == [[1], [1, 2], [1, 2], [2]]

    alone = predictor.init_state(video)
    predictor.add_new_points_or_box(alone, 0, 1, **CLICK)
    for t, logits in run(predictor, alone).items():
        if t <= 6:
            np.testing.assert_array_equal(seen[t][1][0], logits[0], err_msg=f"frame {t}")


def test_removing_the_last_object_resets(predictor, video):
    state = predictor.init_state(video)
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    assert predictor.remove_object(state, 9) == ([1], [])
    with pytest.raises(InputError, match="no object 9"):
        predictor.remove_object(state, 9, strict=True)
    assert predictor.remove_object(state, 1) == ([], [])
    with pytest.raises(StateError, match="no object to track"):
        next(predictor.propagate_in_video(state))


def test_reset_forgets_everything(predictor, video):
    state = predictor.init_state(video)
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    expected = run(predictor, state)
    predictor.add_new_mask(state, 2, 2, np.zeros((96, 128), bool))
    predictor.reset_state(state)
    assert state.obj_ids == []
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    assert_same(run(predictor, state), expected)


def test_mask_prompts_come_back_as_given(predictor, video):
    mask = np.zeros((96, 128), bool)
    mask[24:72, 32:96] = True
    state = predictor.init_state(video)
    for given in (mask, mask.astype(np.uint8), mask.astype(np.float32)):
        _, _, logits = predictor.add_new_mask(state, 0, 1, given)
        overlap = np.logical_and(logits[0, 0] > 0, mask).sum()
        assert overlap / np.logical_or(logits[0, 0] > 0, mask).sum() > 0.95


def test_each_pixel_goes_to_the_strongest_object():
    logits = np.array([[[[3.0, -2.0, 1.0]]], [[[2.0, -1.0, 1.0]]]], np.float32)
    kept = without_overlap(logits)
    np.testing.assert_array_equal(kept, [[[[3, -10, 1]]], [[[-10, -1, -10]]]])
    assert without_overlap(logits[:1]) is not None
    np.testing.assert_array_equal(without_overlap(logits[:1]), logits[:1])


def test_memories_can_be_stored_at_sixteen_bits(session, video):
    results = {}
    for dtype in (None, "float16", "bfloat16"):
        predictor = VideoPredictor(
            session.bundle, session=session, fill_hole_area=0, memory_dtype=dtype
        )
        state = predictor.init_state(video)
        predictor.add_new_points_or_box(state, 0, 1, **CLICK)
        results[dtype] = run(predictor, state, max_frame_num_to_track=3)
        stored = state.objects[1].history.cond[0].memory
        assert stored.dtype.itemsize == (4 if dtype is None else 2)
    error = {
        dtype: max(np.abs(results[dtype][t] - results[None][t]).max() for t in results[None])
        for dtype in ("float16", "bfloat16")
    }
    # eleven and eight significant bits of memories of scale 20, after three frames
    assert 0 < error["float16"] < 0.05
    assert error["float16"] < error["bfloat16"] < 0.5


BAD_CALLS = {
    "frame too high": (lambda p, s: p.add_new_points_or_box(s, 10, 1, **CLICK), "frames 0 to 9"),
    "frame negative": (lambda p, s: p.add_new_points_or_box(s, -1, 1, **CLICK), "frames 0 to 9"),
    "mask size": (lambda p, s: p.add_new_mask(s, 0, 1, np.ones((128, 96), bool)), "its side"),
    "mask values": (lambda p, s: p.add_new_mask(s, 0, 1, np.full((96, 128), 7)), "only 0 and 1"),
    "box later": (
        lambda p, s: p.add_new_points_or_box(s, 0, 1, box=[1, 1, 9, 9], clear_old_points=False),
        "must come before",
    ),
    "no prompt": (lambda p, s: p.add_new_points_or_box(s, 0, 1), "no prompt"),
    "clear unknown": (lambda p, s: p.clear_all_prompts_in_frame(s, 0, 77), "no object 77"),
    "start outside": (
        lambda p, s: next(p.propagate_in_video(s, start_frame_idx=99)), "frames 0 to 9",
    ),
    "negative limit": (
        lambda p, s: next(p.propagate_in_video(s, max_frame_num_to_track=-1)), "at least 0",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_CALLS)
def test_bad_calls_are_refused_and_the_state_still_works(predictor, video, name):
    call, message = BAD_CALLS[name]
    state = predictor.init_state(video)
    predictor.add_new_points_or_box(state, 0, 3, **CLICK)
    expected = run(predictor, state, max_frame_num_to_track=2)
    with pytest.raises(InputError, match=message):
        call(predictor, state)
    assert state.obj_ids == [3]
    assert_same(run(predictor, state, max_frame_num_to_track=2), expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"max_cond_frames_in_attn": 1}, "at least 2"),
        ({"memory_dtype": "int8"}, "memory_dtype"),
        ({"fill_hole_area": -1}, "fill_hole_area"),
        ({"objects_per_call": 0}, "objects_per_call"),
    ],
)
def test_bad_options_are_refused(session, options, message):
    with pytest.raises(InputError, match=message):
        VideoPredictor(session.bundle, session=session, **options)


def test_an_empty_video_is_refused(predictor):
    with pytest.raises(FrameError):
        predictor.init_state(np.zeros((0, 96, 128, 3), np.uint8))


def test_splitting_a_group_changes_nothing_visible(session, video):
    results = []
    for per_call in (1, 2, 16):
        predictor = VideoPredictor(session.bundle, session=session, objects_per_call=per_call)
        state = predictor.init_state(video)
        for obj_id in range(3):
            predictor.add_new_points_or_box(state, 0, obj_id, [[20 + 30 * obj_id, 42]], [1])
        results.append(run(predictor, state))
    for t in results[0]:
        for other in results[1:]:
            np.testing.assert_allclose(other[t], results[0][t], atol=1e-4)


@pytest.mark.parametrize(
    ("graph", "at", "prompt"),
    [
        ("mask_decoder", 2, {"points": [[90, 42]], "labels": [1]}),
        ("image_encoder", 2, {"points": [[90, 42]], "labels": [1]}),
        ("mask_decoder", 2, "mask"),
    ],
)
@pytest.mark.parametrize("obj_id", [1, 2])
def test_a_prompt_that_failed_leaves_no_trace(session, video, graph, at, prompt, obj_id):
    """Object 1 has a prompt on frame 0; then a new prompt of it or of object 2 fails on frame 3."""

    def add(state, predictor):
        if prompt == "mask":
            mask = np.zeros(video.shape[1:3], bool)
            mask[30:54, 20:44] = True
            return predictor.add_new_mask(state, 3, obj_id, mask)
        return predictor.add_new_points_or_box(state, 3, obj_id, **prompt)

    clean = VideoPredictor(session.bundle, session=session)
    expected = clean.init_state(video)
    clean.add_new_points_or_box(expected, 0, 1, **CLICK)

    failing = FailingSession(session, graph, SessionError("out of memory"), at)
    predictor = VideoPredictor(session.bundle, session=failing)
    state = predictor.init_state(video)
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    with pytest.raises(SessionError, match="out of memory"):
        add(state, predictor)
    assert state.obj_ids == [1]
    assert_same(run(predictor, state), run(clean, expected))
    # and works the next time
    np.testing.assert_array_equal(add(state, predictor)[2], add(expected, clean)[2])
    assert_same(run(predictor, state), run(clean, expected))
