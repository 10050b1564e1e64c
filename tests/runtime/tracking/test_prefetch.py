"""Prefetching: the same masks, encoded by another thread, errors in their place."""

from __future__ import annotations

import threading

import numpy as np
import pytest
from recorded import CallLog
from square_clip import BOX, CLICK, moving_square

from sam2rt import FrameError, InputError, StreamTracker, VideoPredictor


def propagated(session, video, prefetch, **options):
    predictor = VideoPredictor(session.bundle, session=session, prefetch=prefetch)
    state = predictor.init_state(video)
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    predictor.add_new_points_or_box(state, 4, 2, **BOX)
    return {t: logits for t, _, logits in predictor.propagate_in_video(state, **options)}


@pytest.mark.parametrize("reverse", [False, True])
def test_masks_are_the_same_bits(session, reverse):
    video = moving_square(10)
    start = {"start_frame_idx": 8, "reverse": True} if reverse else {}
    plain = propagated(session, video, False, **start)
    fetched = propagated(session, video, True, **start)
    assert list(fetched) == list(plain) != []
    for t, logits in plain.items():
        np.testing.assert_array_equal(fetched[t], logits)


class Watched(CallLog):
    """Notes the thread that encodes."""

    def __init__(self, session) -> None:
        super().__init__(session)
        self.encoders: list[str] = []

    def run(self, graph, inputs, into=None):
        if graph == "image_encoder":
            self.encoders.append(threading.current_thread().name)
        return super().run(graph, inputs, into)


def test_another_thread_encodes_each_frame_once(session):
    watched = Watched(session)
    predictor = VideoPredictor(session.bundle, session=watched, prefetch=True)
    state = predictor.init_state(moving_square(8))
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    main = threading.current_thread().name
    assert watched.encoders == [main]
    assert len(list(predictor.propagate_in_video(state))) == 8
    # what prompting made is used
    assert len(watched.encoders) == 8
    assert main not in watched.encoders[1:]


def test_prompts_between_frames_count_and_leaving_stops_the_thread(session):
    video = moving_square(10)
    results = []
    before = threading.active_count()
    for prefetch in (False, True):
        predictor = VideoPredictor(session.bundle, session=session, prefetch=prefetch)
        state = predictor.init_state(video)
        predictor.add_new_points_or_box(state, 0, 1, **CLICK)
        seen = {}
        for t, _, logits in predictor.propagate_in_video(state):
            seen[t] = logits
            if t == 2:
                predictor.add_new_points_or_box(state, 6, 1, points=[[40, 40]], labels=[1])
            if t == 7:
                break
        results.append(seen)
    for t in range(8):
        np.testing.assert_array_equal(results[0][t], results[1][t])
    assert threading.active_count() == before


def test_an_encoded_frame_takes_the_place_of_a_frame(session):
    video = moving_square(3)
    results = []
    for prefetch in (False, True):
        with StreamTracker(session.bundle, session=session) as tracker:
            tracker.add_points(1, **CLICK)
            frames = [tracker.encoded(f) for f in video] if prefetch else video
            results.append([tracker.step(f).logits for f in frames])
            with pytest.raises(InputError, match="the frame is 40 x 30, earlier ones were"):
                tracker.step(tracker.encoded(np.zeros((30, 40, 3), np.uint8)))
            with pytest.raises(FrameError):
                tracker.encoded(np.zeros((0, 4, 3), np.uint8))
    np.testing.assert_array_equal(results[0], results[1])


def test_a_gpu_has_its_own_queue(session):
    class OnGpu(CallLog):
        overlaps = False

    tracker = StreamTracker(session.bundle, session=OnGpu(session))
    with pytest.raises(InputError, match="this session has one queue on a GPU"):
        tracker.encoded(moving_square(1)[0])
