"""I/O binding: ONNX Runtime's CPU provider on the addresses that a GPU of host memory gives."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from sam2rt.configs.bundle import Bundle
from sam2rt.configs.graphs import GraphSpec, TensorSpec, output_shapes
from sam2rt.runtime.backends import onnxruntime_session as ort
from sam2rt.runtime.backends.onnxruntime_binding import BoundRunner
from sam2rt.runtime.backends.onnxruntime_session import OnnxRuntimeSession
from sam2rt.runtime.bank import SlotBuffer
from sam2rt.runtime.gpu import cuda
from sam2rt.runtime.gpu.ring import DeviceSlotBuffer
from sam2rt.runtime.gpu.tensor import DeviceTensor

pytest.importorskip("cuda.bindings.runtime")

from fake_bundle import write_bundle
from fake_cuda import FakeCuda

#: y = 2 x where flip is false, else -x; z counts along K, which may be 0
SPEC = GraphSpec(
    "twice",
    (
        TensorSpec("x", "float32", ("N", 3)),
        TensorSpec("k", "int64", ("N", "K")),
        TensorSpec("flip", "bool", (1,)),
    ),
    (TensorSpec("y", "float32", ("N", 3)), TensorSpec("z", "int64", ("N", "K"))),
)


@pytest.fixture(scope="module")
def opened() -> Any:
    def info(name: str, kind: int, shape: list[Any]) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, kind, shape)

    nodes = [
        helper.make_node("Add", ["x", "x"], ["double"]),
        helper.make_node("Neg", ["x"], ["negative"]),
        helper.make_node("Where", ["flip", "negative", "double"], ["y"]),
        helper.make_node("Add", ["k", "k"], ["z"]),
    ]
    f, i = TensorProto.FLOAT, TensorProto.INT64
    graph = helper.make_graph(
        nodes, "twice",
        [info("x", f, ["N", 3]), info("k", i, ["N", "K"]), info("flip", TensorProto.BOOL, [1])],
        [info("y", f, ["N", 3]), info("z", i, ["N", "K"])],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    return onnxruntime.InferenceSession(
        model.SerializeToString(), providers=["CPUExecutionProvider"]
    )


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    fake = FakeCuda()
    monkeypatch.setattr(cuda, "cudart", lambda: fake)
    return fake


def _inputs(n: int, k: int, flip: bool) -> dict[str, np.ndarray]:
    return {
        "x": np.arange(3 * n, dtype=np.float32).reshape(n, 3) + 1,
        "k": np.arange(n * k, dtype=np.int64).reshape(n, k),
        "flip": np.array([flip]),
    }


def test_shapes_of_outputs_follow_the_contract() -> None:
    shapes = {"x": (4, 3), "k": (4, 0), "flip": (1,)}
    assert output_shapes(SPEC, shapes) == {"y": (4, 3), "z": (4, 0)}


@pytest.mark.parametrize(("n", "k", "flip"), [(2, 5, False), (1, 0, True)])
def test_host_arrays_in_and_out(gpu: FakeCuda, opened: Any, n: int, k: int, flip: bool) -> None:
    runner = BoundRunner("cpu")
    inputs = _inputs(n, k, flip)
    found = runner.run(opened, SPEC, inputs, (), {})
    np.testing.assert_array_equal(found["y"], inputs["x"] * (-1 if flip else 2))
    np.testing.assert_array_equal(found["z"], inputs["k"] * 2)
    found["y"][0, 0] = 5


def test_kept_outputs_feed_the_next_run_without_the_host(gpu: FakeCuda, opened: Any) -> None:
    runner = BoundRunner("cpu")
    inputs = _inputs(2, 4, False)
    first = runner.run(opened, SPEC, inputs, ("y", "z"), {})
    assert all(isinstance(t, DeviceTensor) for t in first.values())
    before = gpu.calls.count("cudaMemcpyAsync")
    second = runner.run(opened, SPEC, {**inputs, "x": first["y"]}, ("y", "z"), {})
    # k and flip are brought in, x is there
    assert gpu.calls.count("cudaMemcpyAsync") - before == 2
    np.testing.assert_array_equal(np.asarray(second["y"]), inputs["x"] * 4)
    np.testing.assert_array_equal(np.asarray(first["y"]), inputs["x"] * 2)


@pytest.mark.parametrize("n", [1, 2])
def test_outputs_go_into_the_slots_they_are_given(gpu: FakeCuda, opened: Any, n: int) -> None:
    runner = BoundRunner("cpu")
    ring = DeviceTensor.pooled(runner.pool, (n, 4, 3), np.float32, runner.stream)
    inputs = _inputs(n, 2, True)
    slots = [
        DeviceTensor(ring.pointer + (4 * i + 2) * 12, (3,), np.float32, ring.owner, runner.stream)
        for i in range(n)
    ]
    copies = gpu.calls.count("cudaMemcpyAsync")
    found = runner.run(opened, SPEC, inputs, (), {"y": slots})
    # three inputs in and one output out; slots of several objects are apart: one copy each
    assert gpu.calls.count("cudaMemcpyAsync") - copies == (4 if n == 1 else 4 + n)
    assert found["y"] is slots
    np.testing.assert_array_equal(ring.download()[:, 2], -inputs["x"])


def test_a_session_on_the_gpu_binds_and_one_on_the_cpu_does_not(
    gpu: FakeCuda, opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(tmp_path / "b")
    bundle = Bundle.load(tmp_path / "b")
    on_cpu = OnnxRuntimeSession(bundle)
    assert type(on_cpu.slot_buffer()) is SlotBuffer
    assert on_cpu.overlaps
    monkeypatch.setattr(ort, "BoundRunner", lambda: BoundRunner("cpu"))
    session = OnnxRuntimeSession(bundle, "cuda")
    ring = session.slot_buffer()
    assert isinstance(ring, DeviceSlotBuffer)
    assert ring._config == bundle.model
    assert not session.overlaps
    calls: list[tuple[str, ...]] = []

    def run(self: BoundRunner, opened: Any, spec: Any, inputs: Any, keep: Any, into: Any) -> Any:
        calls.append(keep)
        return {}

    monkeypatch.setattr(BoundRunner, "run", run)
    monkeypatch.setattr(OnnxRuntimeSession, "_open", lambda self, graph: opened)
    for graph in ("memory_encoder", "mask_decoder"):
        inputs = {
            t.name: np.zeros([1 if isinstance(d, str) else d for d in t.shape], t.dtype)
            for t in bundle.graphs[graph].spec.inputs
        }
        session.run(graph, inputs)
    assert calls == [("memory",), ()]
    session.close()
    assert gpu.allocated == {}


def test_closing_frees_what_every_thread_took(
    gpu: FakeCuda, opened: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(tmp_path / "b")
    monkeypatch.setattr(ort, "BoundRunner", lambda: BoundRunner("cpu"))
    session = OnnxRuntimeSession(Bundle.load(tmp_path / "b"), "cuda")

    def take() -> None:
        runner = session._bound()
        assert runner is not None
        runner.run(opened, SPEC, _inputs(2, 3, False), (), {})

    threads = [threading.Thread(target=take) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(gpu.allocated) > 0
    session.close()
    assert gpu.allocated == {}
    assert gpu.calls.count("cudaStreamDestroy") == 2


def test_engines_are_cached_by_the_graphs_not_the_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_bundle(tmp_path / "a")
    write_bundle(tmp_path / "b")
    a, b = (Bundle.load(tmp_path / name) for name in "ab")
    assert ort._engine_cache(a) == ort._engine_cache(b)
    changed = dict(b.graphs)
    changed["mask_decoder"], changed["mask_prompt"] = (
        b.graphs["mask_prompt"],
        b.graphs["mask_decoder"],
    )
    other = Bundle(**{**vars(b), "graphs": changed})
    assert other.checkpoint_sha256 == a.checkpoint_sha256
    assert ort._engine_cache(other) != ort._engine_cache(a)


def test_providers_get_full_float32_and_a_cache_of_engines(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    write_bundle(tmp_path / "b")
    bundle = Bundle.load(tmp_path / "b")
    cuda_options = ("CUDAExecutionProvider", {"use_tf32": "0"})
    cpu_options: tuple[str, dict[str, str]] = ("CPUExecutionProvider", {})
    assert OnnxRuntimeSession(bundle, "cuda")._providers() == [cuda_options, cpu_options]
    first, *others = OnnxRuntimeSession(bundle, "tensorrt")._providers()
    cache = {
        "trt_engine_cache_enable": "True",
        "trt_engine_cache_path": str(ort._engine_cache(bundle)),
    }
    assert first == ("TensorrtExecutionProvider", cache)
    assert others == [cuda_options, cpu_options]
    # the provider makes no folder in a folder that is not there
    assert ort._engine_cache(bundle).is_dir()
