"""Graphs for processors with bfloat16 units: float32, with heavy products as operators of ours.

ONNX Runtime has no bfloat16 kernels for x86. In these variants of the float32 graphs each whole
attention is one node ``sam2rt::Attention`` and each dense layer one node ``sam2rt::Linear`` (or
``LinearRelu``, ``LinearGelu``, ``LinearTurned``, with what follows it). Nodes read and write
float32. What they multiply is bfloat16: weights are rounded here, activations by the operator, and
sums are float32. All else is float32, and so is each node's plain body, a model-local function.

Cross-attention is ``sam2rt::MemoryCrossAttention`` where graphs are for engines, which may cut the
keys into pieces; here one piece is the whole, and the node is ``Attention``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ....plugins.cpu import operators as ops
from ....plugins.kernel import NAMESPACE
from ..precision import half_nodes

OPSET_VERSION = 1
_ACTIVATIONS = {"Relu": ops.LINEAR_RELU, "Gelu": ops.LINEAR_GELU}


def with_cpu_operators(model: ModelProto) -> ModelProto:
    """The graph with its dense layers and attentions as operators.

    Takes a float32 graph whose attentions are whole (``GraphVariant(query_block=None)``); the
    argument is left as it is. Raises ValueError when there is nothing to replace.
    """
    result = ModelProto()
    result.CopyFrom(model)
    graph = _Graph(result)
    chosen = half_nodes(model, "bf16")
    for node in list(result.graph.node):
        if node.output[0] not in chosen:
            continue
        found = None
        if node.op_type == "MatMul":
            found = graph.attention(node) or graph.dense_layer(node)
        if node.op_type == "Add":
            found = graph.turned_layer(node)
        if found:
            graph.replace(found)
    graph.finish()
    used = {node.op_type for node in result.graph.node if node.domain == NAMESPACE}
    if not used:
        raise ValueError(f"the graph {model.graph.name} has neither dense layers nor attentions")
    opset = next(o.version for o in result.opset_import if o.domain in ("", "ai.onnx"))
    result.functions.extend(
        onnx.parser.parse_function(ops.onnx_function(name, opset)) for name in sorted(used)
    )
    result.opset_import.append(helper.make_opsetid(NAMESPACE, OPSET_VERSION))
    onnx.checker.check_model(result, full_check=True)
    return result


@dataclass(frozen=True)
class _Found:
    """Nodes that one operator replaces: its name, inputs and output."""

    operator: str
    inputs: tuple[str, ...]
    output: str


class _Graph:
    """A graph in which nodes are replaced; nothing is removed before :meth:`finish`."""

    def __init__(self, model: ModelProto) -> None:
        self._graph = model.graph
        self._makers = {out: node for node in model.graph.node for out in node.output}
        self._readers: dict[str, list[NodeProto]] = {}
        for node in model.graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._outputs = {value.name for value in model.graph.output}
        self._tensors = {tensor.name: tensor for tensor in model.graph.initializer}
        #: what replaces the maker of a value
        self.made: dict[str, NodeProto] = {}

    def attention(self, node: NodeProto) -> _Found | None:
        """softmax(q kT) v with `node` as its last product, the keys transposed in place."""
        weights = self._maker(node.input[0], "Softmax")
        scores = weights and self._maker(weights.input[0], "MatMul")
        turned = scores and self._maker(scores.input[1], "Transpose")
        if not scores or not turned:
            return None
        inputs = (scores.input[0], turned.input[0], node.input[1])
        return _Found(ops.ATTENTION, inputs, node.output[0])

    def dense_layer(self, node: NodeProto) -> _Found | None:
        """x @ constant, with a constant bias and an activation where only they read it."""
        weight = self._tensors.get(node.input[1])
        if weight is None or len(weight.dims) != 2:
            return None
        bias, output, operator = "", node.output[0], ops.LINEAR
        added = self._only_reader(output, "Add")
        if added is not None:
            found = [x for x in added.input if x in self._tensors]
            if found and _is_row(self._tensors[found[0]], weight.dims[1]):
                bias, output = found[0], added.output[0]
        if bias:
            for kind, name in _ACTIVATIONS.items():
                if (activation := self._only_reader(output, kind)) is not None:
                    output, operator = activation.output[0], name
        inputs = (node.input[0], self._rounded(weight), self._flat(bias, weight.dims[1]))
        return _Found(operator, inputs, output)

    def turned_layer(self, node: NodeProto) -> _Found | None:
        """x W cos + x W' sin, where W' is W with the columns of each pair turned by a quarter."""
        sides = [self._scaled_layer(value) for value in node.input]
        if None in sides:
            return None
        for one, other in (sides, sides[::-1]):
            assert one is not None
            assert other is not None
            (matmul, bias, cos), (turned, turned_bias, sin) = one, other
            weights = [self._values(m.input[1]) for m in (matmul, turned)]
            biases = [self._values(b) for b in (bias, turned_bias)]
            if matmul.input[0] == turned.input[0] and all(
                np.array_equal(_quarter_turned(a), b) for a, b in (weights, biases)
            ):
                weight = self._rounded(self._tensors[matmul.input[1]])
                flat = self._flat(bias, weights[0].shape[1])
                inputs = (matmul.input[0], weight, flat, cos, sin)
                return _Found(ops.LINEAR_TURNED, inputs, node.output[0])
        return None

    def _scaled_layer(self, value: str) -> tuple[NodeProto, str, str] | None:
        """(x W + b) times a table [T, N]: its product, bias and table; only they read it."""
        scaled = self._maker(value, "Mul")
        added = scaled and self._maker(scaled.input[0], "Add")
        matmul = added and self._maker(added.input[0], "MatMul")
        if not scaled or not added or not matmul:
            return None
        constants = (scaled.input[1], added.input[1], matmul.input[1])
        if any(name not in self._tensors for name in constants):
            return None
        table, row, weight = (self._tensors[name] for name in constants)
        if len(weight.dims) != 2 or len(table.dims) != 2 or not _is_row(row, weight.dims[1]):
            return None
        return matmul, constants[1], constants[0]

    def _values(self, name: str) -> NDArray[Any]:
        return numpy_helper.to_array(self._tensors[name])

    def replace(self, found: _Found) -> None:
        name = f"{found.output}.{found.operator}"
        self.made[found.output] = helper.make_node(
            found.operator, found.inputs, [found.output], name=name, domain=NAMESPACE
        )

    def finish(self) -> None:
        """Put the nodes in place and drop what leads nowhere any more."""
        needed, kept = set(self._outputs), []
        for node in reversed(self._graph.node):
            if needed & set(node.output):
                chosen = self.made.get(node.output[0], node)
                needed |= set(chosen.input)
                kept.append(chosen)
        tensors = [t for t in self._graph.initializer if t.name in needed]
        made = {out for node in kept for out in node.output}
        infos = [v for v in self._graph.value_info if v.name in made]
        del self._graph.node[:], self._graph.initializer[:], self._graph.value_info[:]
        self._graph.node.extend(reversed(kept))
        self._graph.initializer.extend(tensors)
        self._graph.value_info.extend(infos)

    def _maker(self, value: str, kind: str) -> NodeProto | None:
        node = self._makers.get(value)
        return node if node is not None and node.op_type == kind else None

    def _only_reader(self, value: str, kind: str) -> NodeProto | None:
        readers = self._readers.get(value, [])
        if value in self._outputs or len(readers) != 1 or readers[0].op_type != kind:
            return None
        return readers[0]

    def _rounded(self, tensor: TensorProto) -> str:
        """The constant in bfloat16, named and rounded as ``precision.lowered`` does."""
        values = numpy_helper.to_array(tensor).astype(ml_dtypes.bfloat16)
        return self._constant(
            helper.make_tensor(
                f"{tensor.name}_bf16", TensorProto.BFLOAT16, values.shape, values.tobytes(), True
            )
        )

    def _flat(self, bias: str, width: int) -> str:
        """The bias [width], zeros where there is none."""
        if not bias:
            zeros = np.zeros(width, np.float32)
            return self._constant(numpy_helper.from_array(zeros, f"no_bias.{width}"))
        values = numpy_helper.to_array(self._tensors[bias]).reshape(width)
        return self._constant(numpy_helper.from_array(values, f"{bias}.flat"))

    def _constant(self, tensor: TensorProto) -> str:
        if tensor.name not in self._tensors:
            self._tensors[tensor.name] = tensor
            self._graph.initializer.append(tensor)
        return str(tensor.name)


def _quarter_turned(columns: NDArray[Any]) -> NDArray[Any]:
    """Columns (a, b) of each pair become (-b, a)."""
    if columns.shape[-1] % 2:
        return np.empty(0)
    result = np.empty_like(columns)
    result[..., 0::2], result[..., 1::2] = -columns[..., 1::2], columns[..., 0::2]
    return result


def _is_row(tensor: TensorProto, width: int) -> bool:
    """Whether adding it adds one number to each column: [.., 1, width]."""
    return bool(tensor.dims) and tensor.dims[-1] == int(np.prod(tensor.dims)) == width
