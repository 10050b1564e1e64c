"""A frame's work as one CUDA graph: replays go round the ring twice with the bits of plain runs."""

from __future__ import annotations

import dataclasses
import threading
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import SessionError
from sam2rt.runtime.backends import tensorrt_session as trt
from sam2rt.runtime.bank import FrameOutput
from sam2rt.runtime.gpu.graphs import GraphCache
from sam2rt.runtime.predictors.stream import StreamTracker
from sam2rt.runtime.predictors.stream_result import StreamResult
from sam2rt.runtime.predictors.video import VideoPredictor

pytest.importorskip("cuda.bindings.runtime")

from fake_cuda import FakeCuda
from gpu_interpreter import foreign, kernels_beside
from trt_session import HostSession, bundle_with_engines, stand_in_gpu

#: pointers are complete after sixteen frames; then the ring of six is gone round three times:
#: ordinary runs, captures, replays, and once more
FRAMES = np.random.default_rng(4).integers(0, 256, (48, 36, 64, 3), dtype=np.uint8)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return bundle_with_engines(tmp_path)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> FakeCuda:
    fake = stand_in_gpu(monkeypatch, bundle)
    kernels_beside(monkeypatch, fake)
    return fake


def _prompt(tracker: StreamTracker, obj_id: int) -> None:
    tracker.add_points(obj_id=obj_id, points=[[10 + obj_id, 20]], labels=[1])


def _one(tracker: StreamTracker, index: int) -> None:
    if index == 0:
        _prompt(tracker, 1)


def _two(tracker: StreamTracker, index: int) -> None:
    if index == 0:
        _prompt(tracker, 1)
        _prompt(tracker, 2)


def _come_and_go(tracker: StreamTracker, index: int) -> None:
    if index in (0, 3, 26):
        _prompt(tracker, index)
    if index == 25:
        tracker.remove_object(0)
    if index == 27:
        tracker.remove_object(26)


def _reset(tracker: StreamTracker, index: int) -> None:
    if index == 12:
        tracker.reset()
    if index in (0, 12):
        _prompt(tracker, 1)


def _correct(tracker: StreamTracker, index: int) -> None:
    if index in (0, 14):
        _prompt(tracker, 1)


STORIES: dict[str, Callable[[StreamTracker, int], None]] = {
    "one object": _one,
    "two objects": _two,
    "objects come and go": _come_and_go,
    "reset": _reset,
    "corrections": _correct,
}


def _track(
    bundle: Bundle,
    session: Any,
    story: Callable[[StreamTracker, int], None],
    count: int = len(FRAMES),
) -> list[tuple[Any, ...]]:
    found = []
    with StreamTracker(bundle, session=session, fill_hole_area=8) as tracker:
        for index in range(count):
            story(tracker, index)
            found.append(_seen(tracker.step(FRAMES[index % len(FRAMES)])))
    return found


def _seen(result: StreamResult) -> tuple[Any, ...]:
    return result.masks, np.asarray(result.logits), result.object_scores, result.ious


def _same(found: list[tuple[Any, ...]], expected: list[tuple[Any, ...]]) -> None:
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        for a, b in zip(one, other, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("name", STORIES)
def test_replays_give_the_bits_of_runs_without_graphs(
    bundle: Bundle, gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    story = STORIES[name]
    # with two prompted frames shapes are another profile's, and settle again
    count = 58 if name == "corrections" else len(FRAMES)

    def counted(tracker: StreamTracker, index: int) -> None:
        gpu.calls.clear()
        story(tracker, index)

    with trt.TensorRTSession(bundle) as session:
        found = _track(bundle, session, counted, count)
        # the last frame, and the logits that were looked at
        assert gpu.calls.count("cudaGraphLaunch") == 1
        assert gpu.calls.count("launch") == gpu.calls.count("cudaStreamBeginCapture") == 0
        recorded = session._worker().together.graphs.recorded()
        # one for each slot of the ring, at the least
        assert len(recorded) >= 6
    replays = gpu.replays
    monkeypatch.setattr(GraphCache, "_recorded", lambda self, enqueue: None)
    with trt.TensorRTSession(bundle) as session:
        plain = _track(bundle, session, story, count)
        assert gpu.replays == replays
    _same(found, plain)
    _same(found, _track(bundle, HostSession(bundle), story, count))
    assert gpu.allocated == {}


def test_frames_encoded_ahead_give_the_same_bits_for_a_launch_each(
    bundle: Bundle, gpu: FakeCuda
) -> None:
    """The encoder on another thread's stream: one launch there, one for tracking, one wait here."""
    counts = []
    with (
        trt.TensorRTSession(bundle) as session,
        StreamTracker(bundle, session=session, fill_hole_area=8) as tracker,
        ThreadPoolExecutor(1) as pool,
    ):
        _prompt(tracker, 1)
        found = []
        for frame in FRAMES:
            gpu.calls.clear()
            encoded = pool.submit(tracker.encoded, frame).result()
            ahead = Counter(gpu.calls)
            gpu.calls.clear()
            result = tracker.step(encoded)
            masks = result.masks
            counts.append((ahead, Counter(gpu.calls)))
            found.append((masks, *_seen(result)[1:]))
    _same(found, _track(bundle, HostSession(bundle), _one))
    for ahead, here in counts[-6:]:
        assert ahead["cudaGraphLaunch"] == here["cudaGraphLaunch"] == 1
        assert ahead["launch"] == here["launch"] == 0
        assert ahead["cudaMemcpyAsync"] == here["cudaMemcpyAsync"] == 0
        assert here["cudaStreamSynchronize"] == 1
        # once for all features of a frame
        assert here["cudaStreamWaitEvent"] == 1


def test_a_video_with_prefetch_gives_the_same_bits(bundle: Bundle, gpu: FakeCuda) -> None:
    def masks(session: Any, prefetch: bool) -> list[Any]:
        with VideoPredictor(bundle, session=session, prefetch=prefetch) as predictor:
            state = predictor.init_state(FRAMES)
            predictor.add_new_points_or_box(state, 0, 1, points=[[9, 20]], labels=[1])
            return [(logits > 0,) for _, _, logits in predictor.propagate_in_video(state)]

    with trt.TensorRTSession(bundle) as session:
        _same(masks(session, True), masks(HostSession(bundle), False))


def test_masks_that_nobody_takes_are_not_brought(bundle: Bundle, gpu: FakeCuda) -> None:
    """They come with the frame as long as each frame's are taken; any may be read later."""
    with (
        trt.TensorRTSession(bundle) as session,
        StreamTracker(bundle, session=session, fill_hole_area=8) as tracker,
    ):
        _prompt(tracker, 1)
        results = []
        for index, frame in enumerate(FRAMES[:12]):
            result = tracker.step(frame)
            results.append(result)
            ready = result.low_res_logits._ready  # type: ignore[attr-defined]
            # taken of frames 0 to 3 and 8: brought with the ones after them
            assert (ready is not None) == (index in (1, 2, 3, 4, 9))
            if index in (0, 1, 2, 3, 8):
                assert result.masks.dtype == np.bool_
    expected = _track(bundle, HostSession(bundle), _one)
    for result, (masks, *_) in zip(results, expected, strict=False):
        np.testing.assert_array_equal(result.masks, masks)


def test_masks_brought_are_the_callers_own(bundle: Bundle, gpu: FakeCuda) -> None:
    """Written at will, read again, read object by object and by another thread."""
    expected = _track(bundle, HostSession(bundle), _two)
    with (
        trt.TensorRTSession(bundle) as session,
        StreamTracker(bundle, session=session, fill_hole_area=8) as tracker,
    ):
        _two(tracker, 0)
        kept: list[StreamResult] = []
        for frame, (masks, *_) in zip(FRAMES[:8], expected, strict=False):
            result = tracker.step(frame)
            taken = result.masks
            np.testing.assert_array_equal(taken, masks)
            taken[...] = ~taken
            np.testing.assert_array_equal(result.masks, masks)
            np.testing.assert_array_equal(list(result.each_mask()), masks)
            np.testing.assert_array_equal(result.logits[1] > 0, masks[1])
            kept.append(result)
        seen: list[Any] = []
        thread = threading.Thread(target=lambda: seen.extend(r.masks for r in kept))
        thread.start()
        thread.join()
        for found, (masks, *_) in zip(seen, expected, strict=False):
            np.testing.assert_array_equal(found, masks)
    # the pinned memory is gone
    for result, (masks, *_) in zip(kept, expected, strict=False):
        np.testing.assert_array_equal(result.masks, masks)


def test_numbers_of_groups_in_one_frame_keep_apart(bundle: Bundle, gpu: FakeCuda) -> None:
    """Objects of unequal age are tracked by a call each, and waited for once."""
    with (
        trt.TensorRTSession(bundle) as session,
        StreamTracker(bundle, session=session, fill_hole_area=8) as tracker,
    ):
        found = []
        for index, frame in enumerate(FRAMES):
            if index in (0, 1, 2):
                _prompt(tracker, index)
            gpu.calls.clear()
            found.append(_seen_masks(tracker.step(frame)))
            if index == 8:
                # three calls of the chain: rings of three lengths
                assert gpu.calls.count("cudaStreamSynchronize") == 1

    def story(tracker: StreamTracker, index: int) -> None:
        if index in (0, 1, 2):
            _prompt(tracker, index)

    host = HostSession(bundle)
    # calls of as many objects as the engine's
    host.max_objects = 2
    _same(found, [(m, s, i) for m, _, s, i in _track(bundle, host, story)])


def _seen_masks(result: StreamResult) -> tuple[Any, ...]:
    return result.masks, result.object_scores, result.ious


def test_frames_on_the_gpu_are_waited_for_once(bundle: Bundle, gpu: FakeCuda) -> None:
    """Whose memory they are may fill it anew when the call is over."""
    shared = FRAMES[0].copy()

    class Foreign:
        __cuda_array_interface__ = {  # noqa: RUF012
            "version": 3, "shape": shared.shape, "typestr": "|u1", "strides": None,
            "data": (shared.ctypes.data, False), "stream": 4242,
        }  # fmt: skip

    foreign[shared.ctypes.data] = shared.nbytes
    found = []
    with (
        trt.TensorRTSession(bundle) as session,
        StreamTracker(bundle, session=session, fill_hole_area=8) as tracker,
    ):
        _prompt(tracker, 1)
        for frame in FRAMES:
            shared[...] = frame
            gpu.calls.clear()
            result = tracker.step(Foreign())
            # so that a late read would show
            shared[...] = 7
            found.append(_seen_masks(result))
            waits = gpu.calls.count("cudaStreamSynchronize")
    assert waits == 1
    _same(found, [(m, s, i) for m, _, s, i in _track(bundle, HostSession(bundle), _one)])


def test_results_of_a_frame_are_plain_once_they_are_read(bundle: Bundle, gpu: FakeCuda) -> None:
    with (
        trt.TensorRTSession(bundle) as session,
        StreamTracker(bundle, session=session, fill_hole_area=8) as tracker,
    ):
        _prompt(tracker, 1)
        scores = [tracker.step(frame).object_scores[0] for frame in FRAMES[:4]]
        history = tracker.histories[1].non_cond
        assert [type(output) for output in history.values()] == [FrameOutput] * 3
        changed = dataclasses.replace(history[2], iou=0.5)
        assert (changed.iou, changed.object_score) == (0.5, scores[2])
        np.testing.assert_array_equal(changed.obj_ptr, history[2].obj_ptr)


def test_an_error_drops_what_was_put_off(bundle: Bundle, gpu: FakeCuda) -> None:
    with (
        trt.TensorRTSession(bundle) as session,
        StreamTracker(bundle, session=session, fill_hole_area=8) as tracker,
    ):
        _prompt(tracker, 1)
        for frame in FRAMES[:10]:
            tracker.step(frame)
        together = session._worker().together

        def interrupted() -> None:
            with session.together():
                tracker._encoder.features(FRAMES[10])
                assert len(together._pieces) == 2
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            interrupted()
        assert together._pieces == []
        assert session._worker().stream.collector is None
        engine, _ = session.engine("image_encoder")
        before = len(engine.runs)
        tracker.step(FRAMES[10])
        assert len(engine.runs) == before + 1
        engine.refuse = True
        session._worker().together.graphs.close()
        session._worker()._runners["image_encoder"]._graphs.close()
        with pytest.raises(SessionError, match="could not be enqueued"):
            tracker.step(FRAMES[11])
        engine.refuse = False
        # the frame may be pushed again
        assert tracker.frame_idx == 11
        assert np.isfinite(tracker.step(FRAMES[11]).object_scores).all()
