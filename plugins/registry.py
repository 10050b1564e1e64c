"""The table of every kernel, above the modules that describe them."""

from __future__ import annotations

import dataclasses
import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from . import components, memory_cross_attention, pixels
from .compiling import compile_kernel
from .kernel import Kernel


@dataclass(frozen=True)
class PluginInfo:
    """One line of ``sam2rt plugins``."""

    name: str
    #: "operator" is a node of the graph, "kernel" runs beside the engine
    kind: str
    summary: str
    architectures: tuple[int, ...]
    sha256: str


@dataclass(frozen=True)
class LaunchInfo:
    """What the compiler makes of one launch of a kernel, see :class:`.compiling.Compiled`."""

    name: str
    #: compile-time sizes such as BLOCK_Q
    constants: dict[str, int]
    warps: int
    stages: int
    registers: int
    #: bytes
    shared: int
    spills: int
    waits: int | None
    warnings: tuple[str, ...]


def kernels() -> dict[str, tuple[str, str, Kernel]]:
    """Every kernel by name: (kind, summary, kernel)."""
    return {
        "sam2rt::MemoryCrossAttention": (
            "operator",
            "memory cross-attention, keys cut into pieces, values at memory width",
            memory_cross_attention.ATTENTION,
        ),
        "wide_attention": (
            "kernel",
            "the same with values as wide as keys, for self-attention",
            memory_cross_attention.WIDE_ATTENTION,
        ),
        "rotate_keys": (
            "kernel",
            "rotary embedding of memory keys, pointer tokens left alone",
            memory_cross_attention.ROTATE_KEYS,
        ),
        **{
            name: ("kernel", summary, kernel)
            for module in (pixels, components)
            for name, (summary, kernel) in module.KERNELS.items()
        },
    }


def list_plugins() -> list[PluginInfo]:
    """Name, kind, summary, architectures and hash of every operator and kernel."""
    return [
        PluginInfo(name, kind, summary, kernel.architectures, kernel.digest())
        for name, (kind, summary, kernel) in kernels().items()
    ]


def list_launches(arch: int) -> Iterator[LaunchInfo]:
    """Every launch of every kernel, compiled for sm_`arch` in bfloat16; some seconds each.

    Raises MissingExtraError without Triton.
    """
    for name, (_, _, kernel) in kernels().items():
        for launch in kernel.candidates(arch) if arch in kernel.architectures else ():
            code = compile_kernel(kernel, arch, launch=launch)
            yield LaunchInfo(
                name,
                dict(launch.constants),
                launch.num_warps,
                launch.num_stages,
                code.registers,
                code.shared,
                code.spills,
                code.waits,
                code.warnings,
            )


def digests() -> dict[str, str]:
    """Hash of every kernel by name, as the record of an engine keeps it."""
    return {info.name: info.sha256 for info in list_plugins()}


def describe(info: PluginInfo) -> dict[str, Any]:
    return dataclasses.asdict(info)


def triton_present() -> bool:
    return importlib.util.find_spec("triton") is not None
