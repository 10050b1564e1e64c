"""Graph modules to ONNX.

``onnx_from_module(module: nn.Module, spec: GraphSpec, opset: int = 20) -> onnx.ModelProto`` takes
a module of ``graphs.graph_modules`` with its contract of ``configs.graphs.graph_specs``.
``weights_file`` writes it.

Tracing runs each module once. What leaves here is folded, shape-inferred and checked, has
exactly the contract's names, dtypes and symbolic dimensions, and no float64.
"""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import onnx
import onnx_ir as ir
import onnxscript.optimizer
import torch
from onnx_ir.passes import common as passes
from torch import Tensor, nn

from ...configs.errors import InputError
from ...configs.graphs import GraphSpec, TensorSpec
from ...configs.staging import temporary_folder

OPSETS = (18, 19, 20)
IR_VERSION = 10
#: sizes of the dynamic dimensions while tracing; results do not depend on them
TRACED = {"B": 1, "N": 2, "I": 1, "G": 1, "P": 3, "M": 2, "K": 3}

_ONNX_TYPES = {
    "float32": ir.DataType.FLOAT,
    "int32": ir.DataType.INT32,
    "int64": ir.DataType.INT64,
    "bool": ir.DataType.BOOL,
}


def check_opset(opset: int) -> None:
    """Raises InputError for an opset that graphs are not written in."""
    if opset not in OPSETS:
        raise InputError(f"opset {opset} is not supported: expected one of {list(OPSETS)}")


def onnx_from_module(module: nn.Module, spec: GraphSpec, opset: int = 20) -> onnx.ModelProto:
    """The ONNX model of a graph module, opset 18 to 20, IR version 10.

    Raises InputError for another opset, and AssertionError should the result not be what the
    contract says.
    """
    check_opset(opset)
    with _no_log("onnx_ir"):
        model = onnxscript.optimizer.optimize(_traced(module, spec, opset))
    model.ir_version = IR_VERSION
    model.producer_name, model.producer_version = "sam2rt", None
    model.graph.name = spec.name
    _declare_inputs(model.graph, spec)
    passes.ClearMetadataAndDocStringPass()(model)
    passes.ShapeInferencePass()(model)
    _separate_constant_outputs(model.graph)
    _check(model.graph, spec)
    passes.CheckerPass(full_check=True)(model)
    return ir.serde.serialize_model(model)


@contextmanager
def _no_log(name: str) -> Iterator[None]:
    """Optimising notes, as a warning, that a constant output cannot be shared: it need not be."""
    logger = logging.getLogger(name)
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)


def _example(tensor: TensorSpec) -> Tensor:
    shape = [TRACED[dim] if isinstance(dim, str) else dim for dim in tensor.shape]
    return torch.zeros(shape, dtype=getattr(torch, tensor.dtype))


def _traced(module: nn.Module, spec: GraphSpec, opset: int) -> ir.Model:
    tensors = (*spec.inputs, *spec.outputs)
    axes = {
        tensor.name: {i: dim for i, dim in enumerate(tensor.shape) if isinstance(dim, str)}
        for tensor in tensors
    }
    with temporary_folder() as folder, warnings.catch_warnings():
        # tracing is announced as the older exporter; it is the one that leaves I and N apart
        warnings.simplefilter("ignore")
        file = folder / "traced.onnx"
        torch.onnx.export(
            module,
            tuple(_example(tensor) for tensor in spec.inputs),
            str(file),
            input_names=[tensor.name for tensor in spec.inputs],
            output_names=[tensor.name for tensor in spec.outputs],
            dynamic_axes={name: dims for name, dims in axes.items() if dims},
            opset_version=opset,
            dynamo=False,
        )
        return ir.serde.deserialize_model(onnx.load_model(file))


def _declare_inputs(graph: ir.Graph, spec: GraphSpec) -> None:
    """All inputs of the contract in its order: tracing drops those that a family does not use."""
    traced = {value.name: value for value in graph.inputs}
    graph.inputs[:] = [traced.get(tensor.name) or _declared(tensor) for tensor in spec.inputs]


def _declared(tensor: TensorSpec) -> ir.Value:
    kind = ir.TensorType(_ONNX_TYPES[tensor.dtype])
    return ir.Value(name=tensor.name, shape=ir.Shape(tensor.shape), type=kind)


def _separate_constant_outputs(graph: ir.Graph) -> None:
    """Give an output that is a constant a node of its own, as engine builders expect."""
    for index, output in enumerate(graph.outputs):
        name = output.name
        if name is None or name not in graph.initializers:
            continue
        graph.initializers.pop(name)
        output.name = f"{name}_constant"
        graph.initializers[output.name] = output
        node = ir.node("Identity", [output])
        graph.append(node)
        result = node.outputs[0]
        result.name, result.shape, result.type = name, output.shape, output.type
        graph.outputs[index] = result


def _check(graph: ir.Graph, spec: GraphSpec) -> None:
    for values, tensors in ((graph.inputs, spec.inputs), (graph.outputs, spec.outputs)):
        names = [value.name for value in values]
        assert names == [tensor.name for tensor in tensors], f"{spec.name}: found {names}"
        for value, tensor in zip(values, tensors, strict=True):
            value.shape = ir.Shape(tensor.shape)
            assert value.dtype == _ONNX_TYPES[tensor.dtype], f"{spec.name}.{tensor.name}"
    for node in graph:
        for value in node.outputs:
            assert value.dtype != ir.DataType.DOUBLE, f"{spec.name}: {node.name} is float64"
            assert value.dtype is not None, f"{spec.name}: {node.name} has no inferred type"
