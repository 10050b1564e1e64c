"""Live tracking: the same bits as propagation, bounded memory, objects that come and go."""

from __future__ import annotations

import weakref

import numpy as np
import pytest
from colour_model import ColourSession
from failing_session import FailingSession
from recorded import CallLog
from square_clip import BOX, CLICK, moving_square

from sam2rt import (
    FrameError,
    InputError,
    SessionError,
    StreamTracker,
    VideoPredictor,
    open_frames,
)
from sam2rt.benchmarks.speed.endurance import endurance
from sam2rt.runtime.session import Session


@pytest.fixture(scope="module")
def video() -> np.ndarray:
    return moving_square(24)


def propagated(session, video, prompts, **options):
    predictor = VideoPredictor(session.bundle, session=session, **options)
    state = predictor.init_state(video)
    for frame_idx, obj_id, prompt in prompts:
        if "mask" in prompt:
            predictor.add_new_mask(state, frame_idx, obj_id, prompt["mask"])
        else:
            predictor.add_new_points_or_box(state, frame_idx, obj_id, **prompt)
    return {t: logits[:, 0] for t, _, logits in predictor.propagate_in_video(state)}


def streamed(session, video, prompts, **options):
    results = {}
    with StreamTracker(session.bundle, session=session, **options) as tracker:
        for t, frame in enumerate(video):
            for frame_idx, obj_id, prompt in prompts:
                if frame_idx == t and "mask" in prompt:
                    tracker.add_mask(obj_id, prompt["mask"])
                elif frame_idx == t:
                    tracker.add_points(obj_id, **prompt)
            results[t] = tracker.step(frame)
    return results


OTHER = {"points": [[100, 80], [10, 10]], "labels": [1, 0]}


def mask_prompt(video):
    mask = np.zeros(video.shape[1:3], bool)
    mask[30:54, 8:32] = True
    return {"mask": mask}


@pytest.mark.parametrize("fill", [0, 8])
def test_stream_and_propagation_are_bit_identical(session, video, fill):
    prompts = [(0, 1, CLICK), (0, 2, BOX), (0, 3, mask_prompt(video))]
    expected = propagated(session, video, prompts, fill_hole_area=fill)
    found = streamed(session, video, prompts, fill_hole_area=fill)
    assert list(found) == list(expected)
    for t, result in found.items():
        np.testing.assert_array_equal(result.logits, expected[t], err_msg=f"frame {t}")


class _Counting(ColourSession):
    """Notes how many objects each call of memory attention is given."""

    max_objects = None

    def __init__(self, max_objects=None):
        super().__init__()
        self.groups = []
        self.max_objects = max_objects

    def run(self, graph, inputs, into=None):
        if graph == "memory_attention":
            self.groups.append(len(inputs["memory"]))
        return super().run(graph, inputs)


@pytest.mark.parametrize(
    ("most", "wanted", "groups"),
    [
        (None, None, [4, 2]), (None, 6, [6]), (None, 1, [1] * 6),
        (5, None, [5, 1]), (5, 16, [5, 1]), (5, 3, [3, 3]),
    ],
)  # fmt: skip
def test_objects_share_calls(video, most, wanted, groups):
    """Four at a time unless told otherwise; an engine takes what it was built for."""
    session = _Counting(most)
    tracker = StreamTracker(session.bundle, session=session, objects_per_call=wanted)
    for obj_id in range(6):
        tracker.add_points(obj_id, [[20, 42]], [1])
    tracker.step(video[0])
    tracker.step(video[1])
    assert session.groups == groups


def test_short_clips_are_identical_when_the_length_is_told(session, video):
    clip = video[:7]
    expected = propagated(session, clip, [(0, 1, CLICK)])
    found = streamed(session, clip, [(0, 1, CLICK)], num_frames=len(clip))
    for t, result in found.items():
        np.testing.assert_array_equal(result.logits, expected[t])


def test_a_capped_stream_equals_a_capped_propagation(session, video):
    prompts = [(t, 1, CLICK) for t in (0, 5, 9, 14, 20)]
    found = streamed(session, video, prompts, max_cond_frames_in_attn=3)
    predictor = VideoPredictor(session.bundle, session=session, max_cond_frames_in_attn=3)
    state = predictor.init_state(video)
    # prompts that lie ahead would be used too, so each is given when its frame comes
    frame_of = dict.fromkeys(t for t, _, _ in prompts)
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    for t, _, logits in predictor.propagate_in_video(state):
        np.testing.assert_array_equal(found[t].logits, logits[:, 0], err_msg=f"frame {t}")
        if t + 1 in frame_of:
            predictor.add_new_points_or_box(state, t + 1, 1, **CLICK)


def test_another_object_in_the_same_call_changes_nothing_visible(session, video):
    alone = streamed(session, video, [(0, 1, CLICK)])
    together = streamed(session, video, [(0, 1, CLICK), (0, 2, BOX)])
    for t in alone:
        np.testing.assert_allclose(together[t].logits[0], alone[t].logits[0], atol=1e-4)


def test_objects_of_one_age_share_one_call_of_each_graph(session, video):
    log = CallLog(session)
    tracker = StreamTracker(session.bundle, session=log)
    for obj_id in range(3):
        tracker.add_points(obj_id, **CLICK)
    tracker.step(video[0])
    tracker.add_points(9, **BOX)
    tracker.step(video[1])
    log.take()
    tracker.step(video[2])
    calls = [(graph, len(out[next(iter(out))])) for graph, _, out in log.take()]
    assert calls == [
        ("image_encoder", 1),
        ("memory_attention", 3), ("mask_decoder", 3), ("memory_encoder", 3),
        ("memory_attention", 1), ("mask_decoder", 1), ("memory_encoder", 1),
    ]  # fmt: skip


def test_an_object_of_another_age_changes_no_bit(session, video):
    """Objects added on different frames attend to different memories: never the same call."""
    alone = streamed(session, video[:8], [(0, 1, CLICK)])
    later = streamed(session, video[:8], [(0, 1, CLICK), (3, 2, BOX)])
    for t in alone:
        np.testing.assert_array_equal(later[t].logits[0], alone[t].logits[0])


def test_removing_an_object_leaves_the_other(session, video):
    alone = streamed(session, video, [(0, 1, CLICK)])
    tracker = StreamTracker(session.bundle, session=session)
    tracker.add_points(1, **CLICK)
    tracker.add_points(2, **BOX)
    for t, frame in enumerate(video):
        if t == 6:
            assert tracker.remove_object(2) == [1]
        result = tracker.step(frame)
        assert result.obj_ids == ([1, 2] if t < 6 else [1])
        np.testing.assert_allclose(result.logits[0], alone[t].logits[0], atol=1e-4)


def test_an_object_may_come_back_under_its_old_id(session, video):
    tracker = StreamTracker(session.bundle, session=session)
    tracker.add_points(1, **CLICK)
    first = tracker.step(video[0])
    tracker.step(video[1])
    tracker.remove_object(1)
    assert tracker.step(video[2]).logits.shape == (0, *video.shape[1:3])
    tracker.add_points(1, **CLICK)
    again = tracker.step(video[0])
    np.testing.assert_array_equal(again.logits, first.logits)


@pytest.mark.parametrize("end", ["remove", "reset"])
def test_without_objects_nothing_is_held_for_them(session, video, end):
    tracker = StreamTracker(session.bundle, session=session)
    for obj_id in (1, 2):
        tracker.add_points(obj_id, **CLICK)
    for frame in video[:3]:
        tracker.step(frame)
    buffer = weakref.ref(next(iter(tracker._tracker._slots.values())))
    if end == "reset":
        tracker.reset()
    for obj_id in tracker.obj_ids:
        tracker.remove_object(obj_id)
    assert buffer() is None


def test_without_objects_no_graph_runs(session, video):
    class Refusing(Session):
        bundle = session.bundle

        def run(self, graph, inputs, into=None):
            raise AssertionError(f"{graph} ran")

    result = StreamTracker(session.bundle, session=Refusing()).step(video[0])
    assert (result.obj_ids, result.masks.shape) == ([], (0, *video.shape[1:3]))


def test_masks_scores_and_ious_belong_together(session, video):
    prompts = [(0, 5, CLICK), (0, 3, OTHER)]
    for t, result in streamed(session, video[:4], prompts, fill_hole_area=0).items():
        assert result.frame_idx == t
        assert result.obj_ids == [5, 3]
        np.testing.assert_array_equal(result.masks, result.logits > 0)
        absent = result.object_scores <= 0
        assert (result.logits[absent] == -1024).all()
        assert ((result.ious >= 0) & (result.ious <= 1)).all()


BAD_PROMPTS = {
    "labels missing": ({"points": [[5, 5]]}, "points were given without labels"),
    "points missing": ({"labels": [1]}, "labels were given without points"),
    "nothing": ({}, "no prompt"),
    "unequal": ({"points": [[5, 5]], "labels": [1, 0]}, "1 points but 2 labels"),
    "unknown label": ({"points": [[5, 5]], "labels": [7]}, "expected 1"),
    "not a number": ({"points": [[5, float("nan")]], "labels": [1]}, "NaN or infinite"),
    "infinite": ({"box": [0, 0, float("inf"), 5]}, "NaN or infinite"),
    "reversed box": ({"box": [30, 30, 10, 40]}, "empty or reversed"),
    "empty box": ({"box": [30, 30, 30, 40]}, "empty or reversed"),
    "two boxes": ({"box": [[1, 1, 5, 5], [2, 2, 6, 6]]}, "a box has 4 numbers"),
    "words": ({"points": [["a", "b"]], "labels": [1]}, "must be an array of numbers"),
    "outside": ({"points": [[5000, 5]], "labels": [1]}, "outside the image"),
    "negative": ({"points": [[-50, 5]], "labels": [1]}, "outside the image"),
    "no points": ({"points": [], "labels": []}, "no prompt"),
    "box after clicks": ({"box": [1, 1, 5, 5], "clear_old_points": False}, "must come before"),
}


@pytest.mark.parametrize("name", BAD_PROMPTS)
def test_bad_prompts_are_refused_and_the_tracker_goes_on(session, video, name):
    prompt, message = BAD_PROMPTS[name]
    clean = streamed(session, video[:3], [(0, 1, CLICK)])
    tracker = StreamTracker(session.bundle, session=session)
    tracker.add_points(1, **CLICK)
    tracker.step(video[0])
    with pytest.raises(InputError, match=message):
        tracker.add_points(2, **prompt)
    assert tracker.obj_ids == [1]
    np.testing.assert_array_equal(tracker.step(video[1]).logits, clean[1].logits)


def test_a_prompt_outside_the_first_frame_is_dropped_when_the_frame_comes(session, video):
    tracker = StreamTracker(session.bundle, session=session)
    tracker.add_points(1, [[5000, 5]], [1])
    tracker.add_points(2, **CLICK)
    with pytest.raises(InputError, match="outside the image"):
        tracker.step(video[0])
    assert tracker.obj_ids == [2]
    expected = streamed(session, video[:1], [(0, 2, CLICK)])
    np.testing.assert_array_equal(tracker.step(video[0]).logits, expected[0].logits)


@pytest.mark.parametrize(
    ("graph", "at"), [("image_encoder", 2), ("mask_decoder", 2), ("memory_attention", 1)]
)
@pytest.mark.parametrize("error", [SessionError("out of memory"), KeyboardInterrupt()])
def test_a_frame_that_failed_may_be_pushed_again(session, video, graph, at, error):
    """Prompts wait meanwhile; object 2 is prompted on the frame that fails, 1 is tracked."""
    prompts = [(0, 1, CLICK), (1, 2, BOX)]
    clean = streamed(session, video[:4], prompts)
    tracker = StreamTracker(session.bundle, session=FailingSession(session, graph, error, at))
    tracker.add_points(1, **CLICK)
    tracker.step(video[0])
    tracker.add_points(2, **BOX)
    with pytest.raises(type(error)):
        tracker.step(video[1])
    for index in (1, 2, 3):
        found, expected = tracker.step(video[index]), clean[index]
        assert (found.frame_idx, found.obj_ids) == (expected.frame_idx, expected.obj_ids)
        np.testing.assert_array_equal(found.logits, expected.logits)


@pytest.mark.parametrize("length", [2, 3])
def test_a_stream_may_outlive_the_length_it_was_given(session, video, length):
    log = CallLog(session)
    tracker = StreamTracker(session.bundle, session=log, num_frames=length)
    tracker.add_points(1, **CLICK)
    pointers = []
    for frame in video[:6]:
        tracker.step(frame)
        pointers += [i["obj_ptrs"].shape[1] for g, i, _ in log.take() if g == "memory_attention"]
    assert pointers == [1, 2, 3, 4, 5]


def test_the_callers_arrays_may_change_before_the_frame_comes(session, video):
    mask = np.zeros(video[0].shape[:2], bool)
    mask[10:30, 10:30] = True
    points, labels = np.array([[20.0, 20.0]]), np.array([1])
    results = []
    for changed in (False, True):
        tracker = StreamTracker(session.bundle, session=session)
        tracker.add_mask(1, mask)
        tracker.add_points(2, points, labels)
        if changed:
            mask[:], points[:], labels[:] = False, 1.0, 0
        results.append(tracker.step(video[0]).logits)
    np.testing.assert_array_equal(*results)


def test_frames_of_another_size_are_refused(session, video):
    tracker = StreamTracker(session.bundle, session=session)
    tracker.add_points(1, **CLICK)
    first = tracker.step(video[0])
    with pytest.raises(FrameError, match="call reset"):
        tracker.step(video[0][:50])
    second = tracker.step(video[1])
    assert (first.frame_idx, second.frame_idx) == (0, 1)


def test_a_mask_that_does_not_fit_the_first_frame_is_dropped(session, video):
    tracker = StreamTracker(session.bundle, session=session)
    tracker.add_mask(1, np.ones(video[0].shape[1::-1], bool))
    with pytest.raises(InputError, match=r"mask has shape \(128, 96\).* its side"):
        tracker.step(video[0])
    assert tracker.obj_ids == []


@pytest.mark.parametrize("lost", [(4, 5), tuple(range(2, 12))])
def test_lost_frames_count_as_in_a_video_that_lacks_them(session, video, lost):
    frames = [frame if t not in lost else frame[:50] for t, frame in enumerate(video)]
    source = open_frames(frames, on_error="skip")
    expected = propagated(session, source, [(0, 1, CLICK), (0, 2, BOX)])
    tracker = StreamTracker(session.bundle, session=session)
    for obj_id, prompt in ((1, CLICK), (2, BOX)):
        tracker.add_points(obj_id, **prompt)
    for t, wanted in expected.items():
        tracker.skip_to(t)
        result = tracker.step(video[t])
        assert (result.frame_idx, tracker.frame_idx) == (t, t + 1)
        np.testing.assert_array_equal(result.logits, wanted, err_msg=f"frame {t}")
    with pytest.raises(InputError, match=r"frame 3: the next frame is 24, use reset\(\)"):
        tracker.skip_to(3)


def test_histories_are_what_frames_attend_to(session, video):
    tracker = StreamTracker(session.bundle, session=session)
    assert tracker.histories == {}
    tracker.add_points(5, **CLICK)
    for frame in video[:3]:
        tracker.step(frame)
    history = tracker.histories[5]
    assert (list(history.cond), list(history.non_cond)) == ([0], [1, 2])
    usual = streamed(session, video[:4], [(0, 5, CLICK)])[3].logits
    # without its tracked frames the object is found from its prompt alone
    history.non_cond.clear()
    alone = tracker.step(video[3]).logits
    assert not np.array_equal(alone, usual)
    again = StreamTracker(session.bundle, session=session)
    again.add_points(5, **CLICK)
    again.step(video[0])
    again.skip_to(3)
    np.testing.assert_array_equal(again.step(video[3]).logits, alone)


@pytest.mark.slow
def test_two_thousand_frames_hold_no_more_than_two_hundred(session):
    tracker = StreamTracker(session.bundle, session=session)
    found = endurance(tracker, frames=2000, objects=4)
    assert found["memory_ratio"] <= 1.02, found
