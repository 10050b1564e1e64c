"""The ONNX files themselves: contract, checker, external weights, fitness for TensorRT."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from exported import contract, exported, recipe_model
from golden import TINY
from onnx import TensorProto, helper, numpy_helper

from sam2rt.configs.errors import InputError
from sam2rt.export.graphs.modules import graph_modules
from sam2rt.export.graphs.onnx_from_module import onnx_from_module
from sam2rt.export.graphs.tensorrt_rules import tensorrt_problems

GRAPHS = ("image_encoder", "memory_attention", "mask_decoder", "mask_prompt", "memory_encoder")
VARIANTS = ("micro", "micro20", TINY)


def declared(values):
    """(name, dtype, symbolic shape) of graph inputs or outputs."""
    return [
        (
            value.name,
            np.dtype(helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type)).name,
            tuple(d.dim_param or d.dim_value for d in value.type.tensor_type.shape.dim),
        )
        for value in values
    ]


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("variant", ["micro", "micro20"])
def test_declares_exactly_the_contract(variant, graph):
    model, spec = exported(variant, graph), contract(variant, graph)
    for values, tensors in (
        (model.graph.input, spec.inputs),
        (model.graph.output, spec.outputs),
    ):
        expected = [(t.name, t.dtype, t.shape) for t in tensors]
        assert declared(values) == expected
    assert model.ir_version == 10
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 20)]
    onnx.checker.check_model(model, full_check=True)


@pytest.mark.parametrize("graph", GRAPHS)
def test_only_one_shape_is_computed_at_run_time(graph):
    """The decoder repeats its special tokens per object; nothing else asks for a shape."""
    ops = [node.op_type for node in exported("micro", graph).graph.node]
    assert ops.count("Shape") == (1 if graph == "mask_decoder" else 0)
    assert not {"ConstantOfShape", "Gather"} & set(ops) or graph in (
        "mask_decoder",
        "memory_attention",
    )


def test_an_unknown_opset_is_refused():
    module = graph_modules(recipe_model("micro"))["mask_prompt"]
    with pytest.raises(InputError, match="opset 17 is not supported"):
        onnx_from_module(module, contract("micro", "mask_prompt"), opset=17)


@pytest.mark.parametrize("graph", GRAPHS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_tensorrt_takes_every_operator(variant, graph):
    assert tensorrt_problems(exported(variant, graph)) == []


def hostile(nodes, constants=(), dtype=TensorProto.FLOAT, opset=20):
    """A graph x [2, 2] -> y of the nodes."""
    shape = [2, 2]
    graph = helper.make_graph(
        nodes,
        "hostile",
        [helper.make_tensor_value_info("x", dtype, shape)],
        [helper.make_empty_tensor_value_info("y")],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)])


def node(op, *inputs, **attributes):
    return helper.make_node(op, list(inputs), ["y"], name="planted", **attributes)


NONZERO = helper.make_node("NonZero", ["x"], ["n"])
ATTENTION = hostile([node("Attention", "x", "x", "x", softmax_precision=1)], opset=23)
PLANTED = {
    "unsupported operator": (hostile([node("Det", "x")]), "does not import"),
    "foreign domain": (hostile([node("Gelu", "x", domain="com.microsoft")]), "com.microsoft"),
    "float64": (hostile([node("Sin", "x")], dtype=TensorProto.DOUBLE), "float64"),
    "element type": (hostile([node("Sin", "x")], dtype=TensorProto.INT32), "not among float32"),
    "data-dependent shape": (hostile([node("NonZero", "x")]), "shape depends on data"),
    "shape from data": (
        hostile([NONZERO, helper.make_node("Shape", ["n"], ["s"]), node("Reshape", "x", "n")]),
        "input 1 depends on data",
    ),
    "scatter": (
        hostile(
            [node("ScatterND", "x", "i", "v")],
            [("i", [[0, 0]]), ("v", np.ones(1, np.float32))],
        ),
        "stops fusion",
    ),
    "antialiasing": (
        hostile(
            [node("Resize", "x", "", "s", mode="linear", antialias=1)],
            [("s", np.array([0.5, 0.5], np.float32))],
        ),
        "two matrix products",
    ),
    "wide integers": (
        hostile([node("Reshape", "x", "s")], [("s", [4]), ("unused", [1 << 40])]),
        "int64 beyond int32",
    ),
    "too many dimensions": (
        hostile([node("Reshape", "x", "s")], [("s", [1, 1, 1, 1, 1, 1, 1, 2, 2])]),
        "9 dimensions",
    ),
    "2x2 products": (hostile([node("MatMul", "x", "x")]), "cos and sin"),
    "axes at run time": (
        hostile(
            [helper.make_node("Shape", ["x"], ["s"], start=0, end=1), node("ReduceSum", "x", "s")]
        ),
        "input 1 must be a constant",
    ),
    "opset": (hostile([node("Sin", "x")], opset=8), "opset 8"),
    "operator of a later release": (ATTENTION, "from TensorRT 10.15 on, expected by 10.13"),
    "softmax in another type": (ATTENTION, "softmax_precision is not supported"),
    "attention in float32": (ATTENTION, "float32 is not among float16, bfloat16"),
    "heads that are not apart": (ATTENTION, "unsqueeze the heads"),
}


@pytest.mark.parametrize("kind", PLANTED)
def test_a_hostile_graph_is_noticed(kind):
    model, text = PLANTED[kind]
    problems = tensorrt_problems(model)
    assert any(text in problem for problem in problems), problems


def test_control_flow_is_noticed():
    body = helper.make_graph(
        [helper.make_node("Identity", ["x"], ["inner"])],
        "body",
        [],
        [helper.make_tensor_value_info("inner", TensorProto.FLOAT, [2, 2])],
    )
    condition = helper.make_node("If", ["c"], ["y"], then_branch=body, else_branch=body)
    problems = tensorrt_problems(hostile([condition], [("c", True)]))
    assert any("control flow" in problem for problem in problems), problems
