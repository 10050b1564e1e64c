"""A predictor of videos in two threads at once: the second is refused, the first goes on."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from colour_model import BLUE, RED, ColourSession, box_mask, draw

from sam2rt import StateError, StreamTracker, VideoPredictor

BOXES = [(8, 8, 48, 40), (16, 8, 56, 40), (24, 8, 64, 40)]
OTHER = (100, 100, 180, 140)
FRAMES = [draw([(RED, box), (BLUE, OTHER)]) for box in BOXES]


class Halting(ColourSession):
    """Waits in the graph that it is told to halt in, until it may go on."""

    def __init__(self) -> None:
        super().__init__()
        self.halt_in = ""
        self.there, self.go_on = threading.Event(), threading.Event()

    def run(self, graph: str, inputs: Any, into: Any = None) -> dict[str, Any]:
        if graph == self.halt_in:
            self.halt_in = ""
            self.there.set()
            assert self.go_on.wait(20)
        return super().run(graph, inputs, into)


@pytest.fixture
def session() -> Halting:
    return Halting()


def meanwhile(session: Halting, graph: str, work: Callable[[], Any], calls: list[Any]) -> Any:
    """What `work` gives in a thread that halts in `graph` while each of `calls` is refused."""
    got: list[Any] = []
    session.halt_in = graph
    worker = threading.Thread(target=lambda: got.append(work()), name="worker")
    worker.start()
    assert session.there.wait(20)
    try:
        for call in calls:
            with pytest.raises(StateError) as caught:
                call()
            name = str(caught.value).split()[1]
            assert str(caught.value) == (
                f"the {name} is in use by thread worker, this is MainThread: make one for each "
                "thread, with session= they share one"
            )
            assert name in ("StreamTracker", "VideoPredictor")
    finally:
        session.go_on.set()
        worker.join()
    return got[0]


def test_a_stream_of_two_threads(session: Halting) -> None:
    tracker = StreamTracker(session.bundle, session=session)
    tracker.add_points(1, [[20, 20]], [1])
    tracker.step(FRAMES[0])
    result = meanwhile(
        session,
        "memory_attention",
        lambda: tracker.step(FRAMES[1]),
        [
            lambda: tracker.step(FRAMES[2]),
            lambda: tracker.add_points(2, [[140, 120]], [1]),
            lambda: tracker.add_box(2, OTHER),
            lambda: tracker.add_mask(2, box_mask(OTHER)),
            lambda: tracker.remove_object(1),
            lambda: tracker.skip_to(7),
            tracker.reset,
        ],
    )
    assert (result.frame_idx, result.obj_ids) == (1, [1])
    np.testing.assert_array_equal(result.masks[0], box_mask(BOXES[1]))
    # one after the other is no matter, whichever thread it is
    tracker.add_points(2, [[140, 120]], [1])
    last = tracker.step(FRAMES[2])
    assert (last.frame_idx, last.obj_ids) == (2, [1, 2])
    np.testing.assert_array_equal(last.masks, [box_mask(BOXES[2]), box_mask(OTHER)])


def test_a_frame_may_be_encoded_while_one_is_tracked(session: Halting) -> None:
    tracker = StreamTracker(session.bundle, session=session)
    tracker.add_points(1, [[20, 20]], [1])
    tracker.step(FRAMES[0])
    encoded: list[Any] = []

    def work() -> Any:
        return tracker.step(FRAMES[1])

    session.halt_in = "memory_attention"
    worker = threading.Thread(target=work)
    worker.start()
    assert session.there.wait(20)
    encoded.append(tracker.encoded(FRAMES[2]))
    session.go_on.set()
    worker.join()
    np.testing.assert_array_equal(tracker.step(encoded[0]).masks[0], box_mask(BOXES[2]))


def test_a_video_of_two_threads(session: Halting) -> None:
    video = VideoPredictor(session.bundle, session=session)
    state, other = video.init_state(FRAMES), video.init_state(FRAMES)
    video.add_new_points_or_box(state, 0, 1, [[20, 20]], [1])
    video.add_new_points_or_box(other, 0, 1, [[140, 120]], [1])
    running = video.propagate_in_video(other)
    next(running)
    found = meanwhile(
        session,
        "memory_attention",
        lambda: list(video.propagate_in_video(state)),
        [
            lambda: next(video.propagate_in_video(state)),
            lambda: next(running),
            lambda: video.propagate_in_video_preflight(state),
            lambda: video.add_new_points_or_box(state, 1, 2, [[140, 120]], [1]),
            lambda: video.add_new_points(other, 1, 2, [[20, 20]], [1]),
            lambda: video.add_new_mask(state, 0, 2, box_mask(OTHER)),
            lambda: video.clear_all_prompts_in_frame(state, 0, 1),
            lambda: video.remove_object(state, 1),
            lambda: video.reset_state(state),
        ],
    )
    assert [(t, ids) for t, ids, _ in found] == [(0, [1]), (1, [1]), (2, [1])]
    for (t, _, logits), box in zip(found, BOXES, strict=True):
        np.testing.assert_array_equal(logits[0, 0] > 0, box_mask(box), err_msg=f"frame {t}")
    assert (state.obj_ids, other.obj_ids) == ([1], [1])


def test_a_thread_may_prompt_between_two_frames_of_another(session: Halting) -> None:
    """Servers answer each request from whichever thread is free."""
    video = VideoPredictor(session.bundle, session=session)
    state = video.init_state(FRAMES)
    video.add_new_points_or_box(state, 0, 1, [[20, 20]], [1])
    running = video.propagate_in_video(state)
    assert next(running)[1] == [1]
    prompting = threading.Thread(
        target=lambda: video.add_new_points_or_box(state, 0, 2, [[140, 120]], [1])
    )
    prompting.start()
    prompting.join()
    _, ids, logits = next(running)
    assert ids == [1, 2]
    np.testing.assert_array_equal(logits[:, 0] > 0, [box_mask(BOXES[1]), box_mask(OTHER)])
    # a propagation that is left early lets go of the predictor
    running.close()  # type: ignore[attr-defined]
    video.reset_state(state)
