"""Graphs with operators for bfloat16 units: what is replaced, and that nothing else changes."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper, numpy_helper

from sam2rt.export.graphs.cpu.operators import with_cpu_operators

RNG = np.random.default_rng(0)


def constant(name: str, *shape: int) -> TensorProto:
    return numpy_helper.from_array(RNG.standard_normal(shape).astype(np.float32), name)


def model(
    nodes: list[onnx.NodeProto], constants: list[TensorProto], width: int = 8
) -> onnx.ModelProto:
    value = lambda name, *shape: helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)
    outputs = [value(nodes[-1].output[0], 2, 30, width)]
    graph = helper.make_graph(nodes, "test", [value("x", 2, 30, 8)], outputs, constants)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnx.shape_inference.infer_shapes(made)


def attention_block() -> onnx.ModelProto:
    """out(softmax((x q + b) (x k)T) (x v)) + bias, Gelu behind it, then a layer with no bias."""
    node = helper.make_node
    return model(
        [
            node("MatMul", ["x", "q"], ["xq"]),
            node("Add", ["xq", "q.bias"], ["query"]),
            node("MatMul", ["x", "k"], ["key"]),
            node("MatMul", ["x", "v"], ["value"]),
            node("Transpose", ["key"], ["columns"], perm=[0, 2, 1]),
            node("MatMul", ["query", "columns"], ["scores"]),
            node("Softmax", ["scores"], ["weights"], axis=-1),
            node("MatMul", ["weights", "value"], ["mixed"]),
            node("MatMul", ["mixed", "out"], ["made"]),
            node("Add", ["out.bias", "made"], ["moved"]),
            node("Gelu", ["moved"], ["bent"]),
            node("MatMul", ["bent", "last"], ["flat"]),
            node("Neg", ["flat"], ["y"]),
        ],
        [
            *(constant(name, 8, 8) for name in ("q", "k", "v", "out", "last")),
            *(constant(f"{name}.bias", 1, 1, 8) for name in ("q", "out")),
        ],
    )


def operators(made: onnx.ModelProto) -> list[str]:
    return [node.op_type for node in made.graph.node if node.domain == "sam2rt"]


def test_dense_layers_and_attention_are_nodes() -> None:
    made = with_cpu_operators(attention_block())
    wanted = ["Linear", "Linear", "Linear", "Attention", "LinearGelu", "Linear"]
    assert operators(made) == wanted
    assert [n.op_type for n in made.graph.node if n.domain == ""] == ["Neg"]
    assert {f.name for f in made.functions} == {"Linear", "LinearGelu", "Attention"}
    # weights are rounded, biases are not
    kinds = {t.name: t.data_type for t in made.graph.initializer}
    assert kinds["q_bf16"] == TensorProto.BFLOAT16
    assert kinds["q.bias.flat"] == TensorProto.FLOAT
    assert not {"q", "q.bias"} & kinds.keys()


def test_the_plain_bodies_are_the_graph_with_rounded_weights() -> None:
    plain = attention_block()
    made = with_cpu_operators(plain)
    for tensor in plain.graph.initializer:
        if "bias" not in tensor.name:
            low = numpy_helper.to_array(tensor).astype(ml_dtypes.bfloat16).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(low, tensor.name))
    x = {"x": RNG.standard_normal((2, 30, 8)).astype(np.float32)}
    wanted, found = (
        ort.InferenceSession(m.SerializeToString()).run(None, x)[0] for m in (plain, made)
    )
    assert np.abs(found - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_an_activation_that_others_read_too_stays() -> None:
    node = helper.make_node
    made = with_cpu_operators(
        model(
            [
                node("MatMul", ["x", "w"], ["product"]),
                node("Add", ["product", "b"], ["sum"]),
                node("Relu", ["sum"], ["bent"]),
                node("Sub", ["bent", "sum"], ["y"]),
            ],
            [constant("w", 8, 8), constant("b", 1, 1, 8)],
        ),
    )
    assert [n.op_type for n in made.graph.node] == ["Linear", "Relu", "Sub"]
    assert made.graph.node[0].output[0] == "sum"


@pytest.mark.parametrize(("width", "shape"), [(8, (1, 30, 8)), (30, (1, 30, 1)), (8, (1,))])
def test_a_sum_with_another_constant_is_no_bias(width: int, shape: tuple[int, ...]) -> None:
    """Positions are added to every token; a column may have as many numbers as a bias has."""
    node = helper.make_node
    made = with_cpu_operators(
        model(
            [node("MatMul", ["x", "w"], ["product"]), node("Add", ["product", "p"], ["y"])],
            [constant("w", 8, width), constant("p", *shape)],
            width,
        ),
    )
    assert [n.op_type for n in made.graph.node] == ["Linear", "Add"]


def rotary(flipped: bool, turned: bool) -> onnx.ModelProto:
    """x W cos + x W' sin; with `turned` W' is what rotary embedding needs, else W again."""
    node = helper.make_node
    weight, bias = constant("w", 8, 8), constant("b", 1, 1, 8)
    pairs = [numpy_helper.to_array(t) for t in (weight, bias)]
    quarter = [np.stack((-a[..., 1::2], a[..., 0::2]), axis=-1).reshape(a.shape) for a in pairs]
    other = [
        numpy_helper.from_array(q if turned else a, name)
        for q, a, name in zip(quarter, pairs, ("w2", "b2"), strict=True)
    ]
    sides = ["side0", "side1"]
    return model(
        [
            *(node("MatMul", ["x", w], [f"product{i}"]) for i, w in enumerate(("w", "w2"))),
            *(node("Add", [f"product{i}", b], [f"sum{i}"]) for i, b in enumerate(("b", "b2"))),
            *(node("Mul", [f"sum{i}", t], [sides[i]]) for i, t in enumerate(("cos", "sin"))),
            node("Add", sides[::-1] if flipped else sides, ["z"]),
            node("Neg", ["z"], ["y"]),
        ],
        [weight, bias, *other, constant("cos", 30, 8), constant("sin", 30, 8)],
    )


@pytest.mark.parametrize("flipped", [False, True])
def test_rotary_projection_is_one_node(flipped: bool) -> None:
    plain = rotary(flipped, turned=True)
    made = with_cpu_operators(plain)
    assert [n.op_type for n in made.graph.node] == ["LinearTurned", "Neg"]
    assert list(made.graph.node[0].input) == ["x", "w_bf16", "b.flat", "cos", "sin"]
    x = {"x": RNG.standard_normal((2, 30, 8)).astype(np.float32)}
    wanted, found = (
        ort.InferenceSession(m.SerializeToString()).run(None, x)[0] for m in (plain, made)
    )
    # weights are rounded to eight bits
    assert np.abs(found - wanted).max() <= 1e-2 * np.abs(wanted).max()


def test_two_products_of_other_matrices_are_no_rotation() -> None:
    assert operators(with_cpu_operators(rotary(flipped=False, turned=False))) == ["Linear"] * 2


def test_a_graph_without_either_is_refused() -> None:
    with pytest.raises(ValueError, match="neither dense layers nor attentions"):
        with_cpu_operators(model([helper.make_node("Neg", ["x"], ["y"])], []))
