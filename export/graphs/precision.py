"""Half-precision graphs: the float32 graph rewritten, its boundary and contract unchanged.

Precision lives in the graph, as strongly typed engines want it. Products of matrices and
convolutions run in float16 or bfloat16, and so does what lies between them. These stay float32:

- the residual streams, and LayerNormalization, which reads them: sums over all layers;
- everything that sines and cosines are computed from: positions lose their place first;
- fully connected heads on one row per object (Gemm): IoU, object score, pointer, the masks'
  weights. They decide which mask is chosen and cost nothing;
- the product of two activations that leads straight to an output: the mask logits;
- operators that ONNX does not define for the type: convolutions have no bfloat16 before opset 22.
"""

from __future__ import annotations

from collections.abc import Iterable

import ml_dtypes
import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, defs, helper, numpy_helper

from ...configs.bundle import Half

#: graphs that stay float32 as a whole: a mask prompt is resized exactly, once, and costs nothing
EXACT_GRAPHS = ("mask_prompt",)

_TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
_NAMES = {"fp16": "tensor(float16)", "bf16": "tensor(bfloat16)"}
_DTYPES = {"fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}
_PRODUCTS = {"MatMul", "Conv", "ConvTranspose"}
_MOVES = {
    "Reshape", "Transpose", "Concat", "Split", "Slice", "Gather", "Squeeze", "Unsqueeze",
    "Expand", "Identity", "Flatten",
}  # fmt: skip
#: run in half precision where everything they read already is
_FOLLOWERS = _MOVES | {
    "Add", "Sub", "Mul", "Div", "Neg", "Relu", "Gelu", "Erf", "Softmax", "Pad", "MaxPool",
    "ReduceMax", "Where",
}  # fmt: skip
#: inputs that are float32 by definition, whatever the type of the others
_ALWAYS_FLOAT32 = {"Resize": (1, 2)}


def lowered(model: ModelProto, precision: Half) -> ModelProto:
    """The same graph in half precision; inputs and outputs keep their float32.

    Constants above float16's range would become infinite; they raise ValueError.
    """
    result = ModelProto()
    result.CopyFrom(model)
    chosen = half_nodes(model, precision)
    _Rewriter(result, precision).rewrite(chosen)
    onnx.checker.check_model(result, full_check=True)
    return result


def half_nodes(model: ModelProto, precision: Half) -> set[str]:
    """First outputs of the nodes that :func:`lowered` runs in half precision."""
    graph = _Links(model)
    exact = graph.before({"Sin", "Cos"})
    half: set[str] = set()
    for node in model.graph.node:
        if node.output[0] in exact or not _allowed(model, node, precision):
            continue
        if node.op_type in _PRODUCTS:
            chosen = not graph.is_result(node)
        elif node.op_type in _FOLLOWERS:
            activations = [x for x in graph.float_inputs(node) if x not in graph.constants]
            chosen = bool(activations) and all(graph.first(x) in half for x in activations)
            chosen = chosen and not (node.op_type == "Add" and graph.is_normalised(node))
        else:
            chosen = False
        if chosen:
            half.add(node.output[0])
    return half


def _allowed(model: ModelProto, node: NodeProto, precision: Half) -> bool:
    if node.domain not in ("", "ai.onnx"):
        return False
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    schema = defs.get_schema(node.op_type, opset, "")
    allowed = {c.type_param_str: c.allowed_type_strs for c in schema.type_constraints}
    return _NAMES[precision] in allowed.get(schema.outputs[0].type_str, ())


class _Links:
    """Who makes and who reads each value of a graph."""

    def __init__(self, model: ModelProto) -> None:
        graph = model.graph
        self.constants = {tensor.name for tensor in graph.initializer}
        self.outputs = {value.name for value in graph.output}
        self.makers = {out: node for node in graph.node for out in node.output}
        self.readers: dict[str, list[NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.floats = {t.name for t in graph.initializer if t.data_type == TensorProto.FLOAT} | {
            value.name
            for value in (*graph.input, *graph.output, *graph.value_info)
            if value.type.tensor_type.elem_type == TensorProto.FLOAT
        }

    def float_inputs(self, node: NodeProto) -> list[str]:
        skipped = _ALWAYS_FLOAT32.get(node.op_type, ())
        return [x for i, x in enumerate(node.input) if x in self.floats and i not in skipped]

    def first(self, value: str) -> str | None:
        """First output of the node that makes `value`."""
        return self.makers[value].output[0] if value in self.makers else None

    def before(self, kinds: set[str]) -> set[str]:
        """First outputs of all nodes that lead to a node of those kinds, they included."""
        found: set[str] = set()
        waiting = [node for node in self.makers.values() if node.op_type in kinds]
        while waiting:
            node = waiting.pop()
            if node.output[0] not in found:
                found.add(node.output[0])
                waiting += [self.makers[x] for x in node.input if x in self.makers]
        return found

    def _reached(self, node: NodeProto) -> Iterable[NodeProto | None]:
        """Readers of a node's result, looking through moves; None stands for a graph output."""
        waiting, seen = list(node.output), set()
        while waiting:
            value = waiting.pop()
            if value in seen:
                continue
            seen.add(value)
            if value in self.outputs:
                yield None
            for reader in self.readers.get(value, []):
                if reader.op_type in _MOVES:
                    waiting += reader.output
                else:
                    yield reader

    def is_normalised(self, node: NodeProto) -> bool:
        """Whether a LayerNormalization reads the result: then it is a residual stream."""
        return any(r is not None and r.op_type == "LayerNormalization" for r in self._reached(node))

    def is_result(self, node: NodeProto) -> bool:
        """Whether two activations are multiplied into an output."""
        activations = [x for x in node.input if x not in self.constants]
        return len(activations) > 1 and any(reader is None for reader in self._reached(node))


class _Rewriter:
    """Changes a model in place: types of chosen nodes, and casts where types meet."""

    def __init__(self, model: ModelProto, precision: Half) -> None:
        self._graph = model.graph
        self._links = _Links(model)
        self._half = _TYPES[precision]
        self._dtype = _DTYPES[precision]
        self._suffix = "_" + precision
        self._tensors = {tensor.name: tensor for tensor in self._graph.initializer}
        self._types: dict[str, int] = {}
        self._nodes: list[NodeProto] = []
        self._made: set[str] = set()

    def rewrite(self, chosen: set[str]) -> None:
        for node in list(self._graph.node):
            half = node.output[0] in chosen
            self._rename_inputs(node, half)
            results = [x for x in node.output if x in self._links.floats] if half else []
            for value in results:
                self._types[value] = self._half
            self._nodes.append(node)
            for value in set(results) & self._links.outputs:
                self._restore_output(node, value)
        del self._graph.node[:]
        self._graph.node.extend(self._nodes)
        self._drop_unread_constants()
        for value in self._graph.value_info:
            if value.name in self._types:
                value.type.tensor_type.elem_type = self._types[value.name]

    def _rename_inputs(self, node: NodeProto, half: bool) -> None:
        readable = set(self._links.float_inputs(node))
        for i, name in enumerate(node.input):
            if name not in readable:
                continue
            wanted = self._half if half else TensorProto.FLOAT
            if name in self._tensors:
                node.input[i] = self._half_constant(name) if half else name
            elif self._types.get(name, TensorProto.FLOAT) != wanted:
                node.input[i] = self._cast(name, wanted)

    def _half_constant(self, name: str) -> str:
        new = name + self._suffix
        if new not in self._made:
            self._made.add(new)
            values = numpy_helper.to_array(self._tensors[name])
            with np.errstate(over="ignore"):
                lower = values.astype(self._dtype)
            if np.isinf(lower.astype(np.float32)).any():
                raise ValueError(f"constant {name} reaches {np.abs(values).max():g}")
            self._graph.initializer.append(
                helper.make_tensor(new, self._half, values.shape, lower.tobytes(), raw=True)
            )
        return new

    def _cast(self, name: str, wanted: int) -> str:
        new = name + ("_fp32" if wanted == TensorProto.FLOAT else self._suffix)
        if new not in self._made:
            self._made.add(new)
            self._nodes.append(helper.make_node("Cast", [name], [new], name=new, to=wanted))
        return new

    def _restore_output(self, node: NodeProto, value: str) -> None:
        """A graph output made in half precision: rename it and cast it back."""
        low = value + self._suffix
        self._types[low] = self._types.pop(value)
        for i, name in enumerate(node.output):
            if name == value:
                node.output[i] = low
        self._made.add(value)
        self._nodes.append(
            helper.make_node("Cast", [low], [value], name=value + "_fp32", to=TensorProto.FLOAT)
        )

    def _drop_unread_constants(self) -> None:
        read = {name for node in self._nodes for name in node.input} | self._links.outputs
        kept = [t for t in self._graph.initializer if t.name in read]
        del self._graph.initializer[:]
        self._graph.initializer.extend(kept)


def emulated(model: ModelProto, precision: Half) -> ModelProto:
    """A half-precision graph as one that needs no half-precision kernels, for the proof.

    Each operator computes in float32 on its rounded inputs and rounds its result: what hardware
    with float32 accumulators does.
    """
    half = _TYPES[precision]
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    low = {t.name for t in graph.initializer if t.data_type == half} | {
        v.name for v in graph.value_info if v.type.tensor_type.elem_type == half
    }
    low |= {n.output[0] for n in graph.node if _casts_to(n, half)}
    nodes: list[NodeProto] = []
    for node in graph.node:
        if node.op_type == "Cast" and _casts_to(node, TensorProto.FLOAT) and node.input[0] in low:
            node.op_type = "Identity"
            del node.attribute[:]
            nodes.append(node)
            continue
        if _casts_to(node, half):
            nodes += _rounding(node.input[0], node.output[0], half)
            continue
        rounded = [x for x in node.output if x in low]
        for i, name in enumerate(node.output):
            if name in rounded:
                node.output[i] = name + "_exact"
        nodes.append(node)
        for name in rounded:
            nodes += _rounding(name + "_exact", name, half)
    del graph.node[:]
    graph.node.extend(nodes)
    for tensor in graph.initializer:
        if tensor.data_type == half:
            exact = numpy_helper.to_array(tensor).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(exact, tensor.name))
    del graph.value_info[:]
    return result


def _casts_to(node: NodeProto, kind: int) -> bool:
    return node.op_type == "Cast" and node.attribute[0].i == kind


def _rounding(source: str, target: str, half: int) -> list[NodeProto]:
    between = target + "_bits"
    return [
        helper.make_node("Cast", [source], [between], to=half),
        helper.make_node("Cast", [between], [target], to=TensorProto.FLOAT),
    ]
