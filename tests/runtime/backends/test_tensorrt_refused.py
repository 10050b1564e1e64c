"""What the TensorRT session refuses to load, before any native call that could crash."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from sam2rt.configs.bundle import Bundle

pytest.importorskip("cuda.bindings.runtime")

from fake_bundle import write_bundle
from fake_tensorrt import MACHINE
from trt_session import bundle_with_engines

SUPPORT = Path(__file__).parents[2] / "support" / "gpu"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    return bundle_with_engines(tmp_path)


_REFUSED = """
import sys, os
sys.path[:0] = [{support!r}, {support!r} + "/.."]
from pathlib import Path
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import Sam2rtError
from sam2rt.runtime.gpu import cuda
from sam2rt.runtime.backends import tensorrt_session as trt
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
    engine, record = folder / "mask_decoder.engine", folder / "mask_decoder.json"
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
    "edited record": (
        "record.write_text(record.read_text().replace('Fake GPU', 'Best GPU'))",
        "BundleError: ",
        "was edited",
    ),
    "broken record": ("record.write_text('{')", "BundleError: ", "cannot read"),
    "no record": ("record.unlink()", "BundleError: ", "found none"),
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
    from sam2rt.runtime.backends.engine_record import engine_path, read_record

    path = engine_path(bundle, MACHINE.folder, "memory_attention")
    record = read_record(path)
    assert record.profiles[0]["memory"] == ((1, 7, 16, 16, 16),) * 3
    assert record.driver == (13, 0)
    assert json.loads(path.with_suffix(".json").read_text())["schema"] == 1
