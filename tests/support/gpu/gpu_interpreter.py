"""Kernels beside the engine on a GPU of host memory: Triton's interpreter runs them, or numpy.

The interpreter takes seconds where numpy takes milliseconds; that both agree is tested kernel
by kernel.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fake_cuda import FakeCuda
from kernel_references import REFERENCES
from triton_kernels import run_interpreted

from sam2rt.plugins.kernel import Kernel as Described
from sam2rt.runtime.backends import tensorrt_session
from sam2rt.runtime.gpu import cuda
from sam2rt.runtime.pixels import gpu_kernels as gpu_pixels
from sam2rt.runtime.pixels.gpu_kernels import beside_kernels

_KINDS = {"*u8": "uint8", "*i32": "int32", "*fp32": "float32"}
#: bytes at addresses that are no allocation of the stand-in
foreign: dict[int, int] = {}


#: (kernel, grid, arguments) -> the arrays among the arguments as the kernel leaves them
Run = Callable[[Described, tuple[int, ...], list[Any]], list[np.ndarray]]


def interpreted_kernels(monkeypatch: pytest.MonkeyPatch, fake: FakeCuda) -> None:
    """Let launches of our kernels run in the interpreter, on the memory of `fake`."""

    def run(kernel: Described, grid: tuple[int, ...], arguments: list[Any]) -> list[np.ndarray]:
        return run_interpreted(kernel.module, kernel.entry, grid, arguments, BLOCK=256)

    _stand_in(monkeypatch, fake, run)


def numpy_kernels(monkeypatch: pytest.MonkeyPatch, fake: FakeCuda) -> None:
    """Let launches of our kernels run their numpy references, on the memory of `fake`."""

    def run(kernel: Described, grid: tuple[int, ...], arguments: list[Any]) -> list[np.ndarray]:
        passed = [a.copy() if isinstance(a, np.ndarray) else a for a in arguments]
        REFERENCES[kernel.entry](grid, *passed)
        return [a for a in passed if isinstance(a, np.ndarray)]

    _stand_in(monkeypatch, fake, run)


def kernels_beside(monkeypatch: pytest.MonkeyPatch, fake: FakeCuda) -> None:
    """Let engine folders have kernels beside the engines, whose launches run in numpy."""
    numpy_kernels(monkeypatch, fake)
    code = {
        name: (b"\x7fELF", {"entry": kernel.entry, "block": 128, "shared": 0})
        for name, kernel in beside_kernels().items()
    }
    monkeypatch.setattr(gpu_pixels, "read_kernels", lambda folder: code)
    monkeypatch.setattr(tensorrt_session, "has_kernels", lambda folder: True)


def _stand_in(monkeypatch: pytest.MonkeyPatch, fake: FakeCuda, run: Run) -> None:
    class Kernel:
        """Runs a kernel by its entry's name on the host memory behind the addresses."""

        def __init__(self, image: bytes, name: str, block: int, shared: int) -> None:
            self._kernel = next(k for k in beside_kernels().values() if k.entry == name)
            assert image[:4] == b"\x7fELF"
            assert block == 128
            self._closed = False

        def launch(self, grid: tuple[int, ...], stream: cuda.Stream, *arguments: Any) -> None:
            assert not self._closed, "the kernel's module was unloaded"
            fake.calls.append("launch")
            types = list(self._kernel.signature.values())
            assert len(types) == len(arguments)
            # a capture records the launch instead
            fake.enqueue(stream.handle, lambda: self._work(grid, types, arguments))

        def _work(self, grid: tuple[int, ...], types: list[str], arguments: Any) -> None:
            views, passed = [], []
            for kind, value in zip(types, arguments, strict=True):
                if kind in _KINDS:
                    assert isinstance(value, cuda.Address)
                    views.append(_memory(fake, value.value, _KINDS[kind]))
                    passed.append(views[-1])
                else:
                    assert isinstance(value, float if kind == "fp32" else int)
                    passed.append(value)
            after = run(self._kernel, (*grid, 1, 1)[:3], passed)
            for view, result in zip(views, after, strict=True):
                view[...] = result

        def close(self) -> None:
            self._closed = True

    monkeypatch.setattr(gpu_pixels.cuda, "LoadedKernel", Kernel)


def _memory(fake: FakeCuda, address: int, dtype: str) -> np.ndarray:
    """What lies from `address` to the end of its allocation."""
    if address in foreign:
        size = foreign[address]
    else:
        start = max(a for a in fake.allocated if a <= address)
        size = fake.allocated[start][1] - (address - start)
        assert size > 0, "an address outside of any allocation"
    kind = np.dtype(dtype)
    raw = (ctypes.c_char * (size // kind.itemsize * kind.itemsize)).from_address(address)
    return np.frombuffer(raw, kind)
