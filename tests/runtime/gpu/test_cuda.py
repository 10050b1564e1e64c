"""The device layer, on host memory and against the real package's names."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from sam2rt.configs.errors import InputError, SessionError
from sam2rt.runtime.gpu import cuda
from sam2rt.runtime.gpu import interop as gpu_arrays
from sam2rt.runtime.gpu.interop import DeviceView, device_view, view_of_capsule

pytest.importorskip("cuda.bindings.runtime")

from cuda.bindings import driver as real_driver
from cuda.bindings import runtime as real_runtime
from fake_cuda import FakeCuda


@pytest.fixture
def fake(monkeypatch: pytest.MonkeyPatch) -> FakeCuda:
    made = FakeCuda()
    monkeypatch.setattr(cuda, "cudart", lambda: made)
    return made


def test_every_cuda_name_in_our_source_exists() -> None:
    text = Path(cuda.__file__).read_text()
    used = set(re.findall(r"\b_?rt\.(\w+)", text))
    assert {"cudaMalloc", "cudaGraphLaunch", "cudaMemcpyKind"} <= used
    assert [name for name in used if not hasattr(real_runtime, name)] == []
    used = set(re.findall(r"\b_?cu\.(\w+)", text))
    assert "cuLaunchKernel" in used
    assert [name for name in used if not hasattr(real_driver, name)] == []
    kinds = set(re.findall(r"\bcudaMemcpyKind\.(\w+)", text))
    assert kinds <= set(real_runtime.cudaMemcpyKind.__members__)
    limits = set(re.findall(r"CUfunction_attribute\.(\w+)", text))
    assert limits <= set(real_driver.CUfunction_attribute.__members__)
    named = set(re.findall(r'"(cudaError\w+)"', text))
    assert named <= set(real_runtime.cudaError_t.__members__)


def test_without_a_driver_the_error_says_what_to_install() -> None:
    if real_runtime.cudaGetDeviceCount()[0] == real_runtime.cudaError_t.cudaSuccess:
        pytest.skip("this machine has a GPU")
    with pytest.raises(SessionError, match=r"cudaError\w+ \(\d+\): install the NVIDIA driver"):
        cuda.device()


def test_without_the_package_the_error_names_the_extra(tmp_path: Path) -> None:
    code = (
        "import sys; sys.modules['cuda.bindings'] = None\n"
        "from sam2rt.runtime.gpu import cuda\n"
        "try: cuda.device()\n"
        "except Exception as e: print(type(e).__name__, e)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == (
        "MissingExtraError the CUDA device layer needs the package 'cuda-python': "
        "pip install 'sam2rt[tensorrt]'\n"
    )


def test_check_names_the_call_and_the_remedy() -> None:
    failed = (real_runtime.cudaError_t.cudaErrorMemoryAllocation, None)
    with pytest.raises(SessionError) as caught:
        cuda.check(failed, "taking 5 bytes of memory")
    assert str(caught.value) == (
        "CUDA failed while taking 5 bytes of memory: cudaErrorMemoryAllocation (2): "
        "free GPU memory, track fewer objects, or build smaller profiles"
    )
    ok = real_runtime.cudaError_t.cudaSuccess
    assert cuda.check((ok,), "x") is None
    assert cuda.check((ok, 3), "x") == 3
    assert cuda.check((ok, 3, 4), "x") == (3, 4)


def test_device_is_described(fake: FakeCuda) -> None:
    found = cuda.device()
    assert (found.name, found.arch, found.multiprocessors, found.driver) == (
        "Fake GPU", 90, 132, (13, 0),
    )  # fmt: skip
    with pytest.raises(SessionError, match="expected GPU 3, found 1"):
        cuda.device(3)


def test_copies_round_trip_and_memory_is_released_once(fake: FakeCuda) -> None:
    data = np.arange(12, dtype=np.float32)
    with cuda.Stream() as stream, cuda.Buffer(data.nbytes) as buffer:
        out = cuda.PinnedArray((3, 4), "float32")
        cuda.copy(buffer.pointer, data.ctypes.data, data.nbytes, stream)
        cuda.copy(out.array.ctypes.data, buffer.pointer, data.nbytes, stream)
        stream.synchronize()
        np.testing.assert_array_equal(out.array.ravel(), data)
        out.close()
        out.close()
    buffer.close()
    stream.close()
    assert fake.allocated == {}
    assert fake.calls.count("cudaStreamDestroy") == 1


def test_too_little_memory_says_bytes_asked_and_free(fake: FakeCuda) -> None:
    fake.memory = 1000
    with pytest.raises(SessionError, match="the ring needs 2000 bytes of GPU memory, 1000 are"):
        cuda.require_memory(2000, "the ring")
    cuda.require_memory(1000, "the ring")


@pytest.mark.parametrize("handle", [0, 1])
def test_the_legacy_default_stream_is_refused(fake: FakeCuda, handle: int) -> None:
    with pytest.raises(SessionError, match="give a stream of its own"):
        cuda.Stream(handle)


def test_a_lent_stream_is_not_destroyed(fake: FakeCuda) -> None:
    cuda.Stream(77).close()
    assert "cudaStreamDestroy" not in fake.calls


def test_graph_replays_with_new_content_and_records_only(fake: FakeCuda) -> None:
    source, target = np.ones(4, np.float32), np.zeros(4, np.float32)
    stream = cuda.Stream()
    graph = cuda.Graph(
        stream, lambda: cuda.copy(target.ctypes.data, source.ctypes.data, 16, stream)
    )
    assert target.sum() == 0
    source[:] = 3
    graph.replay(stream)
    assert target.tolist() == [3, 3, 3, 3]
    graph.close()
    assert fake.calls[-1] == "cudaGraphExecDestroy"


def test_a_failed_capture_is_ended_and_raised(fake: FakeCuda) -> None:
    stream = cuda.Stream()

    def refuse() -> None:
        raise SessionError("enqueue refused")

    with pytest.raises(SessionError, match="enqueue refused"):
        cuda.Graph(stream, refuse)
    assert fake.capturing == {}
    assert "cudaGraphInstantiate" not in fake.calls


class _Interface:
    def __init__(self, **fields: object) -> None:
        base = {"version": 3, "shape": (2, 3), "typestr": "<f4", "data": (4096, False)}
        self.__cuda_array_interface__ = {**base, **fields}


def test_cuda_array_interface_is_read() -> None:
    array = _Interface(stream=55)
    view = device_view(array)
    assert (view.pointer, view.shape, view.dtype, view.stream) == (4096, (2, 3), "float32", 55)
    assert (view.nbytes, view.owner) == (24, array)
    assert device_view(_Interface(strides=(12, 4))).shape == (2, 3)
    assert device_view(_Interface(stream=1)).stream is None
    with pytest.raises(InputError, match=r"strides \(1, 2\) \(in elements\): make it contiguous"):
        device_view(_Interface(strides=(4, 8)))


class _Both(_Interface):
    """What torch gives: an interface without a stream, and DLPack that can wait for one."""

    def __init__(self, tensor: torch.Tensor, **fields: object) -> None:
        data = (tensor.data_ptr(), False)
        super().__init__(data=data, shape=tuple(tensor.shape), **fields)
        self.tensor, self.streams = tensor, []

    def __dlpack_device__(self) -> tuple[int, int]:
        return (gpu_arrays.CUDA, 0)

    def __dlpack__(self, stream: int | None = None) -> object:
        self.streams.append(stream)
        return self.tensor.__dlpack__()


def test_a_producer_is_asked_to_wait_when_its_interface_names_no_stream() -> None:
    tensor = torch.zeros(2, 3)
    array = _Both(tensor)
    view = device_view(array, 99)
    assert (view.pointer, view.shape, array.streams) == (tensor.data_ptr(), (2, 3), [99])
    # without a consumer's stream, or with a stream of its own, the interface is enough
    assert device_view(array).pointer == tensor.data_ptr()
    named = _Both(tensor, stream=55)
    assert device_view(named, 99).stream == 55
    assert (array.streams, named.streams) == ([99], [])
    # CuPy names its default stream, which is no handle to wait for
    default = _Both(tensor, stream=1)
    assert device_view(default, 99).pointer == tensor.data_ptr()
    assert default.streams == [99]


def test_host_arrays_are_not_taken_for_device_arrays() -> None:
    assert not gpu_arrays.is_device_array(np.zeros(3))
    assert not gpu_arrays.is_device_array(torch.zeros(3))
    assert gpu_arrays.is_device_array(_Interface())
    with pytest.raises(InputError, match="expected a GPU array"):
        device_view(np.zeros(3))


def test_interface_we_give_is_read_back() -> None:
    view = DeviceView(8192, (4, 5), "bool", stream=9)
    again = device_view(view)
    assert (again.pointer, again.shape, again.dtype, again.stream) == (8192, (4, 5), "bool", 9)


@pytest.mark.parametrize("dtype", ["float32", "uint8", "int64", "bool", "float16"])
def test_dlpack_capsules_of_numpy_and_torch_are_read(dtype: str) -> None:
    array = np.arange(6).reshape(2, 3).astype(dtype)
    for library in (array, torch.from_numpy(array.copy())):
        view = view_of_capsule(library.__dlpack__(), library)
        raw = (np.ctypeslib.ctypes.c_char * view.nbytes).from_address(view.pointer)
        got = np.frombuffer(raw, view.dtype).reshape(view.shape)
        np.testing.assert_array_equal(got, array)


def test_dlpack_capsules_we_give_are_read_by_torch_and_released() -> None:
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    view = DeviceView(array.ctypes.data, array.shape, "float32", array)
    before = len(gpu_arrays._handed_out)
    tensor = torch.from_dlpack(gpu_arrays.capsule_of(view, gpu_arrays.CPU, 0))
    assert len(gpu_arrays._handed_out) == before + 1
    array += 1
    np.testing.assert_array_equal(tensor.numpy(), array)
    del tensor
    assert len(gpu_arrays._handed_out) == before


def test_a_used_or_strided_capsule_is_refused() -> None:
    capsule = np.zeros(3).__dlpack__()
    view_of_capsule(capsule)
    with pytest.raises(InputError, match="fresh DLPack capsule"):
        view_of_capsule(capsule)
    with pytest.raises(InputError, match="make it contiguous"):
        view_of_capsule(torch.zeros(4, 6)[:, ::2].__dlpack__())
