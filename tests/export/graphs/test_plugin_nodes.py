"""Custom nodes with their plain bodies, as ONNX Runtime and TensorRT's parser see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
import onnxruntime
import pytest
from onnx import ModelProto, TensorProto, helper

from sam2rt.configs.errors import BundleError
from sam2rt.configs.graphs import graph_specs
from sam2rt.configs.models import model_config
from sam2rt.export.engines.onnx_functions import function_names, without_functions
from sam2rt.export.graphs.modules import GraphVariant, graph_modules
from sam2rt.export.graphs.onnx_from_module import onnx_from_module
from sam2rt.export.graphs.plugin_nodes import (
    plugin_nodes,
    with_attention_nodes,
    with_plugin_functions,
)
from sam2rt.export.graphs.precision import lowered
from sam2rt.export.graphs.tensorrt_rules import tensorrt_problems
from sam2rt.export.model.sam2 import build_model
from sam2rt.export.model.untrained import untrained_state
from sam2rt.export.proof.report import BOUNDS
from sam2rt.plugins import memory_cross_attention as op

MICRO = model_config("micro")
SPEC = graph_specs(MICRO)["memory_attention"]


@pytest.fixture(scope="module")
def plain() -> ModelProto:
    """Memory attention of micro with whole attentions, values at memory width."""
    model = build_model(MICRO)
    model.load_state_dict(untrained_state(MICRO))
    module = graph_modules(model, GraphVariant(query_block=None))["memory_attention"]
    return onnx_from_module(module, SPEC, 20)


@pytest.fixture(scope="module")
def noded(plain: ModelProto) -> ModelProto:
    return with_attention_nodes(plain, MICRO)


def _run(model: bytes, arrays: dict[str, np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, arrays)[0]


def _inputs(n: int, shared: int, memories: int, pointers: int) -> dict[str, np.ndarray]:
    stream = np.random.default_rng(n * 100 + memories)
    sizes = {"N": n, "I": shared, "M": memories, "K": pointers}
    arrays = {}
    for t in SPEC.inputs:
        shape = tuple(sizes[d] if isinstance(d, str) else d for d in t.shape)
        if t.dtype == "int64":
            arrays[t.name] = stream.integers(0, 7, shape)
        else:
            arrays[t.name] = stream.standard_normal(shape).astype(np.float32)
    return arrays


@pytest.mark.parametrize(
    ("n", "shared", "memories", "pointers"), [(1, 1, 7, 16), (2, 1, 3, 2), (2, 2, 1, 0)]
)
def test_graph_with_nodes_and_bodies_equals_the_plain_graph(
    plain: ModelProto, noded: ModelProto, n: int, shared: int, memories: int, pointers: int
) -> None:
    arrays = _inputs(n, shared, memories, pointers)
    expected = _run(plain.SerializeToString(), arrays)
    found = _run(noded.SerializeToString(), arrays)
    # the same products in the same order
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-6)
    assert np.abs(expected).max() > 1


def test_dropping_the_function_leaves_one_custom_node_per_layer(noded: ModelProto) -> None:
    data = noded.SerializeToString()
    assert function_names(data) == {op.NAME}
    bare = onnx.load_model_from_string(without_functions(data, {op.NAME}))
    assert function_names(bare.SerializeToString()) == set()
    nodes = plugin_nodes(bare)
    assert [node.op_type for node in nodes] == [op.NAME] * MICRO.memory_attention_layers
    for node in nodes:
        attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        assert attributes == {"plugin_namespace": b"sam2rt", "plugin_version": b"1"}
        assert (len(node.input), len(node.output)) == (3, 2)
    # nothing else of the model changes
    again = ModelProto()
    again.CopyFrom(noded)
    del again.functions[:]
    assert again == bare


def test_the_plain_cross_attention_is_gone(plain: ModelProto, noded: ModelProto) -> None:
    def attentions(model: ModelProto) -> int:
        return sum(
            node.op_type == "Softmax" and not node.name.startswith("attention.")
            for node in model.graph.node
        )

    layers = MICRO.memory_attention_layers
    # one self- and one cross-attention per layer, and only the former after
    assert (attentions(plain), attentions(noded)) == (2 * layers, layers)
    # queries are still rotated by the graph, with its own tables
    names = {t.name for t in noded.graph.initializer}
    assert len([n for n in names if "cross_attn.q.turned.matrix" in n]) == layers
    makers = {out: node for node in noded.graph.node for out in node.output}
    for node in plugin_nodes(noded):
        rotation = makers[node.input[0]]
        assert [makers[x].op_type for x in rotation.input] == ["Mul", "Mul"]
        tables = [makers[x].input[1].partition("_")[0] for x in rotation.input]
        assert (rotation.op_type, tables) == ("Add", ["cos", "sin"])


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_half_precision_graphs_get_nodes_of_their_type(plain: ModelProto, precision: str) -> None:
    low = with_attention_nodes(lowered(plain, precision), MICRO)
    onnx.checker.check_model(low)
    inferred = onnx.shape_inference.infer_shapes(low, strict_mode=True)
    half = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}[precision]
    kinds = {v.name: v.type.tensor_type.elem_type for v in inferred.graph.value_info}
    kinds |= {t.name: t.data_type for t in inferred.graph.initializer}
    for node in plugin_nodes(inferred):
        assert [kinds[x] for x in node.input] == [half] * 3
        assert [kinds[x] for x in node.output] == [TensorProto.FLOAT] * 2


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_tensorrt_can_import_the_bodies(plain: ModelProto, precision: str) -> None:
    graph = plain if precision == "fp32" else lowered(plain, "bf16")
    inlined = onnx.inliner.inline_local_functions(with_attention_nodes(graph, MICRO))
    assert tensorrt_problems(inlined) == []


def test_folded_or_split_graphs_are_refused(plain: ModelProto) -> None:
    with pytest.raises(ValueError, match="expected 4 cross-attentions, found 2"):
        with_attention_nodes(plain, model_config("sam2.1_hiera_tiny"))
    with pytest.raises(ValueError, match="fewer grid tokens than pointer tokens"):
        with_attention_nodes(plain, MICRO.with_image_size(128))


def test_operator_names_are_no_built_in_operators() -> None:
    """TensorRT's parser prefers a built-in operator of the same name, whatever the domain."""
    assert op.NAME not in {schema.name for schema in onnx.defs.get_all_schemas()}


@pytest.mark.parametrize(("n", "tokens"), [(2, 90), (1, 36)])
def test_plain_body_alone_equals_numpy(n: int, tokens: int) -> None:
    stream = np.random.default_rng(n)
    rows, width, value = 36, 64, 16
    arrays = {
        "query": stream.standard_normal((n, rows, width)) / 4,
        "key": stream.standard_normal((n, tokens, width)),
        "value": stream.standard_normal((n, tokens, value)),
    }
    arrays = {name: array.astype(np.float32) for name, array in arrays.items()}

    def info(name: str, rank: int) -> onnx.ValueInfoProto:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank)

    node = helper.make_node(
        op.NAME, list(op.INPUTS), list(op.OUTPUTS), domain="sam2rt", **op.ATTRIBUTES
    )
    graph = helper.make_graph(
        [node], "g", [info(k, a.ndim) for k, a in arrays.items()],
        [info("partial", 4), info("lse", 3)],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    with_plugin_functions(model)
    onnx.checker.check_model(model)
    expected, _ = op.reference(*arrays.values())
    np.testing.assert_allclose(_run(model.SerializeToString(), arrays), expected, rtol=0, atol=2e-6)


def test_bytes_that_are_no_graph_are_refused() -> None:
    for data in (b"\xff" * 20, b"\x0a\x50short", b"\xcb\x01"):
        with pytest.raises(BundleError, match="expected an ONNX graph"):
            function_names(data)
    with pytest.raises(BundleError, match="has no function sam2rt::MemoryCrossAttention"):
        without_functions(b"", {op.NAME})


def test_the_page_on_engines_states_the_bounds_of_the_proof() -> None:
    page = (Path(__file__).parents[3] / "docs" / "tensorrt.md").read_text()
    for precision, b in BOUNDS.items():
        assert f"| {precision} | {b.relative:g} of its scale | {b.cosine:g} | {b.iou:g} |" in page
