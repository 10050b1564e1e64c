"""What a number was measured on: without it no number is printed."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import time
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

_PACKAGES = (
    "sam2rt", "numpy", "onnxruntime", "onnxruntime-gpu", "tensorrt", "torch", "transformers",
)  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """One machine: processor, cores given to this process, memory in GiB, versions."""

    processor: str
    cores: int
    memory_gib: float
    system: str
    python: str
    versions: dict[str, str]
    #: float32 matrix rate of all cores together, GFLOP/s, best of several products
    matrix_gflops: float

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        versions = ", ".join(f"{k} {v}" for k, v in self.versions.items())
        return (
            f"{self.processor}, {self.cores} cores, {self.memory_gib:.0f} GiB, {self.system}, "
            f"Python {self.python}; {versions}; {self.matrix_gflops:.0f} GFLOP/s float32"
        )


def this_machine() -> Machine:
    """Describe this machine; measures its matrix rate, about one second."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return Machine(
        processor=_processor(),
        cores=len(os.sched_getaffinity(0)),
        memory_gib=pages / 2**30,
        system=f"{platform.system()} {platform.release().split('-')[0]}",
        python=platform.python_version(),
        versions=_versions(),
        matrix_gflops=matrix_rate(),
    )


def matrix_rate(side: int = 2048, tries: int = 6) -> float:
    """Best float32 matrix product rate of numpy's library on all cores, GFLOP/s."""
    generator = np.random.default_rng(0)
    a, b = (generator.standard_normal((side, side), np.float32) for _ in range(2))
    seconds = []
    for _ in range(tries):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return 2e-9 * side**3 / min(seconds)


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            names = [line.split(":", 1)[1] for line in file if line.startswith("model name")]
        return names[0].strip()
    except (OSError, IndexError):
        return platform.processor() or platform.machine()


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found
