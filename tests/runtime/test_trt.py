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
from sam2rt.runtime.gpu_tensor import DeviceTensor
from sam2rt.runtime.session import check_inputs
from sam2rt.runtime.stream import StreamTracker

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


def test_embeddings_stay_on_the_device(bundle: Bundle, gpu: FakeCuda) -> None:
    encoder, memory = (bundle.graphs[n].spec for n in ("image_encoder", "memory_encoder"))
    with trt.TensorRTSession(bundle) as session:
        images = _inputs(encoder, 1)
        expected = compute(encoder, images)["image_embed"]
        embed = session.run("image_encoder", images)["image_embed"]
        assert isinstance(embed, DeviceTensor)
        inputs = _inputs(memory)
        uploads = gpu.calls.count("cudaMemcpyAsync")
        found = session.run("memory_encoder", {**inputs, "image_embed": embed})
        _same(found, compute(memory, {**inputs, "image_embed": expected}))
        # four inputs in, one output aside, and the download that the comparison asked for
        assert gpu.calls.count("cudaMemcpyAsync") - uploads == 6
        # another frame does not change what is still looked at
        session.run("image_encoder", _inputs(encoder, 2))
        np.testing.assert_array_equal(np.asarray(embed), expected)
        with pytest.raises(ValueError, match="read-only"):
            np.asarray(embed)[...] = 0


def test_device_memory_comes_back_when_nobody_looks(bundle: Bundle, gpu: FakeCuda) -> None:
    encoder = bundle.graphs["image_encoder"].spec
    with trt.TensorRTSession(bundle) as session:
        for seed in range(3):
            session.run("image_encoder", _inputs(encoder, seed))
        taken = len(gpu.allocated)
        for seed in range(10):
            session.run("image_encoder", _inputs(encoder, seed))
        assert len(gpu.allocated) == taken


def test_arrays_of_other_libraries_are_taken_from_the_gpu(bundle: Bundle, gpu: FakeCuda) -> None:
    spec = bundle.graphs["image_encoder"].spec
    inputs = _inputs(spec)
    image = inputs["image"]

    class Foreign:
        __cuda_array_interface__ = {  # noqa: RUF012
            "version": 3, "shape": image.shape, "typestr": "<f4", "strides": None,
            "data": (image.ctypes.data, False), "stream": 4242,
        }  # fmt: skip

    with trt.TensorRTSession(bundle) as session:
        found = session.run("image_encoder", {"image": Foreign()})
        _same(found, compute(spec, inputs))
        # our stream waits for the one the frame was made on
        assert "cudaStreamWaitEvent" in gpu.calls
        given = found["prompt_embed"].__cuda_array_interface__
        assert (given["shape"], given["typestr"]) == ((1, 64, 16, 16), "<f4")
        assert found["prompt_embed"].__dlpack_device__() == (2, 0)


def test_the_callers_stream_is_used_by_one_thread_and_left_alone(
    bundle: Bundle, gpu: FakeCuda
) -> None:
    spec = bundle.graphs["memory_encoder"].spec
    errors: list[Exception] = []

    def other() -> None:
        try:
            session.run("memory_encoder", _inputs(spec))
        except SessionError as error:
            errors.append(error)

    with trt.TensorRTSession(bundle, stream=777) as session:
        for seed in range(3):
            _same(session.run("memory_encoder", _inputs(spec, seed)),
                  compute(spec, _inputs(spec, seed)))  # fmt: skip
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    assert "belongs to one thread" in str(errors[0])
    assert "cudaStreamCreateWithFlags" not in gpu.calls
    assert "cudaStreamDestroy" not in gpu.calls
    # selecting a GPU would leave the context the caller's stream belongs to
    assert "cudaSetDevice" not in gpu.calls


class _HostSession:
    """The same arithmetic with host arrays throughout, as the CPU backend has it."""

    def __init__(self, bundle: Bundle) -> None:
        self.bundle = bundle

    def run(self, graph: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        spec = self.bundle.graphs[graph].spec
        return compute(spec, check_inputs(spec, inputs))

    def close(self) -> None:
        pass

    def __enter__(self) -> _HostSession:
        return self

    def __exit__(self, *_: object) -> None:
        pass


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

    expected = track(_HostSession(bundle))
    with trt.TensorRTSession(bundle) as session:
        found = track(session)
    assert [a.shape for a in found] == [a.shape for a in expected]
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


def test_more_objects_than_the_engine_takes_are_split(bundle: Bundle, gpu: FakeCuda) -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 48, 64, 3), dtype=np.uint8)

    def track(session: object, per_call: int) -> list[np.ndarray]:
        options = {"fill_hole_area": 0, "objects_per_call": per_call}
        with StreamTracker(bundle, session=session, **options) as tracker:
            for obj_id in range(5):
                tracker.add_points(obj_id=obj_id, points=[[10 + obj_id, 10]], labels=[1])
            return [tracker.step(frame).logits for frame in frames]

    expected = track(_HostSession(bundle), 2)
    with trt.TensorRTSession(bundle) as session:
        assert session.max_objects == 2
        found = track(session, 16)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_array_equal(a, b)


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
from sam2rt.runtime.gpu_tensor import DeviceTensor
from sam2rt.runtime.session import check_inputs
from sam2rt.runtime.stream import StreamTracker
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
