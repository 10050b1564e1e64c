"""Where the parts run and how large: a GPU at the sizes of the model, or a rehearsal on a CPU.

The rehearsal does what the GPU will be asked to do, with sizes that take a CPU seconds, so that
no minute of a GPU is spent on a typing mistake. Its kernels run in Triton's interpreter, and its
device layer on a GPU made of host memory.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from ...configs.bundle import Half
from .needs import VARIANTS, CannotRunError


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
#: self-attention at 1024 pixels
SELF = Problem(1, 64, 1, 0, value=256)


@dataclass(frozen=True)
class Stage:
    """The machine of a part. `folder` is shared by all parts: graphs that were made stay there.

    device: torch's name of it; arch: compute capability, major * 10 + minor.
    """

    device: str
    arch: int
    processors: int
    folder: Path
    steady: tuple[Problem, ...] = STEADY
    awkward: tuple[Problem, ...] = AWKWARD
    wide: Problem = SELF
    dtypes: tuple[torch.dtype, ...] = (torch.bfloat16, torch.float16)
    models: tuple[str, ...] = VARIANTS
    precisions: tuple[Half, ...] = ("bf16", "fp16")
    #: video frames [height, width] that are given from the host
    frame: tuple[int, int] = (720, 1280)
    #: side of matrices whose product gives the matrix rate, bytes of a copy
    matrix: int = 8192
    copy: int = 1 << 30
    #: seconds one measurement may take, after runs that warm up
    patience: float = 0.3
    warm: int = 3

    @property
    def rehearsal(self) -> bool:
        return self.device == "cpu"

    def synchronize(self) -> None:
        torch.cuda.synchronize()


def gpu_stage(folder: Path) -> Stage:
    """The GPU of this machine; CannotRunError when torch sees none."""
    if not torch.cuda.is_available():
        raise CannotRunError("torch sees no GPU")
    major, minor = torch.cuda.get_device_capability()
    count = torch.cuda.get_device_properties(0).multi_processor_count
    return Stage("cuda", major * 10 + minor, count, folder)


def rehearsal_stage(folder: Path) -> Stage:
    """This CPU in the place of a GPU of compute capability 9.0."""
    small = Problem(1, 4, 2, 3, width=64, value=16)
    return Stage(
        "cpu",
        90,
        132,
        folder,
        steady=(small,),
        awkward=(Problem(2, 5, 1, 3, width=64, value=16),),
        wide=Problem(1, 4, 1, 0, width=64, value=64),
        # what the interpreter multiplies right
        dtypes=(torch.float32,),
        models=("micro",),
        precisions=("bf16",),
        frame=(48, 64),
        matrix=64,
        copy=1 << 16,
        patience=0.0,
        warm=0,
    )


def captured(stage: Stage, work: Callable[[], Any]) -> Callable[[], Any]:
    """`work` as one CUDA graph: what its kernels take, without the host's time to launch them.

    Runs it before, so that nothing is compiled or set up during capture.
    """
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(stage.warm):
            work()
    torch.cuda.current_stream().wait_stream(side)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        work()
    return graph.replay


def milliseconds(stage: Stage, work: Callable[[], Any], *, capture: bool = True) -> float:
    """Median device time of `work`, warm, measured with events around a CUDA graph of it."""
    run = captured(stage, work) if capture else work
    times = [_once(run)]
    until = time.perf_counter() + stage.patience
    while time.perf_counter() < until:
        times.append(_once(run))
    return sorted(times)[len(times) // 2]


def _once(run: Callable[[], Any]) -> float:
    begin = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    begin.record()
    run()
    end.record()
    end.synchronize()
    return float(begin.elapsed_time(end))
