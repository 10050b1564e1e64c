"""The graphs that ONNX Runtime runs of a bf16 bundle on processors with bfloat16 units.

Attentions are whole: the operator goes over tiles itself. The mask decoder is float32: it takes a
fiftieth of a frame's time, and its logits are the masks. So are mask prompts, which are exact.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import ModelProto

from ....configs.graphs import CPU, engine_specs, variant_name
from ...model.sam2 import Sam2
from ..modules import GraphVariant, graph_modules
from ..onnx_from_module import onnx_from_module
from .operators import with_cpu_operators

_FLOAT32 = ("mask_decoder", "mask_prompt")


def cpu_variant_models(model: Sam2, opset: int) -> Iterator[tuple[str, str, ModelProto]]:
    """(name in the manifest, graph whose contract it has, ONNX model) of each variant."""
    modules = graph_modules(model, GraphVariant(query_block=None))
    for graph, spec in engine_specs(model.config).items():
        made = onnx_from_module(modules[graph], spec, opset)
        if graph not in _FLOAT32:
            made = with_cpu_operators(made)
        yield variant_name(graph, CPU), graph, made
