"""The graphs that ONNX Runtime runs of a bf16 or int8 bundle on processors with bfloat16 units.

Attentions are whole: the operator goes over tiles itself. The mask decoder is float32: it takes a
fiftieth of a frame's time, and its logits are the masks. So are mask prompts, which are exact. In
an int8 bundle the image encoder's dense layers are products of eight bits, as in its other graphs;
the encoder's attentions and all of memory attention are as in a bf16 bundle.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import ModelProto

from ....configs.bundle import Precision
from ....configs.graphs import CPU, engine_specs, variant_name
from ...model.sam2 import Sam2
from ..int8 import QUANTISED_GRAPH, quantised
from ..modules import GraphVariant, graph_modules
from ..onnx_from_module import onnx_from_module
from .operators import with_cpu_operators

_FLOAT32 = ("mask_decoder", "mask_prompt")


def cpu_variant_models(
    model: Sam2, opset: int, precision: Precision
) -> Iterator[tuple[str, str, ModelProto]]:
    """(name in the manifest, graph whose contract it has, ONNX model) of each variant."""
    modules = graph_modules(model, GraphVariant(query_block=None))
    for graph, spec in engine_specs(model.config).items():
        made = onnx_from_module(modules[graph], spec, opset)
        if precision == "int8" and graph == QUANTISED_GRAPH:
            made = quantised(made)
        if graph not in _FLOAT32:
            made = with_cpu_operators(made)
        yield variant_name(graph, CPU), graph, made
