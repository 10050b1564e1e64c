"""What TensorRT's ONNX parser cannot import, or imports badly, found without TensorRT.

:func:`check_importable` is how the export refuses such graphs; :func:`tensorrt_problems` names
every node that would fail or hurt. The operators and element types come from
``data/tensorrt_operators.json``, which cites its source; the other rules are those of ``docs`` on
graphs for engines: shapes that depend on data, control flow, scattering, antialiased resizing,
float64, int64 values beyond int32.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import onnx_ir as ir
from onnx_ir.passes import common as passes

from ...configs.errors import SessionError

#: the oldest TensorRT that engines are built with
OLDEST = (10, 13)
_TABLE = Path(__file__).parents[1] / "data" / "tensorrt_operators.json"
#: a tensor of an engine has at most this many dimensions
MAX_RANK = 8
INT32_MAX = (1 << 31) - 1

#: operators the parser takes and engines suffer from, with what to write instead
HOSTILE = {
    "NonZero": "its shape depends on data: use Where",
    "NonMaxSuppression": "its shape depends on data",
    "TopK": "use Greater and Where for a few values",
    "If": "control flow splits the engine: compute both and use Where",
    "Loop": "control flow splits the engine: unroll it",
    "Scan": "control flow splits the engine: unroll it",
    "Scatter": "stops fusion: use Where or Concat",
    "ScatterElements": "stops fusion: use Where or Concat",
    "ScatterND": "stops fusion: use Where or Concat",
    "Einsum": "stops fusion: use MatMul and Transpose",
    "Range": "a shape computed at run time: use a constant",
}

#: inputs that must be known when the engine is built
CONSTANT_INPUTS = {
    "ReduceMax": 1,
    "ReduceMean": 1,
    "ReduceMin": 1,
    "ReduceSum": 1,
    "Squeeze": 1,
    "Unsqueeze": 1,
    "Split": 1,
    "Pad": 1,
    "Resize": 2,
}
#: inputs that may be computed, but from shapes and constants alone
SHAPE_INPUTS = {"Reshape": 1, "Expand": 1, "ConstantOfShape": 0, "Tile": 1}


@functools.cache
def _table() -> dict[str, Any]:
    table: dict[str, Any] = json.loads(_TABLE.read_text(encoding="utf-8"))
    return table


def check_importable(model: onnx.ModelProto, name: str, release: tuple[int, int] = OLDEST) -> None:
    """Refuse the graph `name` if engines of it could not be built, or would be slow.

    release: of TensorRT, (major, minor), from which on the graph is to be importable. Bodies of
    custom nodes are looked into, since the parser imports them where there is no plugin.

    Raises SessionError naming the first operator and what to do about it.
    """
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    if problems := tensorrt_problems(model, release):
        more = f" and {len(problems) - 1} more" if len(problems) > 1 else ""
        raise SessionError(
            f"TensorRT cannot take the graph {name} ({problems[0]}{more}): export it without "
            "--engine-variants, for ONNX Runtime alone"
        )


def tensorrt_problems(model: onnx.ModelProto, release: tuple[int, int] = OLDEST) -> list[str]:
    """One line per problem: the node, what is wrong, what to do; empty when there is none.

    release: the oldest TensorRT that is to import the graph, (major, minor).
    """
    graph_model = ir.serde.deserialize_model(model)
    passes.ShapeInferencePass()(graph_model)
    first, last = _table()["opsets"]
    opset = graph_model.opset_imports.get("", 0)
    problems = [] if first <= opset <= last else [f"opset {opset} is not in {first}..{last}"]
    for name, value in graph_model.graph.initializers.items():
        problems += [f"initializer {name}: {text}" for text in _value_problems(value)]
    for node in graph_model.graph:
        named = f"{node.op_type} {node.name}"
        problems += [f"{named}: {text}" for text in _node_problems(node, release)]
    return problems


def _node_problems(node: ir.Node, release: tuple[int, int]) -> Iterator[str]:
    if node.domain not in ("", "ai.onnx"):
        yield f"operators of domain '{node.domain}' need a plugin"
        return
    types = _table()["operators"].get(node.op_type)
    if types is None:
        yield "the parser does not import this operator"
        return
    since = tuple(_table()["since"].get(node.op_type, OLDEST))
    if since > release:
        yield f"imported from TensorRT {_dotted(since)} on, expected by {_dotted(release)}"
    data = node.inputs[0] if node.inputs else None
    if data is not None and data.dtype is not None and _type_name(data.dtype) not in types:
        yield f"{_type_name(data.dtype)} is not among {', '.join(types)}"
    if node.op_type in HOSTILE:
        yield HOSTILE[node.op_type]
    for value in node.outputs:
        yield from _value_problems(value)
    yield from _input_problems(node)
    yield from _attribute_problems(node)


def _value_problems(value: ir.Value) -> Iterator[str]:
    if value.dtype == ir.DataType.DOUBLE:
        yield "float64 is cut down to float32"
    if value.shape is not None and len(value.shape) > MAX_RANK:
        yield f"{len(value.shape)} dimensions, at most {MAX_RANK} are possible"
    if value.const_value is not None and value.dtype == ir.DataType.INT64:
        numbers = value.const_value.numpy()
        # slices to the end are written as the largest int64, which the parser understands
        inside = numbers[np.abs(numbers) < np.iinfo(np.int64).max]
        if np.abs(inside).max(initial=0) > INT32_MAX:
            yield "int64 beyond int32"


def _input_problems(node: ir.Node) -> Iterator[str]:
    constant = CONSTANT_INPUTS.get(node.op_type)
    if constant is not None and not _is_constant(_input(node, constant)):
        yield f"input {constant} must be a constant"
    shape = SHAPE_INPUTS.get(node.op_type)
    if shape is not None and not _is_shape(_input(node, shape)):
        yield f"input {shape} depends on data"


def _attribute_problems(node: ir.Node) -> Iterator[str]:
    attributes = node.attributes
    if node.op_type == "Resize":
        if attributes.get_int("antialias", 0):
            yield "antialiasing is not supported: use two matrix products"
        if attributes.get_string("mode", "nearest") == "cubic":
            yield "cubic interpolation is not supported"
    if node.op_type == "Attention":
        yield from _fusion_problems(node)
    if node.op_type in ("LayerNormalization", "MaxPool", "Dropout"):
        used = [value for value in node.outputs[1:] if value.uses() or value.is_graph_output()]
        if used:
            yield "only the first output is supported"
    if node.op_type == "MatMul" and all(_tail(value) == (2, 2) for value in node.inputs[:1]):
        yield "products of 2x2 matrices are slow: write rotations as cos and sin"


def _fusion_problems(node: ir.Node) -> Iterator[str]:
    """Why no fused kernel takes an operator Attention; found with the vendor's builder."""
    if node.attributes.get_int("softmax_precision", 0):
        yield "softmax_precision is not supported: leave it out"
    shapes = [value.shape for value in node.inputs[:3] if value is not None]
    if any(shape is not None and len(shape) != 4 for shape in shapes):
        yield "expected queries, keys and values [N, heads, T, C]: unsqueeze the heads"
    widths = {shape[-1] for shape in shapes if shape is not None}
    if len({width for width in widths if isinstance(width, int)}) > 1:
        yield "values of another width than keys have no fused kernel: project them to it"


def _input(node: ir.Node, index: int) -> ir.Value | None:
    return node.inputs[index] if index < len(node.inputs) else None


def _is_constant(value: ir.Value | None) -> bool:
    """Absent, an initializer, or the output of a Constant node."""
    if value is None or value.const_value is not None or value.is_initializer():
        return True
    producer = value.producer()
    return producer is not None and producer.op_type == "Constant"


def _is_shape(value: ir.Value | None) -> bool:
    """Computed from constants and from the shapes of tensors, never from their contents."""
    if value is None or _is_constant(value):
        return True
    producer = value.producer()
    if producer is None:
        return False
    return producer.op_type in ("Shape", "Size") or all(_is_shape(v) for v in producer.inputs)


def _tail(value: ir.Value | None) -> tuple[Any, ...] | None:
    if value is None or value.shape is None or len(value.shape) < 2:
        return None
    return tuple(value.shape[-2:])


def _dotted(release: tuple[int, ...]) -> str:
    return ".".join(map(str, release))


def _type_name(dtype: ir.DataType) -> str:
    names = {"FLOAT": "float32", "DOUBLE": "float64"}
    return names.get(dtype.name, dtype.name.lower())
