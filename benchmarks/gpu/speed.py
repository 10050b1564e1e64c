"""How fast: the card's ceilings, our attention beside cuDNN's and FlashAttention's, launches.

Work is counted as the products of the attention itself, 2 * (C + c) per query and key; the rate is
a share of the card's matrix rate measured in the same process. Each candidate is a CUDA graph, so
that no host time counts, and does the same: rotated queries, keys and values in, the attention
out, pieces joined.
"""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from ...plugins import memory_cross_attention as op
from ...plugins.kernel import Launch
from .kernels import (
    Inputs,
    attended,
    attention_kernel,
    describe,
    launches_of,
    make_inputs,
    merged,
    run_attention,
)
from .stage import Problem, Stage, milliseconds

#: torch's names of its attentions
BACKENDS = ("CUDNN_ATTENTION", "FLASH_ATTENTION", "EFFICIENT_ATTENTION")


def matrix_rate(stage: Stage) -> float:
    """bfloat16 matrix rate of the card, TFLOP/s, median of repeated products of random data."""
    side = stage.matrix
    a, b = (torch.randn(side, side, device=stage.device, dtype=torch.bfloat16) for _ in range(2))
    return 2.0 * side**3 / milliseconds(stage, lambda: a @ b) / 1e9


def copy_rate(stage: Stage) -> float:
    """Bytes read and written per second by a copy within the card's memory, GB/s."""
    source = torch.zeros(stage.copy, dtype=torch.uint8, device=stage.device)
    target = torch.empty_like(source)
    return 2.0 * stage.copy / milliseconds(stage, lambda: target.copy_(source)) / 1e6


def host_copy_rates(stage: Stage) -> dict[str, float]:
    """GB/s between host and card, pinned and pageable, in blocks of one 720p frame."""
    h, w = stage.frame
    frame = torch.zeros(h, w, 3, dtype=torch.uint8)
    kinds = {"pageable": frame, "pinned": frame.pin_memory()}
    device = torch.empty_like(frame, device=stage.device)
    found = {}
    for name, host in kinds.items():
        up = milliseconds(stage, lambda host=host: device.copy_(host, True), capture=False)  # type: ignore[misc]
        down = milliseconds(stage, lambda host=host: host.copy_(device, True), capture=False)  # type: ignore[misc]
        found[f"{name}_up"] = frame.numel() / up / 1e6
        found[f"{name}_down"] = frame.numel() / down / 1e6
    return found


def ceilings(stage: Stage) -> dict[str, Any]:
    """What nothing can be faster than on this card."""
    return {
        "bf16_matrix_tflops": matrix_rate(stage),
        "copy_gb_per_s": copy_rate(stage),
        "host_gb_per_s": host_copy_rates(stage),
    }


def attention_speeds(stage: Stage) -> Iterator[dict[str, Any]]:
    """Our kernel and torch's fused attentions on the same work, bfloat16, after each problem."""
    peak, kernel = matrix_rate(stage), attention_kernel()
    found: list[dict[str, Any]] = []
    problems = [(p, launches_of(stage)) for p in stage.steady]
    for problem, launches in (*problems, (stage.wide, launches_of(stage, wide=True))):
        inputs = make_inputs(problem, stage.device, torch.bfloat16)
        ours = [_kernel_speed(stage, kernel, problem, inputs, x, peak) for x in launches]
        baselines = [_torch_speed(stage, problem, inputs, b, peak) for b in BACKENDS]
        entry: dict[str, Any] = {"problem": vars(problem), "sam2rt": ours, "torch": baselines}
        best, other = (_fastest(x) for x in (ours, baselines))
        if best and other:
            entry["faster_than_torch"] = other / best
        found.append(entry)
        yield {"bf16_matrix_tflops": peak, "problems": found}


def _fastest(entries: list[dict[str, Any]]) -> float | None:
    return min((e["ms"] for e in entries if "ms" in e), default=None)


def _rates(problem: Problem, ms: float, peak: float) -> dict[str, float]:
    rate = problem.flop / ms / 1e9
    return {"ms": ms, "tflops": rate, "share_of_peak": rate / peak}


def _kernel_speed(
    stage: Stage, kernel: Any, problem: Problem, inputs: Inputs, launch: Launch, peak: float
) -> dict[str, Any]:
    rows = launch.constants["BLOCK_Q"]
    splits = op.split_count(problem.rows, problem.objects, stage.processors, rows)
    entry: dict[str, Any] = {"launch": describe(launch), "splits": splits}
    try:
        partial, lse = attended(kernel, inputs, splits, launch)

        def attend() -> Tensor:
            run_attention(kernel, inputs, splits, launch, partial, lse)
            return merged(partial, lse)

        return {**entry, **_rates(problem, milliseconds(stage, attend), peak)}
    except Exception as error:  # what does not fit the card is Triton's own type
        return {**entry, "refused": _short(error)}


def _torch_speed(
    stage: Stage, problem: Problem, inputs: Inputs, backend: str, peak: float
) -> dict[str, Any]:
    """One of torch's attentions, values padded to the width of keys, which they want."""
    attention = importlib.import_module("torch.nn.attention")
    query, key, value = (t[:, None] for t in vars(inputs).values())
    wide = F.pad(value, (0, problem.width - problem.value))
    entry: dict[str, Any] = {"backend": backend}
    try:
        chosen = "MATH" if stage.rehearsal else backend
        with attention.sdpa_kernel(getattr(attention.SDPBackend, chosen)):
            ms = milliseconds(
                stage, lambda: F.scaled_dot_product_attention(query, key, wide, scale=1.0)
            )
        return {**entry, **_rates(problem, ms, peak)}
    except (RuntimeError, AttributeError) as error:
        return {**entry, "refused": _short(error)}


def _short(error: Exception) -> str:
    return " ".join(str(error).split())[:200] or type(error).__name__


def _grid(stage: Stage) -> list[Launch]:
    """Launches to try, the most promising first, so that a cut costs the least."""
    if stage.rehearsal:
        return list(launches_of(stage))
    sizes = itertools.product((128, 64), (64, 128, 32), (8, 4), (3, 2, 4))
    tried = [Launch({"BLOCK_Q": q, "BLOCK_K": k}, warps, s) for q, k, warps, s in sizes]
    return [*launches_of(stage), *(x for x in tried if x not in launches_of(stage))]


def tuning(stage: Stage) -> Iterator[list[dict[str, Any]]]:
    """Launches of a grid on the steady state of one object, fastest first, after each trial."""
    peak, kernel, problem = matrix_rate(stage), attention_kernel(), stage.steady[0]
    inputs = make_inputs(problem, stage.device, torch.bfloat16)
    found: list[dict[str, Any]] = []
    for launch in _grid(stage):
        found.append(_kernel_speed(stage, kernel, problem, inputs, launch, peak))
        yield sorted(found, key=lambda entry: entry.get("ms", math.inf))
