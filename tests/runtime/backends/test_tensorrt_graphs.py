"""CUDA graphs of the TensorRT session: when they are captured, and that they see new inputs."""

from __future__ import annotations

from pathlib import Path

import pytest

from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import SessionError
from sam2rt.runtime.backends import tensorrt_session as trt

pytest.importorskip("cuda.bindings.runtime")

from fake_cuda import FakeCuda
from fake_tensorrt import compute
from trt_session import assert_same, bundle_with_engines, graph_inputs, stand_in_gpu


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return bundle_with_engines(tmp_path)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> FakeCuda:
    return stand_in_gpu(monkeypatch, bundle)


def test_fixed_shapes_are_replayed_as_a_graph_with_new_inputs(
    bundle: Bundle, gpu: FakeCuda
) -> None:
    spec = bundle.graphs["memory_attention"].spec
    with trt.TensorRTSession(bundle) as session:
        for seed in range(5):
            inputs = graph_inputs(spec, seed)
            assert_same(session.run("memory_attention", inputs), compute(spec, inputs))
        assert gpu.calls.count("cudaGraphInstantiate") == 1
        assert gpu.replays == 4
        for seed in range(3):
            inputs = graph_inputs(spec, seed, M=3)
            assert_same(session.run("memory_attention", inputs), compute(spec, inputs))
        assert gpu.calls.count("cudaGraphInstantiate") == 1


def test_an_engine_that_cannot_be_recorded_runs_as_usual(bundle: Bundle, gpu: FakeCuda) -> None:
    spec = bundle.graphs["memory_attention"].spec
    session = trt.TensorRTSession(bundle)
    engine, _ = session.engine("memory_attention")
    engine.uncapturable = True
    for seed in range(4):
        inputs = graph_inputs(spec, seed)
        assert_same(session.run("memory_attention", inputs), compute(spec, inputs))
    assert (gpu.replays, gpu.capturing) == (0, {})
    # tried once
    assert gpu.calls.count("cudaStreamBeginCapture") == 1


def test_a_refused_enqueue_is_an_error_also_during_capture(bundle: Bundle, gpu: FakeCuda) -> None:
    spec = bundle.graphs["memory_encoder"].spec
    session = trt.TensorRTSession(bundle)
    session.run("memory_encoder", graph_inputs(spec))
    engine, _ = session.engine("memory_encoder")
    engine.refuse = True
    with pytest.raises(SessionError, match="could not be enqueued"):
        session.run("memory_encoder", graph_inputs(spec))
    assert gpu.capturing == {}
    assert gpu.replays == 0
