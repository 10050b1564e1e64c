"""A GPU made of host memory: the calls of ``cuda.bindings.runtime`` that our device layer uses.

Device pointers are host addresses, work runs when it is enqueued, and a graph capture records
instead of running, so wrong orders, missing copies and stale graphs give wrong numbers. Names,
enumerations and flags are the real package's.
"""

from __future__ import annotations

import ctypes
import threading
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from cuda.bindings import runtime as real

OK = real.cudaError_t.cudaSuccess


class FakeCuda:
    """Stands in for the module ``cuda.bindings.runtime``; `calls` lists what was called."""

    def __init__(self, *, memory: int = 1 << 34, arch: int = 90, driver: int = 13000) -> None:
        self.memory, self.arch, self.driver = memory, arch, driver
        self.calls: list[str] = []
        self.allocated: dict[int, Any] = {}
        self.capturing: dict[int, list[Callable[[], None]]] = {}
        self.replays = 0
        self.gpus = 1
        self._thread = threading.local()
        #: bytes that copies moved, once somebody asks: "up" to the device, "down", "across"
        self.moved: Counter[str] | None = None
        self._pinned: set[int] = set()
        #: GPU of each allocation ever made
        self.places: list[int] = []
        self.fail: dict[str, Any] = {}
        self._next = 1000

    def __getattr__(self, name: str) -> Any:
        return getattr(real, name)

    def _enter(self, name: str) -> Any:
        assert hasattr(real, name), f"cuda.bindings.runtime has no {name}"
        self.calls.append(name)
        return self.fail.get(name, OK)

    def _handle(self) -> int:
        self._next += 1
        return self._next

    def enqueue(self, stream: int, work: Callable[[], None]) -> None:
        if stream in self.capturing:
            self.capturing[stream].append(work)
        else:
            work()

    def cudaGetDeviceCount(self) -> tuple[Any, ...]:
        return self._enter("cudaGetDeviceCount"), self.gpus

    def cudaGetDevice(self) -> tuple[Any, ...]:
        return self._enter("cudaGetDevice"), getattr(self._thread, "gpu", 0)

    def cudaSetDevice(self, index: int) -> tuple[Any, ...]:
        self._thread.gpu = index
        return (self._enter("cudaSetDevice"),)

    def cudaGetDeviceProperties(self, index: int) -> tuple[Any, ...]:
        found = SimpleNamespace(
            name=b"Fake GPU", major=self.arch // 10, minor=self.arch % 10,
            multiProcessorCount=132, totalGlobalMem=self.memory,
        )  # fmt: skip
        return self._enter("cudaGetDeviceProperties"), found

    def cudaDriverGetVersion(self) -> tuple[Any, ...]:
        return self._enter("cudaDriverGetVersion"), self.driver

    def cudaMemGetInfo(self) -> tuple[Any, ...]:
        used = sum(size for _, size in self.allocated.values())
        return self._enter("cudaMemGetInfo"), self.memory - used, self.memory

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:
        status = self._enter("cudaMalloc")
        self.places.append(getattr(self._thread, "gpu", 0))
        block = (ctypes.c_char * (size + 256))()
        ctypes.memset(block, 0xEE, size + 256)
        # as aligned as the real thing
        address = -(-ctypes.addressof(block) // 256) * 256
        self.allocated[address] = block, size
        return status, address

    def cudaFree(self, pointer: int) -> tuple[Any, ...]:
        del self.allocated[pointer]
        return (self._enter("cudaFree"),)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]:
        taken = self.cudaMalloc(size)[1]
        self._pinned.add(taken)
        return self._enter("cudaHostAlloc"), taken

    def cudaFreeHost(self, pointer: int) -> tuple[Any, ...]:
        self._pinned.discard(pointer)
        return (self._enter("cudaFreeHost"), *self.cudaFree(pointer)[1:])

    def cudaMemcpyAsync(self, dst: int, src: int, size: int, kind: Any, stream: int) -> Any:
        assert kind == real.cudaMemcpyKind.cudaMemcpyDefault
        self.enqueue(stream, lambda: self._copy(dst, src, size))
        return (self._enter("cudaMemcpyAsync"),)

    def _copy(self, dst: int, src: int, size: int) -> None:
        ctypes.memmove(dst, src, size)
        if self.moved is not None:
            ways = {(True, False): "up", (False, True): "down", (False, False): "across"}
            self.moved[ways[self._of_host(src), self._of_host(dst)]] += size

    def _of_host(self, address: int) -> bool:
        for start, (_, size) in self.allocated.items():
            if start <= address < start + size:
                return start in self._pinned
        return True

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        assert flags == real.cudaStreamNonBlocking
        return self._enter("cudaStreamCreateWithFlags"), self._handle()

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:
        assert stream not in self.capturing, "synchronising a stream ends its capture"
        return (self._enter("cudaStreamSynchronize"),)

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:
        return (self._enter("cudaStreamDestroy"),)

    def cudaStreamWaitEvent(self, stream: int, event: int, flags: int) -> tuple[Any, ...]:
        return (self._enter("cudaStreamWaitEvent"),)

    def cudaEventCreateWithFlags(self, flags: int) -> tuple[Any, ...]:
        return self._enter("cudaEventCreateWithFlags"), self._handle()

    def cudaEventRecord(self, event: int, stream: int) -> tuple[Any, ...]:
        return (self._enter("cudaEventRecord"),)

    def cudaEventSynchronize(self, event: int) -> tuple[Any, ...]:
        return (self._enter("cudaEventSynchronize"),)

    def cudaEventElapsedTime(self, start: int, end: int) -> tuple[Any, ...]:
        return self._enter("cudaEventElapsedTime"), 1.5

    def cudaEventDestroy(self, event: int) -> tuple[Any, ...]:
        return (self._enter("cudaEventDestroy"),)

    def cudaStreamBeginCapture(self, stream: int, mode: Any) -> tuple[Any, ...]:
        self.capturing[stream] = []
        return (self._enter("cudaStreamBeginCapture"),)

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:
        return self._enter("cudaStreamEndCapture"), self.capturing.pop(stream)

    def cudaGraphInstantiate(self, graph: Any, flags: int) -> tuple[Any, ...]:
        return self._enter("cudaGraphInstantiate"), graph

    def cudaGraphDestroy(self, graph: Any) -> tuple[Any, ...]:
        return (self._enter("cudaGraphDestroy"),)

    def cudaGraphLaunch(self, graph: Any, stream: int) -> tuple[Any, ...]:
        self.replays += 1
        for work in graph:
            work()
        return (self._enter("cudaGraphLaunch"),)

    def cudaGraphExecDestroy(self, graph: Any) -> tuple[Any, ...]:
        return (self._enter("cudaGraphExecDestroy"),)
