"""The kernels on a GPU, where there is one: against float64, at the sizes of the model."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from triton_kernels import triton_on_path

from sam2rt.plugins import memory_cross_attention as op

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU that torch can use"),
]


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_attention_on_the_gpu(dtype: torch.dtype) -> None:
    triton_on_path()
    from sam2rt.benchmarks.gpu import kernels as gpu_kernels
    from sam2rt.benchmarks.gpu.stage import AWKWARD, STEADY

    major, minor = torch.cuda.get_device_capability()
    launches = op.ATTENTION.candidates(major * 10 + minor)
    kernel, problems = gpu_kernels.attention_kernel(), (*AWKWARD, STEADY[0])
    found = gpu_kernels.attention_errors(kernel, problems, launches, "cuda", dtype)
    assert [f for f in found if not f["passed"]] == []


def test_the_code_of_engines_on_the_gpu(tmp_path: Path) -> None:
    """PTX and machine code without Triton's launcher, and streams that wait for one another."""
    triton_on_path()
    pytest.importorskip("cuda.bindings.runtime")
    from sam2rt.benchmarks.gpu.engine_code import engine_code
    from sam2rt.benchmarks.gpu.stage import gpu_stage

    (*_, found) = engine_code(gpu_stage(tmp_path))
    assert [x for x in found["launches"] if not x.get("passed", True)] == []
    assert set(found["races"].values()) == {0}


def test_pixels_on_the_gpu() -> None:
    triton_on_path()
    from sam2rt.benchmarks.gpu import kernels as gpu_kernels

    assert gpu_kernels.pixel_errors() == {"upsample_mask": 0, "fill_small": 0}
