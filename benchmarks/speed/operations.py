"""How many matrix operations a graph does, counted from its nodes at given sizes.

Products of matrices, convolutions and attentions count two operations per multiply-add; all
else counts nothing, so what a stage reaches of the machine's matrix rate includes the time of
everything that is no product.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...configs.graphs import GraphSpec

Shape = tuple[int, ...]
#: initialisers above so many bytes are weights, of which the shape alone matters
_SMALL = 4096


def graph_operations(path: Path, spec: GraphSpec, sizes: Mapping[str, int]) -> float | None:
    """Operations of one call of a bundle's graph; None where they cannot be counted."""
    shapes = {
        t.name: tuple(sizes[d] if isinstance(d, str) else d for d in t.shape) for t in spec.inputs
    }
    return file_operations(str(path), tuple(sorted(shapes.items())))


@functools.lru_cache(maxsize=256)
def file_operations(path: str, shapes: tuple[tuple[str, Shape], ...]) -> float | None:
    """Operations of an ONNX file for inputs of these shapes; None where they cannot be counted.

    That is without the package onnx, or where a product's shape depends on values.
    """
    try:
        import onnx
    except ImportError:
        return None
    return model_operations(onnx.load_model(path, load_external_data=False), dict(shapes))


def model_operations(model: Any, shapes: Mapping[str, Shape]) -> float | None:
    """Operations of an ONNX model (which is changed) for inputs of these shapes."""
    import onnx

    _set_shapes(model.graph, shapes)
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    known = _known_shapes(inferred.graph)
    total = 0.0
    for node in inferred.graph.node:
        count = _COUNTS.get(node.op_type)
        if count is None:
            continue
        inputs = [known.get(name) for name in node.input]
        output = known.get(node.output[0])
        try:
            total += count(node, inputs, output)
        except _UnknownShape:
            return None
    return total


class _UnknownShape(Exception):
    """A shape that a count needs and inference did not find."""


def _set_shapes(graph: Any, shapes: Mapping[str, Shape]) -> None:
    """Fixed input shapes; what was inferred for free ones goes, and large weights with it."""
    for value in graph.input:
        if value.name in shapes:
            dims = value.type.tensor_type.shape.dim
            for dim, size in zip(dims, shapes[value.name], strict=True):
                dim.dim_value = size
    for output in graph.output:
        output.type.tensor_type.ClearField("shape")
    del graph.value_info[:]
    for tensor in graph.initializer:
        if len(tensor.raw_data) > _SMALL:
            tensor.ClearField("raw_data")
            # a place elsewhere: what is not there need not be read
            tensor.data_location = 1
            entry = tensor.external_data.add()
            entry.key, entry.value = "location", "left_out"


def _known_shapes(graph: Any) -> dict[str, Shape]:
    known = {tensor.name: tuple(tensor.dims) for tensor in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        dims = value.type.tensor_type.shape.dim
        if value.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            known[value.name] = tuple(d.dim_value for d in dims)
    return known


def _needed(shape: Shape | None) -> Shape:
    if shape is None:
        raise _UnknownShape
    return shape


InputShapes = Sequence["Shape | None"]


def _product(node: Any, inputs: InputShapes, output: Shape | None) -> float:
    return 2.0 * math.prod(_needed(output)) * _needed(inputs[0])[-1]


def _gemm(node: Any, inputs: InputShapes, output: Shape | None) -> float:
    turned = any(a.name == "transA" and a.i for a in node.attribute)
    return 2.0 * math.prod(_needed(output)) * _needed(inputs[0])[0 if turned else 1]


def _fused_product(node: Any, inputs: InputShapes, output: Shape | None) -> float:
    turned = any(a.name == "transA" and a.i for a in node.attribute)
    return 2.0 * math.prod(_needed(output)) * _needed(inputs[0])[-2 if turned else -1]


def _convolution(node: Any, inputs: InputShapes, output: Shape | None) -> float:
    # weights [out, in / groups, *kernel]: each output pixel takes all of one row
    return 2.0 * math.prod(_needed(output)) * math.prod(_needed(inputs[1])[1:])


def _quantised_convolution(node: Any, inputs: InputShapes, output: Shape | None) -> float:
    return 2.0 * math.prod(_needed(output)) * math.prod(_needed(inputs[3])[1:])


def _transposed(node: Any, inputs: InputShapes, output: Shape | None) -> float:
    # weights [in, out / groups, *kernel]: each input pixel gives all of one row
    return 2.0 * math.prod(_needed(inputs[0])) * math.prod(_needed(inputs[1])[1:])


def _attention(node: Any, inputs: InputShapes, output: Shape | None) -> float:
    query, key, value = (_needed(shape) for shape in inputs[:3])
    pairs = math.prod(query[:-1]) * key[-2]
    return 2.0 * pairs * (query[-1] + value[-1])


_COUNTS: dict[str, Callable[[Any, InputShapes, Shape | None], float]] = {
    "MatMul": _product,
    "MatMulInteger": _product,
    "DynamicQuantizeMatMul": _product,
    "QLinearMatMul": _product,
    "FusedMatMul": _fused_product,
    "Gemm": _gemm,
    "Conv": _convolution,
    "FusedConv": _convolution,
    "ConvInteger": _convolution,
    "QLinearConv": _quantised_convolution,
    "ConvTranspose": _transposed,
    "Attention": _attention,
}
