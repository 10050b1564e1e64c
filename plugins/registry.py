"""The table of every kernel, above the modules that describe them."""

from __future__ import annotations

import dataclasses
import importlib.util
from dataclasses import dataclass
from typing import Any

from . import components, memory_cross_attention, pixels
from .kernel import ARCHITECTURES, Kernel


@dataclass(frozen=True)
class PluginInfo:
    """One line of ``sam2rt plugins``."""

    name: str
    #: "operator" is a node of the graph, "kernel" runs beside the engine
    kind: str
    summary: str
    architectures: tuple[int, ...]
    sha256: str


def kernels() -> dict[str, tuple[str, str, Kernel]]:
    """Every kernel by name: (kind, summary, kernel)."""
    return {
        "sam2rt::MemoryCrossAttention": (
            "operator",
            "memory cross-attention, query rotation fused, values at memory width",
            memory_cross_attention.ATTENTION,
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
        PluginInfo(name, kind, summary, ARCHITECTURES, kernel.digest())
        for name, (kind, summary, kernel) in kernels().items()
    ]


def digests() -> dict[str, str]:
    """Hash of every kernel by name, as the record of an engine keeps it."""
    return {info.name: info.sha256 for info in list_plugins()}


def describe(info: PluginInfo) -> dict[str, Any]:
    return dataclasses.asdict(info)


def triton_present() -> bool:
    return importlib.util.find_spec("triton") is not None
