"""ONNX Runtime on processors with bfloat16 units: a bf16 or int8 bundle's variants for CPUs.

ONNX Runtime has no bfloat16 kernels for x86. The variants are float32 graphs whose heavy products
are operators of ours (plugins/cpu), a library that is compiled on the machine. Where it or the
units are missing such a bundle is refused in one line, never run in another precision.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ...configs.bundle import CPU_PRECISIONS, Bundle
from ...configs.errors import InputError, SessionError
from ...configs.graphs import CPU, engine_specs, variant_name
from ...plugins.cpu import library
from ..arrays import Array
from ..session import Into, check_inputs
from .onnxruntime_session import OnnxRuntimeSession

ATTENTION = "memory_attention"


def has_cpu_variants(bundle: Bundle) -> bool:
    """Whether a bundle carries the graphs that :class:`Bfloat16Session` runs."""
    names = (variant_name(graph, CPU) for graph in engine_specs(bundle.model))
    return bundle.precision in CPU_PRECISIONS and all(name in bundle.graphs for name in names)


def runs_bfloat16(bundle: Bundle) -> bool:
    """Whether ONNX Runtime runs the bundle in bfloat16 on this machine's CPU."""
    return has_cpu_variants(bundle) and not library.lacking()


class Bfloat16Session(OnnxRuntimeSession):
    """Runs the variants for CPUs of a bf16 or int8 bundle, in three calls a frame.

    Objects pass memory attention one after another, in the memory of one.
    """

    def check_device(self) -> None:
        """Refuse, with SessionError, a machine without the units or the operators."""
        ort = self._onnxruntime()
        if missing := library.lacking():
            why, _, remedy = missing.rpartition(": ")
            raise SessionError(
                f"onnxruntime {ort.__version__} cannot run the {self.bundle.precision} bundle "
                f"{self.bundle.path} on the CPU ({why}): {remedy}"
            )

    def run(
        self, graph: str, inputs: Mapping[str, Array], into: Into | None = None
    ) -> dict[str, Array]:
        """Run one graph; see :class:`~sam2rt.runtime.session.Session`."""
        if graph not in self.graphs:
            known = ", ".join(self.graphs)
            raise InputError(f"unknown graph '{graph}': expected one of {known}")
        if graph != ATTENTION:
            return super().run(graph, inputs, into)
        checked = check_inputs(self.bundle.graphs[graph].spec, inputs)
        made = []
        for i in range(len(checked["memory"])):
            own = {name: a if len(a) == 1 else a[i : i + 1] for name, a in checked.items()}
            made.append(super().run(graph, own, into))
        return {name: np.concatenate([one[name] for one in made]) for name in made[0]}

    @property
    def graphs(self) -> tuple[str, ...]:
        """The separate graphs; what ``track_step`` does, they do in three calls."""
        return tuple(engine_specs(self.bundle.model))

    @property
    def fused(self) -> bool:
        """Frames take the separate graphs: only they have variants."""
        return False

    def _named(self, graph: str) -> str:
        name = variant_name(graph, CPU)
        return name if name in self.bundle.graphs else graph

    def _opened_first(self) -> list[str]:
        return list(self.graphs)

    def _options(self, ort: Any) -> Any:
        options = super()._options(ort)
        options.register_custom_ops_library(str(library.load().path))
        return options
