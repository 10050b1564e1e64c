"""The native TensorRT session on a GPU of host memory, and what it refuses to load."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import BundleError, InputError, SessionError
from sam2rt.configs.graphs import GraphSpec
from sam2rt.runtime import cuda, trt

pytest.importorskip("cuda.bindings.runtime")

from fake_bundle import write_bundle
from fake_cuda import FakeCuda
from fake_tensorrt import MACHINE, Context, Engine, FakeTensorRT, compute, write_engines
from tensorrt_bindings_stub import VERSIONS, declared_api

SUPPORT = Path(__file__).parents[1] / "support"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    write_bundle(tmp_path / "bundle")
    made = Bundle.load(tmp_path / "bundle")
    write_engines(made)
    return made


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch, bundle: Bundle) -> FakeCuda:
    fake = FakeCuda()
    monkeypatch.setattr(cuda, "cudart", lambda: fake)
    fake_trt = FakeTensorRT(bundle, fake)
    monkeypatch.setattr(trt, "tensorrt_module", lambda: fake_trt)
    return fake


def _inputs(spec: GraphSpec, seed: int = 0, **changed: int) -> dict[str, np.ndarray]:
    sizes = {"B": 1, "I": 1, "G": 1, "N": 1, "M": 7, "K": 16, "P": 2, **changed}
    stream = np.random.default_rng(seed)
    inputs = {}
    for t in spec.inputs:
        shape = tuple(sizes[d] if isinstance(d, str) else d for d in t.shape)
        values = stream.integers(0, 2, shape) if t.dtype in ("int32", "int64", "bool") else (
            stream.standard_normal(shape)
        )  # fmt: skip
        inputs[t.name] = values.astype(t.dtype)
    return inputs


def _same(found: dict[str, np.ndarray], expected: dict[str, np.ndarray]) -> None:
    assert set(found) == set(expected)
    for name, value in expected.items():
        np.testing.assert_array_equal(found[name], value)


def test_every_graph_gives_what_its_engine_computes(bundle: Bundle, gpu: FakeCuda) -> None:
    with trt.TensorRTSession(bundle) as session:
        for name, entry in bundle.graphs.items():
            for seed, sizes in enumerate(
                [{}, {"N": 2}, {"N": 2, "I": 2, "G": 2, "M": 1, "K": 0, "P": 0, "B": 2}]
            ):
                inputs = _inputs(entry.spec, seed, **sizes)
                _same(session.run(name, inputs), compute(entry.spec, inputs))
    assert gpu.allocated == {}


def test_fixed_shapes_are_replayed_as_a_graph_with_new_inputs(
    bundle: Bundle, gpu: FakeCuda
) -> None:
    spec = bundle.graphs["memory_attention"].spec
    with trt.TensorRTSession(bundle) as session:
        for seed in range(5):
            inputs = _inputs(spec, seed)
            _same(session.run("memory_attention", inputs), compute(spec, inputs))
        assert gpu.calls.count("cudaGraphInstantiate") == 1
        assert gpu.replays == 4
        for seed in range(3):
            inputs = _inputs(spec, seed, M=3)
            _same(session.run("memory_attention", inputs), compute(spec, inputs))
        assert gpu.calls.count("cudaGraphInstantiate") == 1


def test_results_do_not_change_when_the_next_frame_runs(bundle: Bundle, gpu: FakeCuda) -> None:
    spec = bundle.graphs["mask_decoder"].spec
    with trt.TensorRTSession(bundle) as session:
        first = session.run("mask_decoder", _inputs(spec, 1))
        kept = {name: array.copy() for name, array in first.items()}
        session.run("mask_decoder", _inputs(spec, 2))
        _same(first, kept)


def test_embeddings_stay_on_the_device_until_the_next_frame(
    bundle: Bundle, gpu: FakeCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    uploads: list[int] = []
    copied = cuda.copy

    def copy(destination: int, source: int, nbytes: int, stream: cuda.Stream) -> None:
        uploads.append(source)
        copied(destination, source, nbytes, stream)

    monkeypatch.setattr(cuda, "copy", copy)
    encoder, memory = (bundle.graphs[n].spec for n in ("image_encoder", "memory_encoder"))
    with trt.TensorRTSession(bundle) as session:
        old = session.run("image_encoder", _inputs(encoder, 1))["image_embed"]
        inputs = {**_inputs(memory), "image_embed": old}
        resident = session._worker()._runners["image_encoder"].outputs["image_embed"]
        uploads.clear()
        _same(session.run("memory_encoder", inputs), compute(memory, inputs))
        assert resident.device.pointer in uploads
        session.run("image_encoder", _inputs(encoder, 2))
        uploads.clear()
        # the device holds the next frame now: the host's copy is uploaded again
        _same(session.run("memory_encoder", inputs), compute(memory, inputs))
        assert resident.device.pointer not in uploads
        with pytest.raises(ValueError, match="read-only"):
            old += 1


def test_each_thread_has_its_own_contexts_and_buffers(bundle: Bundle, gpu: FakeCuda) -> None:
    spec = bundle.graphs["memory_encoder"].spec
    results: dict[int, dict[str, np.ndarray]] = {}
    with trt.TensorRTSession(bundle) as session:

        def work(seed: int) -> None:
            for _ in range(3):
                results[seed] = session.run("memory_encoder", _inputs(spec, seed))

        threads = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(session._workers) == 3
    for seed, found in results.items():
        _same(found, compute(spec, _inputs(spec, seed)))


def test_too_many_objects_name_the_option(bundle: Bundle, gpu: FakeCuda) -> None:
    spec = bundle.graphs["memory_encoder"].spec
    session = trt.TensorRTSession(bundle)
    with pytest.raises(InputError, match=r"mask_logits \[3, 1, 64, 64\] \(at most \[2, 1, 64, 64"):
        session.run("memory_encoder", _inputs(spec, N=3))
    _same(session.run("memory_encoder", _inputs(spec)), compute(spec, _inputs(spec)))


def test_a_refused_enqueue_is_an_error_also_during_capture(bundle: Bundle, gpu: FakeCuda) -> None:
    spec = bundle.graphs["memory_encoder"].spec
    session = trt.TensorRTSession(bundle)
    session.run("memory_encoder", _inputs(spec))
    engine, _ = session.engine("memory_encoder")
    engine.refuse = True
    with pytest.raises(SessionError, match="could not be enqueued"):
        session.run("memory_encoder", _inputs(spec))
    assert gpu.capturing == {}
    assert gpu.replays == 0


@pytest.mark.parametrize("device", ["cpu", "cuda:x", "gpu"])
def test_unknown_devices_are_refused(bundle: Bundle, gpu: FakeCuda, device: str) -> None:
    with pytest.raises(InputError, match="expected 'cuda'"):
        trt.TensorRTSession(bundle, device)


def test_missing_engines_name_what_there_is(bundle: Bundle, gpu: FakeCuda) -> None:
    gpu.arch = 80
    with pytest.raises(BundleError, match=r"engines for sm80-trt10\.16\.1\.11 in .*, found sm90-"):
        trt.TensorRTSession(bundle).run(
            "memory_encoder", _inputs(bundle.graphs["memory_encoder"].spec)
        )


@pytest.mark.parametrize("version", VERSIONS)
def test_the_fake_has_only_what_the_bindings_declare(version: str) -> None:
    api = declared_api(version)["api"]
    for fake, name in ((Context, "IExecutionContext"), (Engine, "ICudaEngine")):
        public = {m for m in vars(fake) if not m.startswith("_")}
        assert public <= set(api[name]["members"]), name
    assert {"deserialize_cuda_engine", "engine_host_code_allowed"} <= set(api["Runtime"]["members"])


_REFUSED = """
import sys, os
sys.path.insert(0, {support!r})
from pathlib import Path
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import Sam2rtError
from sam2rt.runtime import cuda, trt
from cuda.bindings import runtime as real
from fake_cuda import FakeCuda
from fake_tensorrt import FakeTensorRT, write_engines
class Crash:
    def __init__(self, logger): os.abort()
try:
    bundle = Bundle.load({path!r})
    folder = write_engines(bundle)
    gpu = FakeCuda()
    fake = FakeTensorRT(bundle, gpu)
    fake.Runtime = Crash
    cuda.cudart = lambda: gpu
    trt.tensorrt_module = lambda: fake
    engine, sidecar = folder / "mask_decoder.engine", folder / "mask_decoder.json"
    named = None
    {scenario}
    trt.TensorRTSession(Bundle.load({path!r}), engines=named).engine("mask_decoder")
except Sam2rtError as error:
    print(type(error).__name__ + ": " + str(error))
"""

_SCENARIOS = {
    "compute capability": (
        "gpu.arch = 80; named = folder.name",
        "SessionError: engine ",
        "expected compute capability 9.0, found 8.0",
    ),
    "gpu": (
        "write_engines(bundle, gpu='NVIDIA H100')",
        "SessionError: engine ",
        "expected GPU NVIDIA H100, found Fake GPU",
    ),
    "tensorrt": (
        "write_engines(bundle, tensorrt='10.15.0.1')",
        "SessionError: engine ",
        "expected TensorRT 10.15.0.1, found 10.16.1.11",
    ),
    "driver": (
        "gpu.driver = 12080",
        "SessionError: engine ",
        "expected a driver for CUDA 13.0, found 12.8",
    ),
    "plugin": (
        "write_engines(bundle, kernels={'sam2rt::Gone': 'ab'})",
        "SessionError: engine ",
        "expected plugin sam2rt::Gone, found none of that name",
    ),
    "old plugin": (
        "write_engines(bundle, kernels={'sam2rt::MemoryCrossAttention': 'ab'})",
        "SessionError: engine ",
        "expected plugin sam2rt::MemoryCrossAttention, found another version",
    ),
    "other export": (
        "write_engines(bundle, onnx='00')",
        "SessionError: engine ",
        "built from another export",
    ),
    "truncated": (
        "engine.write_bytes(engine.read_bytes()[:-2])",
        "BundleError: ",
        "has 17 bytes, its record says 19 (truncated?)",
    ),
    "flipped": (
        "data = bytearray(engine.read_bytes()); data[3] ^= 16; engine.write_bytes(data)",
        "BundleError: ",
        "has sha256 ",
    ),
    "missing": ("engine.unlink()", "BundleError: ", "found none"),
    "edited sidecar": (
        "sidecar.write_text(sidecar.read_text().replace('Fake GPU', 'Best GPU'))",
        "BundleError: ",
        "was edited",
    ),
    "broken sidecar": ("sidecar.write_text('{')", "BundleError: ", "cannot read"),
    "no sidecar": ("sidecar.unlink()", "BundleError: ", "found none"),
    "edited manifest": (
        "m = bundle.path / 'manifest.json'; m.write_text(m.read_text().replace('fp32', 'bf16'))",
        "BundleError: ",
        "manifest.json was edited",
    ),
    "no driver": (
        "gpu.fail['cudaGetDeviceCount'] = real.cudaError_t.cudaErrorInsufficientDriver",
        "SessionError: ",
        "cudaErrorInsufficientDriver (35): install the NVIDIA driver",
    ),
    "too little memory": (
        "gpu.memory = 500",
        "SessionError: ",
        "needs 1019 bytes of GPU memory, 500 are free",
    ),
}


@pytest.mark.parametrize("name", list(_SCENARIOS))
def test_refused_before_any_native_call(tmp_path: Path, name: str) -> None:
    """TensorRT's Runtime aborts the process here: reaching it fails the test."""
    scenario, kind, words = _SCENARIOS[name]
    write_bundle(tmp_path / "b")
    code = _REFUSED.format(support=str(SUPPORT), path=str(tmp_path / "b"), scenario=scenario)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == 1
    assert lines[0].startswith(kind)
    assert words in lines[0]


def test_with_everything_in_order_the_same_script_reaches_the_runtime(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b")
    code = _REFUSED.format(support=str(SUPPORT), path=str(tmp_path / "b"), scenario="pass")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == -6


def test_records_round_trip_through_json(bundle: Bundle) -> None:
    from sam2rt.runtime.engine_sidecar import engine_path, read_record

    path = engine_path(bundle, MACHINE.folder, "memory_attention")
    record = read_record(path)
    assert record.profiles[0]["memory"] == ((1, 7, 16, 16, 16),) * 3
    assert record.driver == (13, 0)
    assert json.loads(path.with_suffix(".json").read_text())["schema"] == 1
