"""The doubles with which ``benchmarks/gpu.sh --rehearse`` runs on a CPU, for the whole process.

The driver is :class:`fake_cuda.FakeCuda`, torch's streams, events and graphs do their work at once,
kernels run their numpy references, the attention in
Triton's interpreter. Machine code is compiled for real, and what is launched is checked against
the parameters that the code declares.
"""

from __future__ import annotations

import ctypes
import itertools
import re
import sys
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from fake_cuda import FakeCuda
from gpu_interpreter import numpy_kernels
from triton_kernels import interpreted, triton_on_path

from sam2rt.plugins import memory_cross_attention as op
from sam2rt.plugins.compiling import Compiled, compile_kernel
from sam2rt.runtime.gpu import cuda
from sam2rt.runtime.gpu.interop import CUDA

_TYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}


def install(patch: pytest.MonkeyPatch | None = None) -> FakeCuda:
    """Put the doubles in place; with `patch`, until it is undone."""
    from sam2rt.benchmarks.gpu import engine_code, kernels
    from sam2rt.benchmarks.gpu.model import frames

    triton_on_path()
    patch = patch or pytest.MonkeyPatch()
    fake, made = FakeCuda(), dict[bytes, tuple[Compiled, dict[str, Any], str]]()
    patch.setattr(cuda, "cudart", lambda: fake)
    numpy_kernels(patch, fake)
    beside = cuda.LoadedKernel

    def compiled(kernel: Any, arch: int, **options: Any) -> Compiled:
        code = compile_kernel(kernel, arch, **options)
        values = {**kernel.constants, **options["constants"], **options["launch"].constants}
        for image in (code.cubin, code.ptx.encode()):
            made[image] = (code, values, options["dtype"])
        return code

    def opened(image: bytes, name: str, block: int, shared: int) -> Any:
        if image in made:
            return AttentionCode(*made[image], name, block, shared)
        return beside(image, name, block, shared)

    patch.setattr(engine_code, "compile_kernel", compiled)
    patch.setattr(cuda, "LoadedKernel", opened)
    patch.setattr(kernels, "loaded", interpreted)
    patch.setattr(torch.cuda, "synchronize", lambda: None)
    for name in ("Stream", "ExternalStream", "Event", "CUDAGraph"):
        patch.setattr(torch.cuda, name, globals()[name])
    patch.setattr(torch.cuda, "stream", lambda stream: stream)
    patch.setattr(torch.cuda, "current_stream", Stream)
    patch.setattr(torch.cuda, "graph", lambda graph: graph)
    patch.setattr(torch.cuda, "_sleep", lambda cycles: None)
    patch.setattr(torch.Tensor, "pin_memory", lambda tensor: tensor)
    patch.setattr(torch.utils.dlpack, "from_dlpack", _from_dlpack)
    # the interpreter would take seconds for each attention of a model
    patch.setattr(frames, "attention_kernel", ReferenceAttention)
    return fake


class Stream:
    """torch's streams on a CPU, where work is done when it is enqueued."""

    def __init__(self, handle: int = 1) -> None:
        self.cuda_stream = handle

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        pass

    def wait_stream(self, other: Stream) -> None:
        assert isinstance(other, Stream)

    def synchronize(self) -> None:
        pass


class ExternalStream(Stream):
    def __init__(self, handle: int) -> None:
        assert handle > 1, "a stream of its own, not a default stream"
        super().__init__(handle)


class Event:
    def __init__(self, *, enable_timing: bool) -> None:
        assert enable_timing

    def record(self) -> None:
        self._at = time.perf_counter()

    def synchronize(self) -> None:
        assert self._at > 0

    def elapsed_time(self, end: Event) -> float:
        return 1e3 * (end._at - self._at)


class CUDAGraph:
    """What is captured runs at once here, so it is found in the frame that captures, to replay."""

    def __enter__(self) -> None:
        self._work = sys._getframe(1).f_locals["work"]

    def __exit__(self, *_: object) -> None:
        pass

    def replay(self) -> None:
        self._work()


def _from_dlpack(array: Any) -> torch.Tensor:
    """Host memory that stands in for a GPU's; the producer is asked as torch asks it."""
    assert array.__dlpack_device__()[0] == CUDA
    assert array.__dlpack__(stream=1, max_version=(1, 0), dl_device=None, copy=None) is not None
    dtype = getattr(torch, np.dtype(array.dtype).name)
    return _memory(array.pointer, tuple(array.shape), dtype)


class ReferenceAttention:
    """The attention kernel by its numpy reference, called as Triton's functions are."""

    def __getitem__(self, grid: tuple[int, int, int]) -> ReferenceAttention:
        self._grid = grid
        return self

    def __call__(self, *arguments: Any, **constants: Any) -> None:
        query, key, value, rows, tokens, splits, batches, partial, lse = arguments
        assert (rows, batches, self._grid[1:]) == (query.shape[1], len(query), (splits, len(key)))
        tiles = -(-tokens // constants["BLOCK_K"])
        ends = [s * tiles // splits * constants["BLOCK_K"] for s in range(splits + 1)]
        partial.zero_()
        lse.fill_(-torch.inf)
        for s, (first, last) in enumerate(itertools.pairwise(ends)):
            if first < min(last, tokens):
                piece = [t[:, first : min(last, tokens)].numpy() for t in (key, value)]
                made = op.reference(query.numpy(), *piece)
                partial[:, s], lse[:, s] = (torch.from_numpy(m[:, 0]) for m in made)


class AttentionCode:
    """Machine code of the attention kernel, as ``cuda.LoadedKernel`` offers it."""

    def __init__(
        self, code: Compiled, values: dict[str, Any], dtype: str, name: str, block: int, shared: int
    ) -> None:
        assert (name, block, shared) == (code.name, code.block, code.shared)
        self._values, self._dtype = values, _TYPES[dtype]
        #: pointer or integer, as the PTX declares its parameters
        self._declared = re.findall(r"\.param \.(u64|u32)[^,()\n]*_param_\d+", code.ptx)

    def __enter__(self) -> AttentionCode:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def launch(self, grid: Sequence[int], stream: cuda.Stream, *arguments: Any) -> None:
        given = ["u64" if isinstance(a, cuda.Address) else "u32" for a in arguments]
        assert given == self._declared, "the code takes other arguments"
        query, key, value, rows, tokens, splits, batches, partial, lse = arguments
        n, width, narrow = grid[2], self._values["WIDTH"], self._values["VALUE"]
        shapes = ((batches, rows, width), (n, tokens, width), (n, tokens, narrow))
        read = [
            _memory(a.value, shape, self._dtype).float()
            for a, shape in zip((query, key, value), shapes, strict=True)
        ]
        written = [
            _memory(a.value, shape, torch.float32)
            for a, shape in ((partial, (n, splits, rows, narrow)), (lse, (n, splits, rows)))
        ]
        run = interpreted("attention_kernels").memory_cross_attention[tuple(grid)]
        run(*read, rows, tokens, splits, batches, *written, **self._values)


def _memory(address: int, shape: tuple[int, ...], dtype: torch.dtype) -> torch.Tensor:
    size = int(np.prod(shape)) * dtype.itemsize
    raw = (ctypes.c_char * size).from_address(address)
    return torch.frombuffer(raw, dtype=dtype).reshape(shape)
