"""sam2rt with one of its optimisations taken away, each a system of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ....configs.bundle import Bundle
from ....configs.errors import InputError
from ....configs.graphs import TRACK_STEP, graph_specs

if TYPE_CHECKING:
    from ....export.checkpoint.load import Checkpoint

#: graphs that hold memory attention, of which the exporter knows several variants
_VARYING = ("memory_attention", TRACK_STEP)


@dataclass(frozen=True)
class Ablation:
    """What is taken away.

    variant: fields of export.graphs.modules.GraphVariant. options: of Sam2rtSystem.
    """

    what: str
    variant: Mapping[str, Any] | None = None
    options: Mapping[str, Any] | None = None


ABLATIONS: dict[str, Ablation] = {
    "full-values": Ablation("cross-attention mixes full-width values", {"fold_values": False}),
    "whole-attention": Ablation("attention not cut into blocks of queries", {"query_block": None}),
    "split": Ablation("separate graphs on frames without prompts", options={"split": True}),
    "unshared": Ablation(
        "separate graphs, the first self-attention once per object",
        options={"split": True, "unshared": True},
    ),
    "batch-of-one": Ablation("one object in a call of a graph", options={"objects_per_call": 1}),
    "plain-session": Ablation("default session options, nothing bound", options={"plain": True}),
    # the best other variant: what a careful exporter of the original's modules makes, in ONNX
    # Runtime as it comes
    "other-onnx": Ablation(
        "full-width values, whole attention, separate graphs, default options",
        {"fold_values": False, "query_block": None},
        {"split": True, "plain": True},
    ),
}


def possible_ablations(bundle: Bundle) -> tuple[str, ...]:
    """All but those that take away what the bundle does not have."""
    return tuple(name for name in ABLATIONS if name != "split" or TRACK_STEP in bundle.graphs)


class VariantGraphs:
    """Exports the other variants of a bundle's graphs that ablations ask for, each once."""

    def __init__(self, bundle: Bundle, checkpoint: Checkpoint | None, folder: Path) -> None:
        """`folder`: where the graphs are written; it must outlive the systems that use them."""
        self._bundle, self._checkpoint, self._folder = bundle, checkpoint, folder
        self._made: dict[tuple[tuple[str, Any], ...], tuple[dict[str, str], float]] = {}

    def options(self, name: str) -> tuple[dict[str, Any], float]:
        """Options of Sam2rtSystem for an ablation, and the seconds its export took.

        Raises InputError for an unknown ablation, one of a graph that the bundle has not, or one
        that exports anew without a checkpoint.
        """
        if name not in ABLATIONS:
            raise InputError(f"unknown ablation {name!r}: known are {', '.join(ABLATIONS)}")
        ablation = ABLATIONS[name]
        options = dict(ablation.options or {})
        if name not in possible_ablations(self._bundle):
            raise InputError(
                f"bundle {self._bundle.path} has separate graphs alone: nothing to split"
            )
        if ablation.variant is None:
            return options, 0.0
        leave = {TRACK_STEP} if options.get("split") else set()
        graphs, seconds = self._graphs(dict(ablation.variant), leave)
        return {**options, "graphs": graphs}, seconds

    def _graphs(self, variant: dict[str, Any], leave: set[str]) -> tuple[dict[str, str], float]:
        key = (*sorted(variant.items()), *((name, None) for name in sorted(leave)))
        if key not in self._made:
            start = time.perf_counter()
            graphs = self._exported(variant, leave)
            self._made[key] = graphs, time.perf_counter() - start
        return self._made[key]

    def _exported(self, variant: dict[str, Any], leave: set[str]) -> dict[str, str]:
        if self._checkpoint is None:
            raise InputError(
                "another variant of a graph is exported from the weights: give --checkpoint"
            )
        import onnx

        from ....export.graphs.modules import GraphVariant, graph_modules
        from ....export.graphs.onnx_from_module import onnx_from_module
        from ....export.graphs.precision import lowered
        from ....export.model.sam2 import build_model

        bundle = self._bundle
        model = build_model(bundle.model)
        model.load_state_dict(self._checkpoint.state, strict=True)
        modules = graph_modules(model, GraphVariant(**variant))
        specs = graph_specs(bundle.model)
        target = self._folder / f"variant{len(self._made)}"
        target.mkdir()
        made = {}
        for name in _VARYING:
            if name in leave or name not in bundle.graphs:
                continue
            graph = onnx_from_module(modules[name], specs[name], bundle.opset)
            if bundle.precision in ("fp16", "bf16"):
                graph = lowered(graph, bundle.precision)
            made[name] = str(target / f"{name}.onnx")
            onnx.save_model(graph, made[name])
        return made
