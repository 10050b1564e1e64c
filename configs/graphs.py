"""The graph contracts: names, dtypes and symbolic shapes at the boundary of each graph.

Symbols: B images, N objects, I and G either 1 or N (shared by all objects, or one each),
P prompt points, M memories, K object pointers. Everything else is a number fixed by the
model. The exporter declares exactly these, the runtime checks arrays against the manifest's
copy of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from .models import ModelConfig

Dim = int | str
DType = Literal["float32", "float16", "bfloat16", "int32", "int64", "bool"]


@dataclass(frozen=True)
class TensorSpec:
    name: str
    dtype: DType
    #: a number, or the name of a dynamic dimension
    shape: tuple[Dim, ...]


@dataclass(frozen=True)
class GraphSpec:
    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @property
    def dynamic(self) -> tuple[str, ...]:
        """Names of the dynamic dimensions, in order of appearance."""
        seen: dict[str, None] = {}
        for tensor in (*self.inputs, *self.outputs):
            seen.update((d, None) for d in tensor.shape if isinstance(d, str))
        return tuple(seen)


def engine_specs(config: ModelConfig) -> dict[str, GraphSpec]:
    """The graphs that engines are built from: the separate ones, of which variants exist."""
    return {name: spec for name, spec in graph_specs(config).items() if name != TRACK_STEP}


def _f(name: str, *shape: Dim) -> TensorSpec:
    return TensorSpec(name, "float32", shape)


#: variants of a graph that a bundle may carry beside it for engines, see :func:`variant_name`:
#: attention in one piece, in memory attention as a node of ours (plugins/memory_cross_attention);
#: values at full width, what fused attention kernels expect; and those as ONNX's own operator
WHOLE, FULL, OPERATOR = "whole", "full", "operator"
#: and for processors with bfloat16 units, whose heavy products are operators of ours (plugins/cpu)
CPU = "cpu"
#: the TensorRT from which on it imports that operator
OPERATOR_RELEASE = (10, 15)


def variant_name(graph: str, variant: str) -> str:
    """Name in a bundle of a graph's variant, which has the graph's inputs and outputs."""
    return f"{graph}.{variant}"


#: the graph that tracks a frame without prompts in one call; the others do the same in three
TRACK_STEP = "track_step"
#: the same work in two graphs: what all objects of a frame share, and the rest per object
TRACK_FRAME, TRACK_OBJECT = "track_step.frame", "track_step.object"


def per_object_specs(config: ModelConfig) -> dict[str, GraphSpec]:
    """The graphs that track objects sequentially, keyed by name; a bundle may lack them.

    frame_tokens [hw, C] of each frame are those after the first layer's self-attention.
    """
    h, c, step = config.embed_size, config.hidden_dim, graph_specs(config)[TRACK_STEP]
    embed = _f("image_embed", "B", c, h, h)
    made, taken = (_f("frame_tokens", count, h * h, c) for count in ("B", "I"))
    return {
        TRACK_FRAME: GraphSpec(TRACK_FRAME, (embed,), (made,)),
        TRACK_OBJECT: GraphSpec(TRACK_OBJECT, (taken, *step.inputs), step.outputs),
    }


def graph_specs(config: ModelConfig) -> dict[str, GraphSpec]:
    """The graphs of a bundle for this model, keyed by name."""
    makers = (
        _image_encoder,
        _memory_attention,
        _mask_decoder,
        _mask_prompt,
        _memory_encoder,
        _track_step,
    )
    specs = [make(config) for make in makers]
    return {spec.name: spec for spec in specs}


def _image_encoder(config: ModelConfig) -> GraphSpec:
    size, h, c = config.image_size, config.embed_size, config.hidden_dim
    return GraphSpec(
        "image_encoder",
        (_f("image", "B", 3, size, size),),
        (
            _f("image_embed", "B", c, h, h),
            _f("prompt_embed", "B", c, h, h),
            _f("high_res_0", "B", c // 8, 4 * h, 4 * h),
            _f("high_res_1", "B", c // 4, 2 * h, 2 * h),
        ),
    )


def _memory_attention(config: ModelConfig) -> GraphSpec:
    h, c, m = config.embed_size, config.hidden_dim, config.mem_dim
    return GraphSpec(
        "memory_attention",
        (
            _f("image_embed", "I", c, h, h),
            _f("memory", "N", "M", m, h, h),
            TensorSpec("memory_tpos", "int64", ("N", "M")),
            _f("obj_ptrs", "N", "K", c),
            _f("obj_ptr_pos", "N", "K"),
        ),
        (_f("conditioned_embed", "N", c, h, h),),
    )


def _mask_decoder(config: ModelConfig) -> GraphSpec:
    h, low, c = config.embed_size, config.mask_size, config.hidden_dim
    return GraphSpec(
        "mask_decoder",
        (
            _f("conditioned_embed", "N", c, h, h),
            _f("high_res_0", "G", c // 8, 4 * h, 4 * h),
            _f("high_res_1", "G", c // 4, 2 * h, 2 * h),
            _f("point_coords", "N", "P", 2),
            TensorSpec("point_labels", "int32", ("N", "P")),
            _f("mask_input", "N", 1, low, low),
            _f("has_mask_input", "N"),
            TensorSpec("multimask_output", "bool", (1,)),
        ),
        (
            _f("all_mask_logits", "N", 4, low, low),
            _f("all_ious", "N", 4),
            _f("mask_logits", "N", 1, low, low),
            _f("iou", "N", 1),
            _f("obj_ptr", "N", c),
            _f("object_score", "N", 1),
        ),
    )


def _mask_prompt(config: ModelConfig) -> GraphSpec:
    size, low, c = config.image_size, config.mask_size, config.hidden_dim
    return GraphSpec(
        "mask_prompt",
        (_f("mask", "N", 1, size, size),),
        (
            _f("mask_input", "N", 1, low, low),
            _f("mask_logits", "N", 1, low, low),
            _f("object_score", "N", 1),
            _f("no_obj_ptr", 1, c),
        ),
    )


def _memory_encoder(config: ModelConfig) -> GraphSpec:
    h, low, c = config.embed_size, config.mask_size, config.hidden_dim
    m = config.mem_dim
    return GraphSpec(
        "memory_encoder",
        (
            _f("image_embed", "I", c, h, h),
            _f("mask_logits", "N", 1, low, low),
            _f("object_score", "N", 1),
            TensorSpec("binarize", "bool", (1,)),
        ),
        (_f("memory", "N", m, h, h),),
    )


def _track_step(config: ModelConfig) -> GraphSpec:
    h, low, c = config.embed_size, config.mask_size, config.hidden_dim
    m = config.mem_dim
    return GraphSpec(
        TRACK_STEP,
        (
            _f("image_embed", "I", c, h, h),
            _f("high_res_0", "G", c // 8, 4 * h, 4 * h),
            _f("high_res_1", "G", c // 4, 2 * h, 2 * h),
            _f("memory", "N", "M", m, h, h),
            TensorSpec("memory_tpos", "int64", ("N", "M")),
            _f("obj_ptrs", "N", "K", c),
            _f("obj_ptr_pos", "N", "K"),
        ),
        (
            _f("mask_logits", "N", 1, low, low),
            _f("iou", "N", 1),
            _f("obj_ptr", "N", c),
            _f("object_score", "N", 1),
            _f("all_ious", "N", 4),
            _f("new_memory", "N", m, h, h),
        ),
    )


#: outputs that the next graph takes: they stay on the device
_KEPT = {
    "image_encoder": ("image_embed", "prompt_embed", "high_res_0", "high_res_1"),
    "memory_attention": ("conditioned_embed",),
    "memory_encoder": ("memory",),
}


#: those that stay when kernels make masks of them
_MASKS = {
    "mask_decoder": ("all_mask_logits", "mask_logits"),
    "mask_prompt": ("mask_input", "mask_logits"),
}


def kept_outputs(graph: str, *, masks: bool) -> tuple[str, ...]:
    """Names of a graph's outputs that stay on the device, `masks` with kernels for them."""
    return _KEPT.get(graph, ()) + (_MASKS.get(graph, ()) if masks else ())


def output_shapes(
    spec: GraphSpec, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Shapes of a graph's outputs for inputs of those shapes."""
    symbols = {
        dim: size
        for t in spec.inputs
        for dim, size in zip(t.shape, shapes[t.name], strict=True)
        if isinstance(dim, str)
    }
    return {
        t.name: tuple(symbols[d] if isinstance(d, str) else d for d in t.shape)
        for t in spec.outputs
    }
