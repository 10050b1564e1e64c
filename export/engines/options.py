"""What ``sam2rt build`` is asked for, and what it reports."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

from ...configs.bundle import Precision
from ...configs.errors import InputError
from ...runtime.backends.engine_record import EngineTarget
from .profiles import Limits

ATTENTIONS = ("auto", "folded", "full", "operator", "plugin")


@dataclass(frozen=True)
class EngineOptions:
    """How TensorRT builds; what it builds is the graph's affair.

    workspace: bytes of scratch memory kernels may use, None for all of the GPU's.
    level: 0 to 5, more is slower to build and perhaps faster to run; None for TensorRT's own.
    hardware_compatible: the engine also runs on other GPUs of the same compute capability.
    version_compatible: it also runs with later releases of the same major version.
    timing_cache: file of kernel timings to read and to update; None for none.
    precision: the graph's; for a bundle its own is taken whatever is asked here. In fp32 nothing
    is rounded to tensor-float, in the others float32 convolutions may be.
    """

    workspace: int | None = None
    level: int | None = None
    hardware_compatible: bool = False
    version_compatible: bool = False
    timing_cache: Path | None = None
    precision: Precision = "fp32"

    def __post_init__(self) -> None:
        if self.level is not None and not 0 <= self.level <= 5:
            raise InputError(f"optimization level is {self.level}: expected 0 to 5")
        if self.workspace is not None and self.workspace < 1:
            raise InputError(f"workspace is {self.workspace} bytes: expected at least 1")


@dataclass(frozen=True)
class BuildOptions:
    """What to build. graphs: None for all. precision: None, or what the bundle must have.

    attention: "folded" (values at memory width, plain operators), "full" (values at full
    width, for fused attention that wants equal widths), "operator" (those as ONNX's Attention),
    "plugin" (our kernel), or "auto": each is built, proved and timed, and the fastest that
    passed is kept.
    """

    graphs: tuple[str, ...] | None = None
    precision: Precision | None = None
    attention: str = "auto"
    limits: Limits = field(default_factory=Limits)
    engine: EngineOptions = field(default_factory=EngineOptions)

    def __post_init__(self) -> None:
        if self.attention not in ATTENTIONS:
            raise InputError(
                f"unknown attention '{self.attention}': expected one of {', '.join(ATTENTIONS)}"
            )
        if self.precision is not None and self.precision not in get_args(Precision):
            known = ", ".join(get_args(Precision))
            raise InputError(f"unknown precision '{self.precision}': expected one of {known}")


@dataclass(frozen=True)
class Candidate:
    """One way memory attention was tried; error None and milliseconds set when it passed."""

    attention: str
    milliseconds: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class BuildReport:
    """folder: where the engines are. seconds: per graph. candidates: of memory attention."""

    folder: Path
    machine: EngineTarget
    seconds: Mapping[str, float]
    candidates: tuple[Candidate, ...]
    proof: Mapping[str, Any]
