"""Activations of execution contexts: one block a stream, by bytes; the ordinary way without it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import SessionError
from sam2rt.runtime.backends import tensorrt_session as trt
from sam2rt.runtime.predictors.stream import StreamTracker
from sam2rt.runtime.predictors.video import VideoPredictor

pytest.importorskip("cuda.bindings.runtime")

from fake_cuda import FakeCuda
from fake_tensorrt import ACTIVATIONS, compute
from trt_session import (
    HostSession,
    assert_same,
    bundle_with_engines,
    graph_inputs,
    stand_in_gpu,
)

FRAMES = np.random.default_rng(2).integers(0, 256, (30, 48, 64, 3), dtype=np.uint8)
#: of the largest engine and of the encoder
LARGEST, ENCODER = 9000, 5000


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return bundle_with_engines(tmp_path)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> FakeCuda:
    return stand_in_gpu(monkeypatch, bundle)


def _without_strategy(session: trt.TensorRTSession) -> None:
    del session.library.ExecutionContextAllocationStrategy


def _track(session: Any, bundle: Bundle) -> list[np.ndarray]:
    with StreamTracker(bundle, session=session, fill_hole_area=0) as tracker:
        tracker.add_points(obj_id=1, points=[[10, 20]], labels=[1])
        return [np.asarray(tracker.step(frame).logits) for frame in FRAMES]


def _bytes(gpu: FakeCuda) -> int:
    return sum(size for _, size in gpu.allocated.values())


def test_contexts_of_a_stream_share_the_largest_of_their_activations(
    bundle: Bundle, gpu: FakeCuda
) -> None:
    expected = _track(HostSession(bundle), bundle)
    taken, made = {}, {}
    for shared in (True, False):
        with trt.TensorRTSession(bundle) as session:
            if not shared:
                _without_strategy(session)
            found = _track(session, bundle)
            taken[shared] = _bytes(gpu)
            runners = session._worker()._runners
            made = {name: len(runner._contexts) for name, runner in runners.items()}
        assert gpu.allocated == {}
        for a, b in zip(found, expected, strict=True):
            np.testing.assert_array_equal(a, b)
    # attention has a context for a ring that grows and one for the full ring
    assert made["memory_attention"] == 2
    alone = sum(count * ACTIVATIONS.get(name, 1000) for name, count in made.items())
    assert alone == 2 * LARGEST + ENCODER + 2 * 1000
    assert taken[False] - taken[True] == alone - LARGEST


def test_the_encoder_beside_tracking_has_a_block_of_its_own(bundle: Bundle, gpu: FakeCuda) -> None:
    with trt.TensorRTSession(bundle) as session:
        with VideoPredictor(bundle, session=session, prefetch=True) as predictor:
            state = predictor.init_state(FRAMES)
            predictor.add_new_points_or_box(state, 0, 1, points=[[9, 20]], labels=[1])
            for _ in predictor.propagate_in_video(state):
                pass
        blocks = [worker.scratch._block for worker in session._workers]
        assert [block.nbytes for block in blocks if block is not None] == [LARGEST, ENCODER]
        assert len({block.pointer for block in blocks if block is not None}) == 2


def test_graphs_are_recorded_anew_when_the_block_moves(bundle: Bundle, gpu: FakeCuda) -> None:
    """What was captured holds the old block, which is nobody's."""
    encoder, attention = (bundle.graphs[n].spec for n in ("image_encoder", "memory_attention"))
    with trt.TensorRTSession(bundle) as session:
        for seed in range(4):
            session.run("image_encoder", graph_inputs(encoder, seed))
        captured = gpu.calls.count("cudaGraphInstantiate")
        assert captured == 1
        session.run("memory_attention", graph_inputs(attention))
        for seed in range(4):
            inputs = graph_inputs(encoder, seed)
            assert_same(session.run("image_encoder", inputs), compute(encoder, inputs))
        assert gpu.calls.count("cudaGraphInstantiate") == captured + 1
        assert gpu.calls.count("cudaGraphExecDestroy") == 1


def test_an_engine_without_room_leaves_the_others_running(bundle: Bundle, gpu: FakeCuda) -> None:
    encoder, attention = (bundle.graphs[n].spec for n in ("image_encoder", "memory_attention"))
    with trt.TensorRTSession(bundle) as session:
        inputs = graph_inputs(encoder)
        session.run("image_encoder", inputs)
        runner = session._worker()._runner("memory_attention")
        # the encoder's block comes back, and a little less than attention needs is free then
        gpu.memory = _bytes(gpu) - ENCODER + LARGEST - 1
        with pytest.raises(SessionError, match=r"running memory_attention needs 9000 bytes"):
            session.run("memory_attention", graph_inputs(attention))
        assert runner._contexts == {}
        assert_same(session.run("image_encoder", inputs), compute(encoder, inputs))
        gpu.memory = 1 << 34
        inputs = graph_inputs(attention)
        assert_same(session.run("memory_attention", inputs), compute(attention, inputs))


def test_a_library_without_shared_memory_is_used_the_ordinary_way(
    bundle: Bundle, gpu: FakeCuda
) -> None:
    spec = bundle.graphs["memory_encoder"].spec
    with trt.TensorRTSession(bundle) as session:
        _without_strategy(session)
        for seed in range(3):
            inputs = graph_inputs(spec, seed)
            assert_same(session.run("memory_encoder", inputs), compute(spec, inputs))
    assert gpu.allocated == {}
