"""The vocabulary of kernels: how one is named, compiled and launched; imports nothing of ours."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: TensorRT keeps plugins by name, version and namespace
NAMESPACE = "sam2rt"
PLUGIN_VERSION = "1"

#: compute capabilities kernels are compiled and tested for, as major * 10 + minor
ARCHITECTURES = (80, 86, 89, 90, 100, 120)


@dataclass(frozen=True)
class Launch:
    """How one kernel is compiled: its compile-time constants, warps and pipeline stages."""

    constants: Mapping[str, int]
    num_warps: int
    num_stages: int


@dataclass(frozen=True)
class Kernel:
    """One Triton kernel.

    module: file of this package that holds it; entry: the function in it.
    signature: Triton types of its run-time arguments in order; ``*T`` is a pointer to the
    tensor type the kernel is compiled for.
    launches: candidates by architecture, the first is the default; an architecture that is
    not listed takes those of the nearest older one.
    fused: whether a * b + c may be one rounding; False where the result must have the CPU's bits.
    architectures: those it is compiled and tested for.
    """

    module: str
    entry: str
    signature: Mapping[str, str]
    launches: Mapping[int, tuple[Launch, ...]]
    constants: Mapping[str, Any] = field(default_factory=dict)
    fused: bool = True
    architectures: tuple[int, ...] = ARCHITECTURES

    def candidates(self, arch: int) -> tuple[Launch, ...]:
        known = [a for a in self.launches if a <= arch]
        if not known:
            raise LookupError(f"no launch of {self.entry} for sm_{arch}")
        return self.launches[max(known)]

    def source(self) -> Path:
        return Path(__file__).with_name(f"{self.module}.py")

    def digest(self) -> str:
        """sha256 over the kernel's source and every launch: what decides its machine code."""
        parts = {a: [_plain(x) for x in launches] for a, launches in self.launches.items()}
        about = (self.entry, self.fused, dict(self.signature), sorted(self.constants.items()))
        text = f"{about}|{parts}"
        return hashlib.sha256(self.source().read_bytes() + text.encode()).hexdigest()


def _plain(launch: Launch) -> tuple[Any, ...]:
    return (sorted(launch.constants.items()), launch.num_warps, launch.num_stages)
