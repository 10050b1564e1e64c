"""The GPU kernels on a GPU: correct against float64, and fast against PyTorch's own attention.

Work is counted as the products of the attention itself, 2 * (C + c) per query and key; the
rate is a share of the card's matrix rate measured in the same process. Inputs are random: the
same products run faster on zeros.
"""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...plugins import components as component_op
from ...plugins import memory_cross_attention as op
from ...plugins import pixels as pixel_op
from ...plugins.kernel import Launch

#: ||out - reference|| / ||reference||: scores near 4 from operands of 8 and 11 bits of mantissa
#: err by 0.006 and 0.0008, and so do the weights; sums are float32
BOUNDS = {torch.bfloat16: 1.5e-2, torch.float16: 2e-3, torch.float32: 1e-5}


@dataclass(frozen=True)
class Problem:
    """One attention: objects, side of the grid, memories, pointer tokens, widths C and c."""

    objects: int
    side: int
    memories: int
    pointers: int
    width: int = 256
    value: int = 64

    @property
    def rows(self) -> int:
        return self.side**2

    @property
    def tokens(self) -> int:
        return self.memories * self.rows + self.pointers

    @property
    def flop(self) -> float:
        return 2.0 * self.objects * self.rows * self.tokens * (self.width + self.value)


#: the steady state at 1024 pixels, for one, two and four objects
STEADY = tuple(Problem(n, 64, 7, 64) for n in (1, 2, 4))
#: ragged tails, no pointer, one memory
AWKWARD = (Problem(1, 64, 1, 0), Problem(3, 33, 2, 64), Problem(2, 64, 7, 4), Problem(4, 16, 3, 64))


@dataclass(frozen=True)
class Inputs:
    query: Tensor
    key: Tensor
    value: Tensor
    cos: Tensor
    sin: Tensor


def make_inputs(problem: Problem, device: str, dtype: torch.dtype, seed: int = 0) -> Inputs:
    generator = torch.Generator(device).manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    n, rows, tokens = problem.objects, problem.rows, problem.tokens
    angles = normal(rows, problem.width // 2) * 3
    query, key = 2 * normal(n, rows, problem.width), 2 * normal(n, tokens, problem.width)
    value = normal(n, tokens, problem.value)
    return Inputs(query.to(dtype), key.to(dtype), value.to(dtype), angles.cos(), angles.sin())


def kernels() -> Any:
    """The attention kernels, compiled as for an engine; needs triton.

    Left alone, Triton compiles anew for a size that is 1 or a multiple of 16: other code than the
    plugin's, and 8 compilations of each launch instead of one.
    """
    from ...plugins import attention_kernels as module

    sizes = [name for name, kind in op.ATTENTION.signature.items() if kind == "i32"]
    jit = importlib.import_module("triton").jit
    attention = jit(module.memory_cross_attention.fn, do_not_specialize=sizes)
    return SimpleNamespace(rotate_keys=module.rotate_keys, memory_cross_attention=attention)


def rotated_keys(module: Any, inputs: Inputs, block: int = 32) -> Tensor:
    out = torch.full_like(inputs.key, math.nan)
    n, tokens, width = inputs.key.shape
    grid = (math.ceil(tokens / block), 1, n)
    rows = len(inputs.cos)
    module.rotate_keys[grid](
        inputs.key, inputs.cos, inputs.sin, tokens, rows, out, WIDTH=width, BLOCK_L=block
    )
    return out


def attended(
    module: Any, inputs: Inputs, key: Tensor, splits: int, launch: Launch
) -> tuple[Tensor, Tensor]:
    """Partial results and their weights; `key` is rotated. Outputs are poisoned before."""
    n, rows, _ = inputs.query.shape
    partial = torch.full((n, splits, rows, inputs.value.shape[2]), math.nan, device=key.device)
    lse = torch.full((n, splits, rows), math.nan, device=key.device)
    run_attention(module, inputs, key, splits, launch, partial, lse)
    return partial, lse


def run_attention(
    module: Any,
    inputs: Inputs,
    key: Tensor,
    splits: int,
    launch: Launch,
    partial: Tensor,
    lse: Tensor,
) -> None:
    n, rows, width = inputs.query.shape
    blocks = dict(launch.constants)
    grid = (math.ceil(rows / blocks["BLOCK_Q"]), splits, n)
    options = {"num_warps": launch.num_warps, "num_stages": launch.num_stages}
    module.memory_cross_attention[grid](
        inputs.query,
        key,
        inputs.value,
        inputs.cos,
        inputs.sin,
        rows,
        key.shape[1],
        splits,
        n,
        partial,
        lse,
        WIDTH=width,
        VALUE=inputs.value.shape[2],
        **blocks,
        **options,
    )


def merged(partial: Tensor, lse: Tensor) -> Tensor:
    return (partial * torch.softmax(lse, dim=1).unsqueeze(-1)).sum(dim=1)


def turned(tokens: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    even, odd = tokens[..., 0::2], tokens[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)


def turned_keys(key: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    whole = key.shape[1] // len(cos)
    spatial = key[:, : whole * len(cos)].reshape(len(key), whole, len(cos), -1)
    done = turned(spatial, cos, sin).flatten(1, 2)
    return torch.cat((done, key[:, whole * len(cos) :].to(done.dtype)), dim=1)


def reference(inputs: Inputs, rows_at_once: int = 256) -> Tensor:
    """The whole operator in float64, a block of queries at a time."""
    q, k, v, cos, sin = (t.double() for t in vars(inputs).values())
    q, k = turned(q, cos, sin), turned_keys(k, cos, sin)
    parts = [
        torch.softmax(block @ k.transpose(1, 2) / q.shape[-1] ** 0.5, dim=-1) @ v
        for block in torch.split(q, rows_at_once, dim=1)
    ]
    return torch.cat(parts, dim=1)


def attention_errors(
    module: Any,
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
        key = rotated_keys(module, inputs)
        for launch in launches:
            for splits in (1, 4, 7):
                out = merged(*attended(module, inputs, key, splits, launch)).double()
                error = float((out - expected).norm() / expected.norm())
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


def matrix_rate(side: int = 8192) -> float:
    """bfloat16 matrix rate of the card, TFLOP/s, median of repeated products of random data."""
    a, b = (torch.randn(side, side, device="cuda", dtype=torch.bfloat16) for _ in range(2))
    return 2.0 * side**3 / milliseconds(lambda: a @ b) / 1e9


def milliseconds(work: Callable[[], Any]) -> float:
    """Median device time of `work`, warm, measured with events."""
    testing = importlib.import_module("triton.testing")
    return float(testing.do_bench(work, warmup=100, rep=300, return_mode="median"))


def attention_speeds(peak: float, arch: int) -> list[dict[str, Any]]:
    """The plugin's kernel and PyTorch's fused attention on the same work, bfloat16.

    For each steady state: every launch, the attention alone and the whole operator (rotation of
    keys and joining of pieces included), and the best PyTorch variant of the same.
    """
    module, found = kernels(), []
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    for problem in STEADY:
        inputs = make_inputs(problem, "cuda", torch.bfloat16)
        key = rotated_keys(module, inputs)
        sam2rt = [
            _kernel_speed(module, problem, inputs, key, launch, processors, peak)
            for launch in op.ATTENTION.candidates(arch)
        ]
        baselines = torch_speeds(problem, inputs)
        timed = [b for b in baselines if "attention_ms" in b]
        best = min(sam2rt, key=lambda o: o["operator_ms"])
        entry: dict[str, Any] = {"problem": vars(problem), "sam2rt": sam2rt, "torch": baselines}
        if timed:
            entry["faster_than_torch"] = min(b["operator_ms"] for b in timed) / best["operator_ms"]
        found.append(entry)
    return found


def tuning(peak: float) -> Iterator[list[dict[str, Any]]]:
    """Launches of a grid on the steady state of one object, fastest first, after each trial."""
    module, problem = kernels(), STEADY[0]
    processors = torch.cuda.get_device_properties(0).multi_processor_count
    inputs = make_inputs(problem, "cuda", torch.bfloat16)
    key, found = rotated_keys(module, inputs), list[dict[str, Any]]()
    for rows, keys, warps, stages in itertools.product((64, 128), (32, 64, 128), (4, 8), (2, 3)):
        launch = Launch({"BLOCK_Q": rows, "BLOCK_K": keys}, warps, stages)
        try:
            found.append(_kernel_speed(module, problem, inputs, key, launch, processors, peak))
        except Exception as error:  # what does not fit the card is Triton's own type
            refused = " ".join(str(error).split())[:120]
            found.append({"launch": describe(launch), "refused": refused})
        yield sorted(found, key=lambda entry: entry.get("attention_ms", math.inf))


def _kernel_speed(
    module: Any,
    problem: Problem,
    inputs: Inputs,
    key: Tensor,
    launch: Launch,
    processors: int,
    peak: float,
) -> dict[str, Any]:
    rows = launch.constants["BLOCK_Q"]
    splits = op.split_count(problem.rows, problem.objects, processors, rows)
    partial, lse = attended(module, inputs, key, splits, launch)

    def attend() -> None:
        run_attention(module, inputs, key, splits, launch, partial, lse)

    def operate() -> Tensor:
        turned = rotated_keys(module, inputs)
        run_attention(module, inputs, turned, splits, launch, partial, lse)
        return merged(partial, lse)

    attention, operator = milliseconds(attend), milliseconds(operate)
    rate = problem.flop / attention / 1e9
    return {
        "launch": describe(launch),
        "splits": splits,
        "attention_ms": attention,
        "operator_ms": operator,
        "tflops": rate,
        "share_of_peak": rate / peak,
    }


def torch_speeds(problem: Problem, inputs: Inputs) -> list[dict[str, Any]]:
    """PyTorch's attention with narrow values, and with values padded to the width of keys."""
    attention = importlib.import_module("torch.nn.attention")
    backends = attention.SDPBackend
    query = turned(inputs.query, inputs.cos, inputs.sin).to(inputs.query.dtype)[:, None]
    key = turned_keys(inputs.key, inputs.cos, inputs.sin).to(inputs.key.dtype)[:, None]
    wide = F.pad(inputs.value, (0, problem.width - problem.value))[:, None]
    found = []
    for name in ("FLASH_ATTENTION", "EFFICIENT_ATTENTION", "CUDNN_ATTENTION"):
        for width, value in (("narrow", inputs.value[:, None]), ("padded", wide)):
            entry: dict[str, Any] = {"backend": name, "values": width}
            try:
                with attention.sdpa_kernel(getattr(backends, name)):
                    entry.update(_torch_times(inputs, query, key, value))
            except (RuntimeError, AttributeError) as error:
                entry["refused"] = " ".join(str(error).split())[:200]
            found.append(entry)
    return found


def _torch_times(inputs: Inputs, query: Tensor, key: Tensor, value: Tensor) -> dict[str, float]:
    def operate() -> Tensor:
        q = turned(inputs.query, inputs.cos, inputs.sin).to(query.dtype)[:, None]
        k = turned_keys(inputs.key, inputs.cos, inputs.sin).to(key.dtype)[:, None]
        return F.scaled_dot_product_attention(q, k, value)

    alone = milliseconds(lambda: F.scaled_dot_product_attention(query, key, value))
    return {"attention_ms": alone, "operator_ms": milliseconds(operate)}


def pixel_errors(device: str = "cuda") -> dict[str, int]:
    """Elements in which each kernel beside the engine differs from numpy; 0 is required."""
    from ...plugins import component_kernels, pixel_kernels

    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 256, 256, generator=generator)
    return {
        "upsample_mask": _mask_errors(pixel_kernels, logits, device),
        "fill_small": _component_errors(component_kernels, logits, device),
    }


def _mask_errors(module: Any, logits: Tensor, device: str) -> int:
    size = (720, 1280)
    (y, wy), (x, wx) = (pixel_op.lerp_table(n, m) for n, m in zip((256, 256), size, strict=True))
    tables = [torch.from_numpy(t).to(device) for t in (y, wy, x, wx)]
    out = torch.full((3, *size), 7, dtype=torch.uint8, device=device)
    grid = (math.ceil(size[1] / 256), size[0], 3)
    module.upsample_mask[grid](
        logits.to(device), *tables, 0.0, 256, 256, *size, out, BLOCK=256, enable_fp_fusion=False
    )
    wanted = torch.from_numpy(pixel_op.upsample_mask(logits.numpy(), size, 0.0))
    return int((out.cpu().bool() != wanted).sum())


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
