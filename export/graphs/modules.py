"""The modules that are exported, one per graph, thin rewritings of the reference.

:func:`graph_modules` gives them keyed and called by the contracts of ``configs.graphs``: inputs
positional in the contract's order, outputs a tensor or a tuple in the contract's order. The
modules hold folded copies of the weights, so build them after loading a checkpoint.
``onnx_from_module.onnx_from_module`` turns each into ONNX.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass

import torch
from torch import nn

from ...configs.graphs import TRACK_FRAME, TRACK_OBJECT, TRACK_STEP
from ..model.sam2 import Sam2
from .decoder import MaskDecoderGraph, MaskPromptGraph
from .encoder import ImageEncoderGraph
from .memory import MemoryAttentionGraph, MemoryEncoderGraph, ValueProjection
from .track_step import TrackFrameGraph, TrackObjectGraph, TrackStepGraph


@dataclass(frozen=True)
class GraphVariant:
    """Choices that change speed and memory but no result.

    The defaults are the fastest and smallest on CPU cores; an engine that fuses attention into
    one kernel prefers whole attentions (query_block None) and perhaps full-width values.
    """

    #: queries per attention product at most; None: all at once
    query_block: int | None = 512
    #: cross-attention mixes raw memories, mem_dim wide, instead of projected values
    fold_values: bool = True
    #: value projections of memory attention keep their bias, where else it moves behind the
    #: attention: builders of engines do not fuse an attention whose queries, keys and values
    #: are bare products of one tensor
    value_bias: bool = False
    #: the first layer's queries are repeated for each object before they meet its memories, where
    #: else the product broadcasts them: builders fuse no attention whose batches differ
    queries_per_object: bool = False


@torch.no_grad()
def graph_modules(model: Sam2, variant: GraphVariant = GraphVariant()) -> dict[str, nn.Module]:
    """The exported modules of a model, by graph name, in eval mode; the model is untouched."""
    model = copy.deepcopy(model).eval().requires_grad_(False)
    values = ValueProjection(variant.fold_values, variant.value_bias)
    per_object = variant.queries_per_object
    attention = MemoryAttentionGraph(model, variant.query_block, values, per_object)
    decoder, encoder = MaskDecoderGraph(model), MemoryEncoderGraph(model)
    modules: dict[str, nn.Module] = {
        "image_encoder": ImageEncoderGraph(model, variant.query_block),
        "memory_attention": attention,
        "mask_decoder": decoder,
        "mask_prompt": MaskPromptGraph(model),
        "memory_encoder": encoder,
        TRACK_STEP: TrackStepGraph(model, attention, decoder, encoder),
    }
    return {name: module.eval() for name, module in modules.items()}


def per_object_modules(model: Sam2, modules: dict[str, nn.Module]) -> dict[str, nn.Module]:
    """The modules of ``configs.graphs.per_object_specs``, from those of :func:`graph_modules`."""
    step = modules[TRACK_STEP]
    assert isinstance(step, TrackStepGraph)
    return {
        TRACK_FRAME: TrackFrameGraph(model, step.attention).eval(),
        TRACK_OBJECT: TrackObjectGraph(model, step).eval(),
    }
