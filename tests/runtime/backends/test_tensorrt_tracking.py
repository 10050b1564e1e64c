"""Tracking with the ring of memories on the device: the bits of the host session."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import InputError, SessionError
from sam2rt.configs.graphs import engine_specs
from sam2rt.runtime.backends import tensorrt_session as trt
from sam2rt.runtime.gpu.ring import DeviceSlotBuffer
from sam2rt.runtime.predictors.image import ImagePredictor
from sam2rt.runtime.predictors.stream import StreamTracker
from sam2rt.runtime.predictors.video import VideoPredictor

pytest.importorskip("cuda.bindings.runtime")

from fake_cuda import FakeCuda
from trt_session import HostSession, bundle_with_engines, stand_in_gpu


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return bundle_with_engines(tmp_path)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> FakeCuda:
    return stand_in_gpu(monkeypatch, bundle)


@pytest.mark.parametrize("dtype", [None, "bfloat16"])
def test_tracking_with_the_ring_on_the_device_gives_the_same_bits(
    bundle: Bundle, gpu: FakeCuda, dtype: str | None
) -> None:
    """Twelve frames, a second object from the fourth on: growing, grouping and the full ring."""
    stream = np.random.default_rng(0)
    frames = stream.integers(0, 256, (12, 48, 64, 3), dtype=np.uint8)

    def track(session: object) -> list[np.ndarray]:
        results = []
        options = {"memory_dtype": dtype, "fill_hole_area": 0}
        with StreamTracker(bundle, session=session, **options) as tracker:
            tracker.add_points(obj_id=1, points=[[10, 10]], labels=[1])
            for index, frame in enumerate(frames):
                if index == 3:
                    tracker.add_points(obj_id=2, points=[[30, 20]], labels=[1])
                results.append(tracker.step(frame).logits)
        return results

    expected = track(HostSession(bundle))
    with trt.TensorRTSession(bundle) as session:
        found = track(session)
    assert [a.shape for a in found] == [a.shape for a in expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_session_states_what_it_can(bundle: Bundle, gpu: FakeCuda) -> None:
    with trt.TensorRTSession(bundle) as session:
        # the engines of a frame run as one CUDA graph
        assert (session.device, session.fused, session.per_object) == ("cuda", True, False)
        assert session.graphs == tuple(engine_specs(bundle.model))
        assert isinstance(session.slot_buffer(), DeviceSlotBuffer)
        assert ImagePredictor(bundle, session=session).device == "cuda"
        assert session.overlaps
    with trt.TensorRTSession(bundle, stream=777) as session:
        tracker = StreamTracker(bundle, session=session)
        with pytest.raises(InputError, match="this session has one queue on a GPU"):
            tracker.encoded(np.zeros((48, 64, 3), np.uint8))


def test_prefetching_gives_the_same_bits_and_waits_for_the_encoder(
    bundle: Bundle, gpu: FakeCuda
) -> None:
    """The encoder of the next frame is on another stream; its thread's buffers serve the next."""
    frames = np.random.default_rng(5).integers(0, 256, (30, 48, 64, 3), dtype=np.uint8)

    def track(session: Any, prefetch: bool) -> list[Any]:
        options = {"fill_hole_area": 0, "prefetch": prefetch}
        with VideoPredictor(bundle, session=session, **options) as predictor:
            state = predictor.init_state(frames)
            predictor.add_new_points_or_box(state, 0, 1, points=[[9, 20]], labels=[1])
            return [np.asarray(logits) for _, _, logits in predictor.propagate_in_video(state)]

    expected = track(HostSession(bundle), False)
    with trt.TensorRTSession(bundle) as session:
        for _ in range(3):
            gpu.calls.clear()
            found = track(session, True)
            for a, b in zip(found, expected, strict=True):
                np.testing.assert_array_equal(a, b)
            # of each frame but the first, which was encoded for its prompt
            assert gpu.calls.count("cudaStreamWaitEvent") >= len(frames) - 1
        # this thread's and one for all that encoded
        assert len(session._workers) == 2
        assert len(session._idle) == 1
    assert gpu.allocated == {}


def test_more_objects_than_the_engine_takes_are_split(bundle: Bundle, gpu: FakeCuda) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)

    def track(session: object, per_call: int) -> list[np.ndarray]:
        options = {"fill_hole_area": 0, "objects_per_call": per_call}
        with StreamTracker(bundle, session=session, **options) as tracker:
            for obj_id in range(5):
                tracker.add_points(obj_id=obj_id, points=[[10 + obj_id, 10]], labels=[1])
            return [tracker.step(frame).logits for frame in frames]

    expected = track(HostSession(bundle), 2)
    with trt.TensorRTSession(bundle) as session:
        assert session.max_objects == 2
        found = track(session, 16)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def _track(bundle: Bundle, session: object, prompts: dict[int, int], count: int) -> list[Any]:
    """Logits of every frame; `prompts` names the object prompted on a frame."""
    frames = np.random.default_rng(7).integers(0, 256, (count, 48, 64, 3), dtype=np.uint8)
    results = []
    with StreamTracker(bundle, session=session, fill_hole_area=0) as tracker:
        for index, frame in enumerate(frames):
            if index in prompts:
                tracker.add_points(obj_id=prompts[index], points=[[10 + index, 20]], labels=[1])
            results.append(tracker.step(frame).logits)
    return results


@pytest.mark.parametrize(
    "prompts",
    [
        {0: 1}, {0: 1, 9: 2}, {0: 1, 2: 2, 11: 1, 20: 2}, {3: 1, 5: 1, 14: 2, 15: 3},
        # in the steady state: there are as many memories as before, all in another slot
        {0: 1, 18: 1}, {0: 1, 8: 1},
    ],
)  # fmt: skip
def test_memories_overwritten_in_place_give_the_same_bits(
    bundle: Bundle, gpu: FakeCuda, prompts: dict[int, int]
) -> None:
    expected = _track(bundle, HostSession(bundle), prompts, 24)
    with trt.TensorRTSession(bundle) as session:
        found = _track(bundle, session, prompts, 24)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)
    assert gpu.allocated == {}


def test_the_memory_encoder_writes_into_the_ring_that_attention_reads(
    bundle: Bundle, gpu: FakeCuda
) -> None:
    model = bundle.model
    slot = 4 * model.mem_dim * model.embed_size**2
    with trt.TensorRTSession(bundle) as session:
        _track(bundle, session, {0: 1}, 40)
        ring = [run["memory"] for run in session.engine("memory_attention")[0].runs][-20:]
        wrote = [run["memory"] for run in session.engine("memory_encoder")[0].runs][-20:]
        # one ring, read where it lies, and after the prompted frame's the six slots in turn
        assert len(set(ring)) == 1
        first = wrote.index(ring[0] + slot)
        turns = [ring[0] + (1 + i % 6) * slot for i in range(20 - first)]
        assert wrote[first:] == turns
        # a graph per slot: captured in the second round of the full ring, replayed since
        recorded = session._worker().together.graphs.recorded()
        # of the frame's pieces the last is the chain, and the last of its places its output
        assert sorted(pieces[-1][1][-1] for pieces in recorded) == sorted(set(turns))


def test_a_failed_frame_may_be_pushed_again(bundle: Bundle, gpu: FakeCuda) -> None:
    """What the failed run may have overwritten is not attended to any more."""
    frames = np.random.default_rng(7).integers(0, 256, (20, 48, 64, 3), dtype=np.uint8)
    options = {"fill_hole_area": 0}
    with (
        trt.TensorRTSession(bundle) as session,
        StreamTracker(bundle, session=session, **options) as tracker,
    ):
        tracker.add_points(obj_id=1, points=[[10, 20]], labels=[1])
        for frame in frames[:18]:
            tracker.step(frame)
        engine, _ = session.engine("memory_encoder")
        engine.refuse = True
        with pytest.raises(SessionError, match="could not be enqueued"):
            tracker.step(frames[18])
        engine.refuse = False
        history = tracker.histories[1]
        assert sorted(t for t, o in history.non_cond.items() if o.memory is not None) == [
            13, 14, 15, 16, 17,
        ]  # fmt: skip
        assert np.isfinite(tracker.step(frames[18]).logits).all()
        assert np.isfinite(tracker.step(frames[19]).logits).all()
