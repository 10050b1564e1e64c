"""Variants of the graphs for engines, beside the graphs for CPU cores.

The graphs of a bundle cut attention into blocks of queries and mix narrow values: least
memory and time on a CPU. An engine fuses a whole attention into one kernel, and which variant
is fastest is measured where it is built (``sam2rt build --attention auto``). These are equal
rewritings, named ``<graph>.<variant>`` in the manifest; a CPU session never opens these.
"""

from __future__ import annotations

from collections.abc import Iterator

from onnx import ModelProto

from ...configs.bundle import HALF_PRECISIONS, Precision
from ...configs.graphs import FULL, OPERATOR, WHOLE, graph_specs, variant_name
from ..model.sam2 import Sam2
from .modules import GraphVariant, graph_modules
from .onnx_from_module import onnx_from_module
from .plugin_nodes import with_attention_nodes, with_attention_operators
from .precision import lowered

#: what each name of a variant stands for
WHOLE_ATTENTION = GraphVariant(query_block=None)
FULL_VALUES = GraphVariant(
    query_block=None, fold_values=False, value_bias=True, queries_per_object=True
)

_ENCODER, _ATTENTION = "image_encoder", "memory_attention"


def variant_models(
    model: Sam2, opset: int, precision: Precision
) -> Iterator[tuple[str, str, ModelProto]]:
    """(name in the manifest, graph whose contract it has, ONNX model) of each variant."""
    specs = graph_specs(model.config)
    whole = graph_modules(model, WHOLE_ATTENTION)
    wide = graph_modules(model, FULL_VALUES)
    for graph, variant, module in (
        (_ENCODER, WHOLE, whole[_ENCODER]),
        (_ATTENTION, WHOLE, whole[_ATTENTION]),
        (_ATTENTION, FULL, wide[_ATTENTION]),
    ):
        made = onnx_from_module(module, specs[graph], opset)
        if precision in HALF_PRECISIONS:
            made = lowered(made, precision)
        if (graph, variant) == (_ATTENTION, WHOLE) and _has_room(model):
            made = with_attention_nodes(made, model.config)
        if (graph, variant) == (_ATTENTION, FULL) and precision in HALF_PRECISIONS:
            # float32 has no kernel of it; yielded first, for who takes a model may change it
            operators = with_attention_operators(made)
            yield variant_name(graph, OPERATOR), graph, operators
        yield variant_name(graph, variant), graph, made


def _has_room(model: Sam2) -> bool:
    """Whether pointer tokens can be told from a memory by their number alone."""
    config = model.config
    return config.max_obj_ptrs * config.pointer_tokens < config.embed_size**2
