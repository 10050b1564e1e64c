"""The doubles with which ``benchmarks/gpu.sh --rehearse`` runs on a CPU, for the whole process.

The driver is :class:`fake_cuda.FakeCuda`; kernels run their numpy references, the attention in
Triton's interpreter. Machine code is compiled for real, and what is launched is checked against
the parameters that the code declares.
"""

from __future__ import annotations

import ctypes
import itertools
import re
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
    # the interpreter would take seconds for each attention of a model
    patch.setattr(frames, "attention_kernel", ReferenceAttention)
    return fake


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
