"""The GPU kernels on a GPU: correct against float64, launch by launch.

Of the attention both are checked: the code that Triton launches, and the very machine code that
goes into an engine (:mod:`.engine_code`). Here is the former, and what both share.
"""

from __future__ import annotations

import importlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from ...plugins import components as component_op
from ...plugins import memory_cross_attention as op
from ...plugins import pixels as pixel_op
from ...plugins.kernel import Launch
from .stage import Problem, Stage

#: ||out - reference|| / ||reference||: scores near 4 from operands of 8 and 11 bits of mantissa
#: err by 0.006 and 0.0008, and so do the weights; sums are float32
BOUNDS = {torch.bfloat16: 1.5e-2, torch.float16: 2e-3, torch.float32: 1e-5}


@dataclass(frozen=True)
class Inputs:
    """Rotated and scaled queries [N,T,C], rotated keys [N,L,C], values [N,L,c]."""

    query: Tensor
    key: Tensor
    value: Tensor


def make_inputs(problem: Problem, device: str, dtype: torch.dtype, seed: int = 0) -> Inputs:
    """Random inputs with scores near 4; the same products run faster on zeros."""
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    n, rows, tokens = problem.objects, problem.rows, problem.tokens
    query = 2 * normal(n, rows, problem.width) * problem.width**-0.5
    key, value = 2 * normal(n, tokens, problem.width), normal(n, tokens, problem.value)
    return Inputs(query.to(dtype), key.to(dtype), value.to(dtype))


def loaded(module: str) -> Any:
    """A module of Triton kernels, such as ``pixel_kernels``."""
    return importlib.import_module(f"...plugins.{module}", __package__)


def attention_kernel() -> Any:
    """The attention kernel, compiled as for an engine; needs triton.

    Left alone, Triton compiles anew for a size that is 1 or a multiple of 16: other code than the
    plugin's, and 8 compilations of each launch instead of one.
    """
    sizes = [name for name, kind in op.ATTENTION.signature.items() if kind == "i32"]
    function = loaded("attention_kernels").memory_cross_attention
    if not isinstance(function, importlib.import_module("triton.runtime.jit").JITFunction):
        # the interpreter's
        return function
    return importlib.import_module("triton").jit(function.fn, do_not_specialize=sizes)


def attended(kernel: Any, inputs: Inputs, splits: int, launch: Launch) -> tuple[Tensor, Tensor]:
    """Partial results and their weights. Outputs are poisoned before."""
    partial, lse = poisoned(inputs, splits)
    run_attention(kernel, inputs, splits, launch, partial, lse)
    return partial, lse


def poisoned(inputs: Inputs, splits: int) -> tuple[Tensor, Tensor]:
    """Outputs of the operator, NaN where nobody writes."""
    n, rows, _ = inputs.query.shape
    device, value = inputs.key.device, inputs.value.shape[2]
    partial = torch.full((n, splits, rows, value), math.nan, device=device)
    return partial, torch.full((n, splits, rows), math.nan, device=device)


def grid_of(inputs: Inputs, splits: int, launch: Launch) -> tuple[int, int, int]:
    n, rows, _ = inputs.query.shape
    return math.ceil(rows / launch.constants["BLOCK_Q"]), splits, n


def run_attention(
    kernel: Any, inputs: Inputs, splits: int, launch: Launch, partial: Tensor, lse: Tensor
) -> None:
    n, rows, width = inputs.query.shape
    kernel[grid_of(inputs, splits, launch)](
        inputs.query,
        inputs.key,
        inputs.value,
        rows,
        inputs.key.shape[1],
        splits,
        n,
        partial,
        lse,
        WIDTH=width,
        VALUE=inputs.value.shape[2],
        **launch.constants,
        num_warps=launch.num_warps,
        num_stages=launch.num_stages,
    )


def merged(partial: Tensor, lse: Tensor) -> Tensor:
    return (partial * torch.softmax(lse, dim=1).unsqueeze(-1)).sum(dim=1)


def reference(inputs: Inputs, rows_at_once: int = 256) -> Tensor:
    """The whole operator in float64, a block of queries at a time."""
    q, k, v = (t.double() for t in vars(inputs).values())
    parts = [
        torch.softmax(block @ k.transpose(1, 2), dim=-1) @ v
        for block in torch.split(q, rows_at_once, dim=1)
    ]
    return torch.cat(parts, dim=1)


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected).norm() / expected.norm())


def attention_errors(
    kernel: Any,
    problems: tuple[Problem, ...],
    launches: tuple[Launch, ...],
    device: str,
    dtype: torch.dtype,
) -> list[dict[str, Any]]:
    """Relative error of every problem, launch and number of pieces, and whether it is in bounds."""
    found = []
    for seed, problem in enumerate(problems):
        inputs = make_inputs(problem, device, dtype, seed)
        expected = reference(inputs)
        for launch in launches:
            for splits in (1, 4, 7):
                error = relative_error(merged(*attended(kernel, inputs, splits, launch)), expected)
                found.append(
                    {
                        "problem": vars(problem),
                        "launch": describe(launch),
                        "splits": splits,
                        "dtype": str(dtype),
                        "error": error,
                        # NaN compares false: an element nobody wrote fails
                        "passed": error <= BOUNDS[dtype],
                    }
                )
    return found


def describe(launch: Launch) -> dict[str, int]:
    return {**launch.constants, "num_warps": launch.num_warps, "num_stages": launch.num_stages}


def launches_of(stage: Stage, wide: bool = False) -> tuple[Launch, ...]:
    """What an engine on this GPU may use; one of 16 by 16 in a rehearsal."""
    if stage.rehearsal:
        return (Launch({"BLOCK_Q": 16, "BLOCK_K": 16}, 4, 1),)
    kernel = op.WIDE_ATTENTION if wide else op.ATTENTION
    return kernel.candidates(stage.arch) if stage.arch in kernel.architectures else ()


def correctness(stage: Stage) -> Iterator[dict[str, Any]]:
    """Pixels, then every launch of the attention in both types, told one by one."""
    pixels, kernel = pixel_errors(stage.device), attention_kernel()
    pixels["rotate_keys"] = _rotation_errors(stage.device)
    narrow = ((*stage.awkward, stage.steady[0]), launches_of(stage))
    wide = ((stage.wide,), launches_of(stage, wide=True))
    found: list[dict[str, Any]] = []
    for dtype in stage.dtypes:
        for problems, launches in (narrow, wide):
            for launch in launches:
                found += attention_errors(kernel, problems, (launch,), stage.device, dtype)
                yield _outcome(found, pixels)


def _outcome(found: list[dict[str, Any]], pixels: dict[str, int]) -> dict[str, Any]:
    passed = all(f["passed"] for f in found) and not any(pixels.values())
    # NaN is the worst of all, and max() may pass it over
    worst = max((f["error"] for f in found), key=lambda e: (math.isnan(e), e))
    return {"passed": passed, "worst": worst, "attention": found, "pixels": pixels}


def pixel_errors(device: str = "cuda") -> dict[str, int]:
    """Elements in which each kernel beside the engine differs from numpy; 0 is required."""
    generator = torch.Generator().manual_seed(0)
    # an interpreter takes seconds for what a GPU does at once
    side, size = (256, (720, 1280)) if device == "cuda" else (16, (20, 24))
    logits = torch.randn(3, side, side, generator=generator)
    return {
        "upsample_mask": _mask_errors(loaded("pixel_kernels"), logits, size, device),
        "fill_small": _component_errors(loaded("component_kernels"), logits, device),
    }


def _mask_errors(module: Any, logits: Tensor, size: tuple[int, int], device: str) -> int:
    planes, h, w = logits.shape
    (y, wy), (x, wx) = (pixel_op.lerp_table(n, m) for n, m in zip((h, w), size, strict=True))
    tables = [torch.from_numpy(t).to(device) for t in (y, wy, x, wx)]
    out = torch.full((planes, *size), 7, dtype=torch.uint8, device=device)
    grid = (math.ceil(size[1] / 256), size[0], planes)
    module.upsample_mask[grid](
        logits.to(device), *tables, 0.0, h, w, *size, out, BLOCK=256, enable_fp_fusion=False
    )
    wanted = torch.from_numpy(pixel_op.upsample_mask(logits.numpy(), size, 0.0))
    return int((out.cpu().bool() != wanted).sum())


def _rotation_errors(device: str) -> int:
    """Elements of rotated keys that are further from float64 than float32 rounds."""
    generator = torch.Generator().manual_seed(0)
    key = torch.randn(2, 53, 64, generator=generator)
    angles = torch.randn(25, 32, generator=generator)
    tables = angles.cos(), angles.sin()
    out = torch.full_like(key, math.nan, device=device)
    held = [t.to(device) for t in (key, *tables)]
    rotate = loaded("attention_kernels").rotate_keys
    rotate[(4, 1, 2)](*held, 53, 25, out, WIDTH=64, BLOCK_L=16)
    wanted = op.rotate_keys(key.double().numpy(), *(t.double().numpy() for t in tables))
    return int((~((out.cpu().double() - torch.from_numpy(wanted)).abs() < 2e-6)).sum())


def _component_errors(module: Any, logits: Tensor, device: str) -> int:
    n, h, w = logits.shape
    grid = (math.ceil(h * w / 256), 1, n)
    source = logits.to(device)
    label, area = (torch.full(logits.shape, 9, dtype=torch.int32, device=device) for _ in range(2))
    out = torch.full_like(source, math.nan)
    module.label_pixels[grid](source, 0.0, 0, h, w, label, area, BLOCK=256)
    module.join_neighbours[grid](h, w, label, BLOCK=256)
    module.count_areas[grid](h, w, label, area, BLOCK=256)
    module.fill_small[grid](source, label, area, 8, 0.1, h, w, out, BLOCK=256)
    planes = [torch.from_numpy(component_op.fill_small(p.numpy(), 8, 0.0, 0.1)) for p in logits]
    return int((out.cpu() != torch.stack(planes)).sum())
