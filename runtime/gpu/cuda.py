"""The device layer on ``cuda.bindings``: memory, streams, events, graphs, kernels.

Every return code goes through :func:`check`. Nothing here touches the legacy default stream,
whose implicit synchronisation would serialise trackers and refuse graph capture.
"""

from __future__ import annotations

import ctypes
import importlib
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import ModuleType
from typing import Any, Protocol

import numpy as np

from ...configs.closing import Closing
from ...configs.errors import MissingExtraError, SessionError
from ..arrays import Array

_NO_DRIVER = "install the NVIDIA driver (nvidia-smi must list a GPU), or use device='cpu'"
_REMEDIES = {
    "cudaErrorInsufficientDriver": _NO_DRIVER,
    "cudaErrorNoDevice": _NO_DRIVER,
    "cudaErrorInitializationError": _NO_DRIVER,
    "cudaErrorMemoryAllocation": "free GPU memory, track fewer objects, or build smaller profiles",
    "CUDA_ERROR_OUT_OF_MEMORY": "free GPU memory, track fewer objects, or build smaller profiles",
    "cudaErrorStreamCaptureUnsupported": "use a stream of its own, not the legacy default stream",
    "CUDA_ERROR_NO_BINARY_FOR_GPU": "build the engines again on this machine: sam2rt build BUNDLE",
}


def cudart() -> ModuleType:
    """``cuda.bindings.runtime``; MissingExtraError without it."""
    return _bindings("runtime")


def driver() -> ModuleType:
    """``cuda.bindings.driver``; MissingExtraError without it."""
    return _bindings("driver")


def _bindings(name: str) -> ModuleType:
    try:
        return importlib.import_module(f"cuda.bindings.{name}")
    except ImportError:
        raise MissingExtraError("the CUDA device layer", "cuda-python", "tensorrt") from None


def check(result: tuple[Any, ...], doing: str) -> Any:
    """The value of a CUDA call's (status, value...), or SessionError saying what failed.

    None for a call without a value, a tuple for one with several.
    """
    status, *values = result
    if int(status) != 0:
        name = getattr(status, "name", str(status))
        remedy = _REMEDIES.get(name, "see 'sam2rt doctor'")
        raise SessionError(f"CUDA failed while {doing}: {name} ({int(status)}): {remedy}")
    if not values:
        return None
    return values[0] if len(values) == 1 else tuple(values)


@dataclass(frozen=True)
class Device:
    """One GPU. memory: bytes; driver: CUDA version the driver supports, as (major, minor)."""

    index: int
    name: str
    arch: int
    multiprocessors: int
    memory: int
    driver: tuple[int, int]


def device(index: int | None = 0) -> Device:
    """Describe GPU `index` and make it current; SessionError without a driver or GPU.

    None describes the GPU of the calling thread's context and leaves that context in place.
    """
    rt = cudart()
    count = check(rt.cudaGetDeviceCount(), "looking for a GPU")
    if index is None:
        return _described(check(rt.cudaGetDevice(), "asking for the current GPU"))
    if not 0 <= index < count:
        raise SessionError(f"expected GPU {index}, found {count} GPUs: {_NO_DRIVER}")
    select(index)
    return _described(index)


def select(index: int) -> None:
    """Make GPU `index` the calling thread's; costs next to nothing."""
    check(cudart().cudaSetDevice(index), f"selecting GPU {index}")


def _described(index: int) -> Device:
    rt = cudart()
    found = check(rt.cudaGetDeviceProperties(index), "reading the GPU's properties")
    version = check(rt.cudaDriverGetVersion(), "reading the driver's version")
    name = found.name.decode() if isinstance(found.name, bytes) else str(found.name)
    return Device(
        index,
        name.rstrip("\0"),
        found.major * 10 + found.minor,
        found.multiProcessorCount,
        found.totalGlobalMem,
        (version // 1000, version % 1000 // 10),
    )


def free_memory() -> int:
    """Bytes of GPU memory that are free now."""
    free, _ = check(cudart().cudaMemGetInfo(), "asking for free GPU memory")
    return int(free)


def require_memory(needed: int, what: str) -> None:
    """SessionError with the bytes asked for and free when `needed` bytes do not fit."""
    free = free_memory()
    if needed > free:
        raise SessionError(
            f"{what} needs {needed} bytes of GPU memory, {free} are free: "
            f"{_REMEDIES['cudaErrorMemoryAllocation']}"
        )


class WorkCollector(Protocol):
    """Puts work of a stream off, to be enqueued together; see :class:`.graphs.Together`."""

    def put(self, graphs: Any, key: Any, enqueue: Callable[[], None], fixed: bool) -> None: ...

    def flush(self) -> None: ...

    def hold(self, lent: Any) -> None: ...


class _Owned(Closing):
    """Something that must be released once; a context manager."""

    def close(self) -> None:
        raise NotImplementedError


class Stream(_Owned):
    """A CUDA stream, made here or lent by the caller as a handle (an int)."""

    def __init__(self, handle: int | None = None) -> None:
        self._rt = cudart()
        self._own = handle is None
        if handle is None:
            flags = self._rt.cudaStreamNonBlocking
            made = check(self._rt.cudaStreamCreateWithFlags(flags), "making a stream")
            handle = int(made)
        if handle in (0, 1):
            raise SessionError(
                f"stream {handle} is the legacy default stream: give a stream of its own"
            )
        self.handle: int = handle
        #: number of the GPU that is current where the stream is made or lent
        self.device = int(check(self._rt.cudaGetDevice(), "asking for the current GPU"))
        #: the thread that enqueues here
        self.thread = threading.get_ident()
        #: how often that thread waited: what was enqueued before the last time is done
        self.waits = 0
        #: what puts work off just now; whatever else comes to the stream lets it go first
        self.collector: WorkCollector | None = None

    def flush(self) -> None:
        """Enqueue what was put off; what another thread wants was enqueued before."""
        if self.collector is not None and self.thread == threading.get_ident():
            self.collector.flush()

    def synchronize(self) -> None:
        self.flush()
        check(self._rt.cudaStreamSynchronize(self.handle), "waiting for the GPU")
        if self.thread == threading.get_ident():
            self.waits += 1

    def wait(self, event: Event) -> None:
        """Let later work on this stream wait for `event`."""
        self.flush()
        check(self._rt.cudaStreamWaitEvent(self.handle, event.handle, 0), "waiting for an event")

    def close(self) -> None:
        if self._own and self.handle:
            check(self._rt.cudaStreamDestroy(self.handle), "releasing a stream")
            self.handle = 0


class Event(_Owned):
    def __init__(self, *, timing: bool = False) -> None:
        self._rt = cudart()
        flags = 0 if timing else self._rt.cudaEventDisableTiming
        self.handle = int(check(self._rt.cudaEventCreateWithFlags(flags), "making an event"))

    def record(self, stream: Stream) -> None:
        stream.flush()
        check(self._rt.cudaEventRecord(self.handle, stream.handle), "recording an event")

    def milliseconds_since(self, start: Event) -> float:
        """Device time between two recorded events; waits for this one."""
        check(self._rt.cudaEventSynchronize(self.handle), "waiting for an event")
        elapsed = self._rt.cudaEventElapsedTime(start.handle, self.handle)
        return float(check(elapsed, "timing"))

    def close(self) -> None:
        if self.handle:
            check(self._rt.cudaEventDestroy(self.handle), "releasing an event")
            self.handle = 0


class Buffer(_Owned):
    """Device memory of `nbytes` bytes, aligned to 256."""

    def __init__(self, nbytes: int) -> None:
        self._rt = cudart()
        self.nbytes = nbytes
        # zero bytes have no address, and an empty tensor still needs one
        pointer = check(self._rt.cudaMalloc(max(nbytes, 1)), f"taking {nbytes} bytes of memory")
        self.pointer = int(pointer)

    def close(self) -> None:
        if self.pointer:
            check(self._rt.cudaFree(self.pointer), "releasing memory")
            self.pointer = 0


class PinnedArray(_Owned):
    """A host array the GPU copies to and from without an intermediate copy."""

    def __init__(self, shape: Sequence[int], dtype: Any) -> None:
        self._rt = cudart()
        kind = np.dtype(dtype)
        count = int(np.prod(shape, dtype=np.int64))
        taken = self._rt.cudaHostAlloc(max(count * kind.itemsize, 1), 0)
        self._pointer = int(check(taken, "taking pinned memory"))
        raw = (ctypes.c_char * (count * kind.itemsize)).from_address(self._pointer)
        #: where the array begins; asking numpy for it takes longer
        self.address = self._pointer
        self.array: Array = np.frombuffer(memoryview(raw).cast("B"), kind).reshape(tuple(shape))

    def close(self) -> None:
        if self._pointer:
            self.array = np.empty(0)
            check(self._rt.cudaFreeHost(self._pointer), "releasing pinned memory")
            self._pointer = 0


class Staging(_Owned):
    """Pinned memory that the host fills and a copy on a stream empties, by turns."""

    def __init__(self, shape: Sequence[int], dtype: Any, stream: Stream) -> None:
        self._pinned, self._stream = PinnedArray(shape, dtype), stream
        self._waits = -1

    @property
    def free(self) -> bool:
        """Whether no copy may still read what was put in last."""
        return self._waits != self._stream.waits

    def fill(self, array: Array) -> int:
        """Put `array` in and give its address; waits where an earlier copy may still read."""
        if not self.free:
            self._stream.synchronize()
        self._waits = self._stream.waits
        self._pinned.array[...] = array
        return self._pinned.address

    def close(self) -> None:
        self._pinned.close()


def copy(destination: int, source: int, nbytes: int, stream: Stream) -> None:
    """Copy between any two addresses, host or device, in stream order."""
    rt = cudart()
    kind = rt.cudaMemcpyKind.cudaMemcpyDefault
    stream.flush()
    if nbytes:
        done = rt.cudaMemcpyAsync(destination, source, nbytes, kind, stream.handle)
        check(done, f"copying {nbytes} bytes")


class Graph(_Owned):
    """What a function enqueued on a stream, recorded once and replayed as one launch."""

    def __init__(self, stream: Stream, enqueue: Callable[[], None]) -> None:
        """Record `enqueue`; run it once before, so that nothing is set up during capture.

        An error inside ends the capture and is raised: a graph of half the work would replay
        stale buffers.
        """
        self._rt = rt = cudart()
        mode = rt.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        check(rt.cudaStreamBeginCapture(stream.handle, mode), "starting a graph capture")
        try:
            enqueue()
        except BaseException:
            rt.cudaStreamEndCapture(stream.handle)
            raise
        graph = check(rt.cudaStreamEndCapture(stream.handle), "ending a graph capture")
        self._handle = check(rt.cudaGraphInstantiate(graph, 0), "making a graph")
        check(rt.cudaGraphDestroy(graph), "releasing a captured graph")

    def replay(self, stream: Stream) -> None:
        check(self._rt.cudaGraphLaunch(self._handle, stream.handle), "replaying a graph")

    def close(self) -> None:
        if self._handle is not None:
            check(self._rt.cudaGraphExecDestroy(self._handle), "releasing a graph")
            self._handle = None


@dataclass(frozen=True)
class Address:
    """A device address, told apart from an integer argument of a kernel."""

    value: int


class LoadedKernel(_Owned):
    """One kernel of a cubin or PTX image.

    block: threads per block; shared: bytes of dynamic shared memory.
    """

    def __init__(self, image: bytes, name: str, block: int, shared: int) -> None:
        self._cu = cu = driver()
        self._image, self._block, self._shared = image, block, shared
        self._module = check(cu.cuModuleLoadData(image), f"loading the kernel {name}")
        found = cu.cuModuleGetFunction(self._module, name.encode())
        self._function = check(found, f"looking for the kernel {name}")
        if shared > 48 << 10:
            limit = cu.CUfunction_attribute.CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES
            set_limit = cu.cuFuncSetAttribute(self._function, limit, shared)
            check(set_limit, f"asking {shared} bytes of shared memory for {name}")

    def launch(
        self, grid: Sequence[int], stream: Stream, *arguments: int | float | Address
    ) -> None:
        """Enqueue on `stream`; integers and floats are passed as 32 bits."""
        stream.flush()
        values: list[Any] = []
        types: list[Any] = []
        for value in arguments:
            if isinstance(value, Address):
                values.append(value.value)
                types.append(ctypes.c_void_p)
            else:
                values.append(value)
                types.append(ctypes.c_float if isinstance(value, float) else ctypes.c_int)
        blocks, threads = (*grid, 1, 1)[:3], (self._block, 1, 1)
        given = (tuple(values), tuple(types))
        launched = self._cu.cuLaunchKernel(
            self._function, *blocks, *threads, self._shared, stream.handle, given, 0
        )
        check(launched, "launching a kernel")

    def close(self) -> None:
        if self._module is not None:
            check(self._cu.cuModuleUnload(self._module), "releasing a kernel")
            self._module = None
