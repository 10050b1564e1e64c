"""What a command's process changes before it begins: doubles, and where servers are."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Literal

sys.path.insert(0, str(Path(__file__).parent / "gpu"))


def official_checkpoint(url: str, size: int, sha256: str) -> None:
    """The official checkpoint of the smallest model lies elsewhere."""
    from sam2rt.export.checkpoint import official
    from sam2rt.export.checkpoint.transfer import Remote

    official.OFFICIAL["sam2.1_hiera_tiny"] = Remote(url, size, sha256)


def accuracy_of_two_precisions() -> None:
    """The page of accuracy has rows of fp32 and fp16 alone, each of which takes seconds."""
    from sam2rt.benchmarks.evaluation import accuracy_runs

    accuracy_runs.Precision = Literal["fp32", "fp16"]  # type: ignore[misc]
    accuracy_runs._on_units = lambda *_: []


def tensorrt_double(folder: str) -> None:
    """TensorRT and CUDA by their doubles; engines of any graph are equal to the reference."""
    from fake_cuda import FakeCuda
    from fake_tensorrt import FakeTensorRT

    from sam2rt.configs.bundle import Bundle
    from sam2rt.export.engines import attention, build, job
    from sam2rt.runtime.backends import tensorrt_session
    from sam2rt.runtime.gpu import cuda

    gpu = FakeCuda()
    module = FakeTensorRT(Bundle.load(folder), gpu)

    def engine(trt: Any, model: bytes, path: Path, *_: Any) -> bytes:
        return f"engine:{path.stem.partition('.')[0]}".encode()

    def proved(*_: Any) -> dict[str, Any]:
        return {"status": "passed", "clip": {"lowest_iou": 1.0}}

    cuda.cudart = lambda: gpu
    tensorrt_session.tensorrt_module = build.tensorrt_module = lambda: module
    build.bundle_record = lambda bundle: None
    job.engine_from_onnx = engine
    job.BuildJob._register = lambda job: None
    build.triton_present = attention.triton_present = lambda: False
    job.prove_session = attention.prove_session = proved
