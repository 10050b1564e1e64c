"""Every graph of a bundle: made of the model, and written as files with common weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from onnx import ModelProto

from ...configs.bundle import GraphEntry, Precision, bundle_file, check_graph_file
from ...configs.graphs import (
    OPERATOR,
    OPERATOR_RELEASE,
    GraphSpec,
    engine_specs,
    graph_specs,
    per_object_specs,
    variant_name,
)
from ...configs.progress import Progress, silent
from ..model.sam2 import Sam2
from .cpu.variants import cpu_variant_models
from .int8 import QUANTISED_GRAPH, quantised
from .modules import GraphVariant, graph_modules, per_object_modules
from .onnx_from_module import onnx_from_module
from .precision import EXACT_GRAPHS, lowered
from .tensorrt_rules import OLDEST, check_importable
from .variants import variant_models
from .weights_file import WeightsFile

DEFAULT_OPSET = 20
#: side of the embedding from which objects are tracked sequentially: as many at a time
#: need as many times the memory then, and are no faster
PER_OBJECT_FROM = 32


@dataclass(frozen=True)
class GraphOptions:
    """How a model is exported.

    `engine_variants` adds what ``sam2rt build`` chooses from, `cpu_variants` what ONNX Runtime
    runs of a bf16 or int8 bundle on processors with bfloat16 units.
    """

    opset: int = DEFAULT_OPSET
    precision: Precision = "fp32"
    variant: GraphVariant = field(default_factory=GraphVariant)
    engine_variants: bool = False
    cpu_variants: bool = False


@dataclass(frozen=True)
class MadeGraph:
    """One graph: its name in the manifest, its contract, the ONNX model."""

    name: str
    spec: GraphSpec
    model: ModelProto


def made_graphs(
    model: Sam2, options: GraphOptions, progress: Progress = silent
) -> Iterator[MadeGraph]:
    """Export the graphs of a model one after the other, so that one at a time is in memory.

    Raises SessionError when engines are to be built and TensorRT could not read a graph.
    """
    engine_graphs = engine_specs(model.config) if options.engine_variants else {}
    specs, modules = graph_specs(model.config), graph_modules(model, options.variant)
    if model.config.embed_size >= PER_OBJECT_FROM:
        specs |= per_object_specs(model.config)
        modules |= per_object_modules(model, modules)
    for index, (name, module) in enumerate(modules.items()):
        progress(f"exporting {name}", index, len(specs))
        graph = onnx_from_module(module, specs[name], options.opset)
        graph = _in_precision(graph, name, options.precision)
        if name in engine_graphs:
            check_importable(graph, name)
        yield MadeGraph(name, specs[name], graph)
    if options.engine_variants:
        for name, contract, graph in variant_models(model, options.opset, options.precision):
            newer = name == variant_name(contract, OPERATOR)
            check_importable(graph, name, OPERATOR_RELEASE if newer else OLDEST)
            yield MadeGraph(name, specs[contract], graph)
    if options.cpu_variants:
        for name, contract, graph in cpu_variant_models(model, options.opset, options.precision):
            yield MadeGraph(name, specs[contract], graph)


def _in_precision(graph: ModelProto, name: str, precision: Precision) -> ModelProto:
    if precision == "int8":
        return quantised(graph) if name == QUANTISED_GRAPH else graph
    if precision == "fp32" or name in EXACT_GRAPHS:
        return graph
    return lowered(graph, precision)


def write_graphs(folder: Path, graphs: Iterable[MadeGraph]) -> dict[str, GraphEntry]:
    """Write graphs and the file of their weights into `folder`; the manifest's entries."""
    with WeightsFile(folder) as weights:
        written = {
            made.name: (made.spec, weights.write(made.model, folder / f"{made.name}.onnx"))
            for made in graphs
        }
    common = (bundle_file(folder, weights.path.name),)
    entries = {
        name: GraphEntry(spec, bundle_file(folder, f"{name}.onnx"), common if outside else ())
        for name, (spec, outside) in written.items()
    }
    for entry in entries.values():
        # what this version would not load, it does not write
        check_graph_file(folder, entry)
    return entries
