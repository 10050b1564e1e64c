"""The part of the GPU report about the device layer, on a GPU of host memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2rt.benchmarks.gpu import device as gpu_device
from sam2rt.runtime.gpu import cuda
from sam2rt.runtime.gpu.tensor import Pool
from sam2rt.runtime.pixels import gpu_kernels as gpu_pixels
from sam2rt.runtime.pixels.gpu_kernels import GpuPixels, beside_kernels

pytest.importorskip("cuda.bindings.runtime")

from fake_cuda import FakeCuda
from gpu_interpreter import numpy_kernels


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> GpuPixels:
    fake = FakeCuda()
    monkeypatch.setattr(cuda, "cudart", lambda: fake)
    numpy_kernels(monkeypatch, fake)
    code = {
        name: (b"\x7fELF", {"entry": kernel.entry, "block": 128, "shared": 0})
        for name, kernel in beside_kernels().items()
    }
    monkeypatch.setattr(gpu_pixels, "read_kernels", lambda folder: code)
    return GpuPixels(Path("unused"), cuda.Stream(), Pool())


def test_nothing_differs_where_everything_works(gpu: GpuPixels) -> None:
    assert gpu_device.kernel_differences(gpu) == {
        "video_frame": 0, "image": 0, "image_reference": 0, "masks": 0, "holes": 0,
        "holes_and_specks": 0,
    }  # fmt: skip
    assert gpu_device.graph_differences(gpu._stream, gpu._pool) == 0


def test_a_kernel_that_is_wrong_shows(gpu: GpuPixels, monkeypatch: pytest.MonkeyPatch) -> None:
    masks = GpuPixels.masks

    def wrong(self: GpuPixels, *given: Any) -> Any:
        found = np.asarray(masks(self, *given)).copy()
        found[0, 5, 7:10] ^= True
        return found

    monkeypatch.setattr(GpuPixels, "masks", wrong)
    assert gpu_device.kernel_differences(gpu)["masks"] == 3


def test_a_graph_that_replays_stale_content_shows(
    gpu: GpuPixels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cuda.Graph, "replay", lambda self, stream: None)
    assert gpu_device.graph_differences(gpu._stream, gpu._pool) > 3 << 15
