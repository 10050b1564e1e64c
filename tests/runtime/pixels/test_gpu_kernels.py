"""Launches of the pixel kernels: what they are given, run by the interpreter in place of a GPU."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from sam2rt.configs.errors import BundleError, FrameError, InputError
from sam2rt.runtime.gpu import cuda
from sam2rt.runtime.gpu.tensor import DeviceTensor, Pool
from sam2rt.runtime.pixels import components
from sam2rt.runtime.pixels import frame_tensor as pixels
from sam2rt.runtime.pixels.frame_input import FrameInput
from sam2rt.runtime.pixels.gpu_kernels import GpuPixels, beside_kernels, read_kernels, write_kernels
from sam2rt.runtime.session import Session

pytest.importorskip("cuda.bindings.runtime")

from fake_cuda import FakeCuda
from gpu_interpreter import foreign, interpreted_kernels
from triton_kernels import triton_on_path

from sam2rt.runtime.pixels import upsample


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    triton_on_path()
    path = tmp_path_factory.mktemp("engines")
    write_kernels(path, 90)
    return path


@pytest.fixture
def gpu(folder: Path, monkeypatch: pytest.MonkeyPatch) -> GpuPixels:
    fake = FakeCuda()
    monkeypatch.setattr(cuda, "cudart", lambda: fake)
    interpreted_kernels(monkeypatch, fake)
    return GpuPixels(folder, cuda.Stream(), Pool())


@pytest.mark.parametrize(("height", "width"), [(20, 33), (48, 64), (32, 32)])
def test_frames_become_the_cpu_paths_input(gpu: GpuPixels, height: int, width: int) -> None:
    frame = np.random.default_rng(1).integers(0, 256, (height, width, 3), dtype=np.uint8)
    found = np.asarray(gpu.frame_tensor(frame, 32))
    np.testing.assert_array_equal(found[0], pixels.video_frame_tensor(frame, 32))


@pytest.mark.parametrize("sizes", [[(20, 33)], [(48, 64), (31, 16)], [(32, 32)]])
def test_images_become_the_cpu_paths_input(gpu: GpuPixels, sizes: list[tuple[int, int]]) -> None:
    stream = np.random.default_rng(3)
    images = [stream.integers(0, 256, (*size, 3), dtype=np.uint8) for size in sizes]
    found = np.asarray(gpu.image_tensors(images, 32))
    expected = np.stack([pixels.image_tensor(image, 32) for image in images])
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize(("holes", "specks"), [(4, 0), (0, 3), (5, 7)])
@pytest.mark.parametrize("threshold", [0.0, 0.3])
def test_images_masks_are_cleaned_as_on_the_cpu(
    gpu: GpuPixels, holes: int, specks: int, threshold: float
) -> None:
    logits = np.random.default_rng(6).standard_normal((2, 2, 9, 12)).astype(np.float32)
    # on the threshold is background
    logits[:, :, ::3, ::4] = threshold
    expected = components.clean_mask(logits, threshold, holes, specks)
    found = np.asarray(gpu.clean(logits, threshold, holes, specks))
    np.testing.assert_array_equal(found, expected)


def test_masks_and_holes_are_the_cpu_paths(gpu: GpuPixels) -> None:
    logits = np.random.default_rng(2).standard_normal((2, 12, 15)).astype(np.float32)
    filled = gpu.fill_holes(logits, 5)
    expected = components.fill_holes(logits, 5)
    np.testing.assert_array_equal(np.asarray(filled), expected)
    # from one kernel to the next without leaving the device
    masks = gpu.masks(filled, (30, 41), 0.25)
    np.testing.assert_array_equal(
        np.asarray(masks), upsample.upsample_mask(expected, (30, 41), 0.25)
    )


@pytest.mark.parametrize("area", [1e12, float("inf")])
def test_areas_beyond_32_bits_mean_every_component(gpu: GpuPixels, area: float) -> None:
    logits = np.random.default_rng(3).standard_normal((1, 9, 12)).astype(np.float32)
    found = np.asarray(gpu.clean(logits, 0.0, area, 0))
    np.testing.assert_array_equal(found, np.where(logits <= 0, np.float32(10), logits))


def test_results_name_the_stream_that_writes_them(gpu: GpuPixels) -> None:
    """Kernels may still run: a consumer of the interface has to wait for their stream."""
    made = gpu.frame_tensor(np.zeros((8, 9, 3), np.uint8), 32)
    assert made.__cuda_array_interface__["stream"] == gpu._stream.handle != 0
    gpu._stream.close()
    # 0 is no stream in the interface
    assert made.__cuda_array_interface__["stream"] is None


def test_wrong_arrays_are_refused(gpu: GpuPixels) -> None:
    with pytest.raises(FrameError, match=r"uint8 \[H, W, 3\], got float32 \[4, 4, 3\]"):
        gpu.frame_tensor(np.zeros((4, 4, 3), np.float32), 32)
    with pytest.raises(InputError, match=r"float32 logits \[\.\.\., h, w\], got float64 \[4, 4\]"):
        gpu.masks(np.zeros((4, 4)), (8, 8))


class _OnGpu:
    """A frame of another library; this GPU's memory is the host's."""

    def __init__(self, array: np.ndarray) -> None:
        self._array = array
        foreign[array.ctypes.data] = array.nbytes
        self.__cuda_array_interface__ = {
            "version": 3, "shape": array.shape, "typestr": array.dtype.str, "strides": None,
            "data": (array.ctypes.data, False), "stream": None,
        }  # fmt: skip


class _PixelSession(Session):
    """Nothing but kernels for pixels, or none."""

    def __init__(self, kernels: GpuPixels | None) -> None:
        self._kernels = kernels

    def run(self, graph: str, inputs: Any, into: Any = None) -> Any:
        raise NotImplementedError

    def pixels(self) -> GpuPixels | None:
        return self._kernels


def test_frames_on_host_and_gpu_go_through_the_sessions_kernels(gpu: GpuPixels) -> None:
    frame = np.random.default_rng(4).integers(0, 256, (24, 40, 3), dtype=np.uint8)
    source = FrameInput(_PixelSession(gpu), 32)
    for given in (frame, _OnGpu(frame)):
        checked, size = source.checked(given)
        tensor = source.tensor(checked)
        assert (size, tensor.shape, tensor[None].shape) == ((24, 40), (3, 32, 32), (1, 3, 32, 32))
        assert isinstance(tensor[None], DeviceTensor)
        expected = pixels.video_frame_tensor(frame, 32)
        np.testing.assert_array_equal(np.asarray(tensor), expected)
    for wrong in (frame.astype(np.float32), frame[..., 0].copy(), frame[:0].copy()):
        with pytest.raises(FrameError):
            source.checked(_OnGpu(wrong) if wrong.size else wrong)


def test_a_session_without_kernels_takes_host_frames_alone() -> None:
    frame = np.random.default_rng(5).integers(0, 256, (8, 9, 3), dtype=np.uint8)
    source = FrameInput(_PixelSession(None), 32)
    checked, size = source.checked(frame)
    expected = pixels.video_frame_tensor(frame, 32)
    np.testing.assert_array_equal(source.tensor(checked), expected)
    assert size == (8, 9)
    with pytest.raises(FrameError, match="takes frames in host memory alone"):
        source.checked(_OnGpu(frame))


def test_changed_missing_or_old_kernels_are_refused(folder: Path, tmp_path: Path) -> None:
    import shutil

    assert set(read_kernels(folder)) == set(beside_kernels())
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    cubin, index = copy / "kernels" / "fill_small.cubin", copy / "kernels" / "kernels.json"
    data = cubin.read_bytes()
    cubin.write_bytes(data[:-1])
    with pytest.raises(BundleError, match="was changed or truncated"):
        read_kernels(copy)
    cubin.unlink()
    with pytest.raises(BundleError, match="expected the kernel"):
        read_kernels(copy)
    cubin.write_bytes(data)
    index.write_text(index.read_text().replace('"source": "', '"source": "0'))
    with pytest.raises(BundleError, match="another version of sam2rt"):
        read_kernels(copy)
    index.write_text("{")
    with pytest.raises(BundleError, match=r"cannot read .*kernels\.json"):
        read_kernels(copy)
