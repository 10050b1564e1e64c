"""Custom operators as ONNX nodes with a plain body beside them.

A node ``sam2rt::<Op>`` travels with a model-local function that holds ordinary ONNX. ONNX
Runtime inlines the body and TensorRT imports it, so the graph depends on no plugin; dropping
the function before parsing leaves the bare node, which a registered plugin then takes.

:func:`with_attention_nodes` works on the finished graph, of any precision: the exporter and the
rewriting to half precision know nothing of plugins. So does :func:`with_attention_operators`, which
writes the same attentions as ONNX's own operator.

Of softmax(q kT) v in plain operators NVIDIA's builder makes one kernel only where it can prove
what belongs together: with a dynamic number of memories it does so for self-attention alone. The
operator ``Attention`` says it. It is of opset 23, which TensorRT imports from 10.15 on, and its
kernels are of half precision.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ...configs.models import ModelConfig
from ...plugins import memory_cross_attention as op
from ...plugins.kernel import NAMESPACE

OPSET_VERSION = 1
ATTENTION_OPSET, ATTENTION_IR_VERSION = 23, 11
_HEADS = "attention.heads_axis"


@dataclass(frozen=True)
class _Found:
    """Cross-attention in a graph: softmax(query key^T) value."""

    #: the queries, scaled and rotated
    query: str
    key: str
    value: str
    output: str


def plugin_nodes(model: ModelProto) -> list[NodeProto]:
    """The custom nodes of the main graph, in order."""
    return [node for node in model.graph.node if node.domain == NAMESPACE]


def with_attention_nodes(model: ModelProto, config: ModelConfig) -> ModelProto:
    """The memory attention graph with each cross-attention as one node, and its plain body.

    Takes a graph whose attention is whole (``GraphVariant(query_block=None)``) with values at
    memory width; the argument is left as it is. Raises ValueError when not every layer's
    cross-attention is found, or pointer tokens could be taken for a memory.
    """
    if config.max_obj_ptrs * config.pointer_tokens >= config.embed_size**2:
        raise ValueError(f"{config.image_size} pixels give fewer grid tokens than pointer tokens")
    result = ModelProto()
    result.CopyFrom(model)
    graph = _Graph(result)
    found = graph.cross_attentions()
    if len(found) != config.memory_attention_layers:
        raise ValueError(
            f"expected {config.memory_attention_layers} cross-attentions, found {len(found)}"
        )
    for index, attention in enumerate(found):
        graph.replace(attention, f"attention.{index}")
    graph.drop_unread()
    return with_plugin_functions(result)


def with_plugin_functions(model: ModelProto) -> ModelProto:
    """Add the plain body of every custom operator the graph uses.

    Changes and returns `model`. A model without such nodes is left as it is.
    """
    used = {node.op_type for node in plugin_nodes(model)}
    have = {f.name for f in model.functions if f.domain == NAMESPACE}
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    for name in sorted(used - have):
        if name != op.NAME:
            raise LookupError(f"no plain body for the operator {NAMESPACE}::{name}")
        model.functions.append(onnx.parser.parse_function(op.onnx_function(opset)))
    if used and NAMESPACE not in {o.domain for o in model.opset_import}:
        model.opset_import.append(helper.make_opsetid(NAMESPACE, OPSET_VERSION))
    return model


def with_attention_operators(model: ModelProto) -> ModelProto:
    """The graph with each softmax(q kT) v of one head as one operator ``Attention``, in opset 23.

    Takes a graph whose attentions are whole (``GraphVariant(query_block=None)``), queries scaled,
    with queries, keys and values of equal widths and batches; the argument is left as it is.
    Raises ValueError when there is no attention, or its keys are not transposed in place.
    """
    result = ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    makers = {out: node for node in graph.node for out in node.output}
    nodes: list[NodeProto] = []
    count = 0
    for node in graph.node:
        weights = makers.get(node.input[0]) if node.op_type == "MatMul" else None
        if weights is None or weights.op_type != "Softmax":
            nodes.append(node)
            continue
        nodes += _attention_operator(f"attention.{count}", node, makers[weights.input[0]], makers)
        count += 1
    if not count:
        raise ValueError(f"the graph {graph.name} has no attention in one piece")
    _rewrite(result, nodes)
    return result


def _rewrite(model: ModelProto, nodes: list[NodeProto]) -> None:
    """Give the model those nodes, as far as they lead to an output, in the opset they need."""
    graph = model.graph
    del graph.node[:]
    graph.node.extend(_leading(nodes, {value.name for value in graph.output}))
    # [N, T, C] is one head of [N, 1, T, C]
    graph.initializer.append(numpy_helper.from_array(np.array([1]), _HEADS))
    made = {out for node in graph.node for out in node.output}
    infos = [value for value in graph.value_info if value.name in made]
    del graph.value_info[:]
    graph.value_info.extend(infos)
    next(o for o in model.opset_import if o.domain in ("", "ai.onnx")).version = ATTENTION_OPSET
    model.ir_version = ATTENTION_IR_VERSION
    onnx.checker.check_model(model, full_check=True)


def _attention_operator(
    name: str, product: NodeProto, scores: NodeProto, makers: dict[str, NodeProto]
) -> list[NodeProto]:
    """The nodes that stand for softmax(q kT) v, whose last product is `product`."""
    turned = makers.get(scores.input[1])
    if turned is None or turned.op_type != "Transpose":
        raise ValueError(f"expected the keys of {product.name} transposed just before the product")
    given = {"q": scores.input[0], "k": turned.input[0], "v": product.input[1]}
    heads = [f"{name}.{part}" for part in given]
    # each node has a name of its own: builders key layers by them
    return [
        *(
            helper.make_node("Unsqueeze", [value, _HEADS], [head], name=head)
            for value, head in zip(given.values(), heads, strict=True)
        ),
        # queries come scaled; TensorRT refuses a softmax_precision, and sums in float32 anyway
        helper.make_node("Attention", heads, [f"{name}.out"], name=name, scale=1.0),
        helper.make_node(
            "Squeeze", [f"{name}.out", _HEADS], [product.output[0]], name=f"{name}.squeeze"
        ),
    ]


def _leading(nodes: list[NodeProto], outputs: set[str]) -> list[NodeProto]:
    """Those of the nodes that lead to an output."""
    kept, needed = [], set(outputs)
    for node in reversed(nodes):
        if needed & set(node.output):
            needed |= set(node.input)
            kept.append(node)
    return kept[::-1]


class _Graph:
    def __init__(self, model: ModelProto) -> None:
        self._graph = model.graph
        self._makers = {out: node for node in model.graph.node for out in node.output}
        self._types = {
            v.name: v.type.tensor_type.elem_type
            for v in (*model.graph.value_info, *model.graph.input)
        }

    def cross_attentions(self) -> list[_Found]:
        """Attentions whose keys are several tensors joined: memories and pointers."""
        found = []
        for node in self._graph.node:
            weights = self._made_by(node.input[0], "Softmax") if node.op_type == "MatMul" else None
            scores = weights and self._made_by(weights.input[0], "MatMul")
            keys = scores and self._made_by(scores.input[1], "Transpose")
            if scores and keys and self._made_by(keys.input[0], "Concat"):
                found.append(_Found(scores.input[0], keys.input[0], node.input[1], node.output[0]))
        return found

    def replace(self, found: _Found, name: str) -> None:
        """Put the node, and what joins the pieces it may cut the keys into, before its reader."""
        kind = self._types.get(found.query, TensorProto.FLOAT)
        axis = numpy_helper.from_array(np.array([1]), f"{name}.pieces")
        last = numpy_helper.from_array(np.array([-1]), f"{name}.last")
        self._graph.initializer.extend([axis, last])
        partial, lse = (f"{name}.{x}" for x in ("partial", "lse"))
        share, shares, parts, joined = (
            f"{name}.{x}" for x in ("share", "shares", "parts", "joined")
        )
        nodes = [
            helper.make_node(
                op.NAME,
                [found.query, found.key, found.value],
                [partial, lse],
                domain=NAMESPACE,
                **op.ATTRIBUTES,
            ),
            helper.make_node("Softmax", [lse], [share], axis=1),
            helper.make_node("Unsqueeze", [share, last.name], [shares]),
            helper.make_node("Mul", [partial, shares], [parts]),
            helper.make_node("ReduceSum", [parts, axis.name], [joined], keepdims=0),
            helper.make_node("Cast", [joined], [found.output], to=kind),
        ]
        for made in nodes:
            made.name = made.output[0]
        old = self._makers[found.output]
        at = next(i for i, node in enumerate(self._graph.node) if node is old)
        before, after = self._graph.node[:at], self._graph.node[at + 1 :]
        del self._graph.node[:]
        self._graph.node.extend([*before, *nodes, *after])
        self._makers = {out: node for node in self._graph.node for out in node.output}

    def drop_unread(self) -> None:
        """Remove nodes and constants that lead nowhere, such as the transposed keys."""
        needed = {value.name for value in self._graph.output}
        kept = []
        for node in reversed(self._graph.node):
            if needed & set(node.output):
                needed |= set(node.input)
                kept.append(node)
        del self._graph.node[:]
        self._graph.node.extend(reversed(kept))
        tensors = [t for t in self._graph.initializer if t.name in needed]
        del self._graph.initializer[:]
        self._graph.initializer.extend(tensors)
        made = {out for node in kept for out in node.output}
        infos = [v for v in self._graph.value_info if v.name in made]
        del self._graph.value_info[:]
        self._graph.value_info.extend(infos)

    def _made_by(self, value: str, kind: str) -> NodeProto | None:
        node = self._makers.get(value)
        return node if node is not None and node.op_type == kind else None
