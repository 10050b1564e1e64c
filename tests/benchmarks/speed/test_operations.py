"""Operations counted from graphs: against hand counts, and against the model's own formula."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from sam2rt.benchmarks.speed.operations import graph_operations, model_operations
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.models import ModelConfig


def _model(
    op: str,
    shapes: list[list[int | str]],
    weights: dict[str, tuple[int, ...]],
    **attributes: object,
) -> onnx.ModelProto:
    infos = [
        helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, s) for i, s in enumerate(shapes)
    ]
    held = [numpy_helper.from_array(np.ones(s, np.float32), name) for name, s in weights.items()]
    inputs = [info.name for info in infos] + list(weights)
    out = helper.make_tensor_value_info("out", TensorProto.FLOAT, None)
    graph = helper.make_graph(
        [helper.make_node(op, inputs, ["out"], **attributes)], "g", infos, [out], held
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)])


@pytest.mark.parametrize(
    ("op", "shape", "weight", "attributes", "expected"),
    [
        ("MatMul", (2, 5, 7), (7, 3), {}, 2 * 2 * 5 * 7 * 3),
        ("Gemm", (7, 5), (7, 3), {"transA": 1}, 2 * 5 * 7 * 3),
        ("Conv", (1, 6, 8, 8), (4, 6, 3, 3), {"pads": [1, 1, 1, 1]}, 2 * 4 * 64 * 6 * 9),
        ("Conv", (1, 6, 8, 8), (6, 1, 7, 7), {"group": 6, "strides": [2, 2]}, 2 * 6 * 1 * 49),
        ("ConvTranspose", (1, 6, 8, 8), (6, 4, 2, 2), {"strides": [2, 2]}, 2 * 6 * 64 * 4 * 4),
        ("Add", (3, 4), (3, 4), {}, 0),
    ],
)
def test_each_operator_counts_two_per_multiply_add(
    op: str, shape: tuple[int, ...], weight: tuple[int, ...], attributes: dict[str, object],
    expected: int,
) -> None:  # fmt: skip
    model = _model(op, [["a", *shape[1:]]], {"w": weight}, **attributes)
    assert model_operations(model, {"x0": shape}) == expected


def test_large_weights_are_not_read() -> None:
    model = _model("MatMul", [["rows", 512]], {"w": (512, 256)})
    assert model_operations(model, {"x0": (3, 512)}) == 2 * 3 * 512 * 256


def test_a_shape_that_depends_on_values_is_said_to_be_unknown() -> None:
    model = _model("Reshape", [[6, 4]], {})
    shape = helper.make_tensor_value_info("s", TensorProto.INT64, [2])
    model.graph.input.append(shape)
    model.graph.node[0].input.append("s")
    model.graph.node[0].output[0] = "r"
    model.graph.node.append(helper.make_node("MatMul", ["r", "r"], ["out"]))
    assert model_operations(model, {"x0": (6, 4)}) is None


def _attention_formula(model: ModelConfig, n: int, m: int, k: int) -> int:
    """Multiply-adds of the folded memory attention: projections turned and straight, both mixes."""
    c, narrow, area = model.hidden_dim, model.mem_dim, model.embed_size**2
    tokens = k * model.pointer_tokens
    own = 6 * area * c * c + area * area * 2 * c
    queries = 2 * area * c * c
    cross = 2 * m * area * narrow * c + tokens * narrow * c
    cross += area * (m * area + tokens) * (c + narrow) + area * narrow * c
    rest = 2 * area * c * model.memory_attention_ffn
    layers = model.memory_attention_layers
    # what the first layer asks does not depend on the object
    asked = (1 + (layers - 1) * n) * (own + queries)
    return 2 * (asked + layers * n * (cross + rest) + n * k * c * narrow)


@pytest.mark.parametrize(("n", "m", "k"), [(1, 7, 16), (3, 2, 2)])
def test_memory_attention_is_what_the_model_says(bundle: Bundle, n: int, m: int, k: int) -> None:
    spec = bundle.graphs["memory_attention"].spec
    sizes = {"I": 1, "N": n, "M": m, "K": k}
    counted = graph_operations(bundle.graph_path("memory_attention"), spec, sizes)
    assert counted == _attention_formula(bundle.model, n, m, k)


def test_operations_of_the_encoder_grow_with_images(bundle: Bundle) -> None:
    path, spec = bundle.graph_path("image_encoder"), bundle.graphs["image_encoder"].spec
    one, three = (graph_operations(path, spec, {"B": count}) for count in (1, 3))
    assert one is not None
    assert three == 3 * one > 1e8
