"""Half-precision graphs: what is lowered, what stays, and that rounding alone tells them apart."""

from __future__ import annotations

import collections

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from sam2rt.configs.bundle import Bundle, Half
from sam2rt.export.graphs.precision import emulated, half_nodes, lowered
from sam2rt.export.proof.cases import CASES, Case, case_inputs
from sam2rt.export.proof.record import load_record
from sam2rt.runtime.arrays import Array

HALVES: list[Half] = ["fp16", "bf16"]
_ELEMENT = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
_DTYPE = {"fp16": np.dtype(np.float16), "bf16": np.dtype(ml_dtypes.bfloat16)}


def _run(model: onnx.ModelProto, inputs: dict[str, Array]) -> list[Array]:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, inputs)  # type: ignore[no-any-return]


def _graph(
    nodes: list[onnx.NodeProto], constants: dict[str, Array], inputs: dict[str, list[int]],
    outputs: dict[str, list[int]],
) -> onnx.ModelProto:  # fmt: skip
    def values(named: dict[str, list[int]]) -> list[onnx.ValueInfoProto]:
        return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in named.items()]

    tensors = [numpy_helper.from_array(v.astype(np.float32), n) for n, v in constants.items()]
    graph = helper.make_graph(nodes, "g", values(inputs), values(outputs), tensors)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return onnx.shape_inference.infer_shapes(model)


def _residual_block() -> onnx.ModelProto:
    """x + W2 gelu(W1 norm(x)), then another norm."""
    stream = np.random.default_rng(0)
    node = helper.make_node
    return _graph(
        [
            node("LayerNormalization", ["x", "scale", "shift"], ["n"]),
            node("MatMul", ["n", "w1"], ["u"]),
            node("Add", ["u", "b1"], ["v"]),
            node("Gelu", ["v"], ["g"]),
            node("MatMul", ["g", "w2"], ["d"]),
            node("Add", ["x", "d"], ["sum"]),
            node("LayerNormalization", ["sum", "scale", "shift"], ["y"]),
        ],
        {
            "scale": np.ones(8), "shift": np.zeros(8), "b1": stream.normal(size=16),
            "w1": stream.normal(size=(8, 16)), "w2": stream.normal(size=(16, 8)),
        },
        {"x": [4, 8]},
        {"y": [4, 8]},
    )  # fmt: skip


@pytest.mark.parametrize("precision", HALVES)
def test_residual_stream_and_normalisation_stay(precision: Half) -> None:
    model = _residual_block()
    assert half_nodes(model, precision) == {"u", "v", "g", "d"}
    result = lowered(model, precision)
    casts = [(n.input[0], n.attribute[0].i) for n in result.graph.node if n.op_type == "Cast"]
    assert casts == [("n", _ELEMENT[precision]), ("d", TensorProto.FLOAT)]
    constants = {t.name: t.data_type for t in result.graph.initializer}
    suffix = "_" + precision
    assert constants == {
        "scale": TensorProto.FLOAT, "shift": TensorProto.FLOAT,
        **{name + suffix: _ELEMENT[precision] for name in ("b1", "w1", "w2")},
    }  # fmt: skip


def _turned(x: Array, dtype: np.dtype[np.generic]) -> Array:
    """x rounded to `dtype`, back in float64."""
    rounded: Array = np.asarray(x, np.float32).astype(dtype).astype(np.float64)
    return rounded


@pytest.mark.parametrize("precision", HALVES)
def test_emulation_rounds_every_result(precision: Half) -> None:
    """Against the same steps written out in numpy."""
    from math import erf

    model = _residual_block()
    w = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    x = np.random.default_rng(1).normal(size=(4, 8)).astype(np.float32) * 3
    dtype = _DTYPE[precision]

    def norm(v: Array) -> Array:
        centred = v - v.mean(-1, keepdims=True)
        normed: Array = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5)
        return normed

    n = _turned(norm(x.astype(np.float64)), dtype)
    u = _turned(n @ _turned(w["w1"], dtype), dtype)
    v = _turned(u + _turned(w["b1"], dtype), dtype)
    g = _turned(v * 0.5 * (1 + np.vectorize(erf)(v / np.sqrt(2))), dtype)
    d = _turned(g @ _turned(w["w2"], dtype), dtype)
    expected = norm(x + d)
    (found,) = _run(emulated(lowered(model, precision), precision), {"x": x})
    # a value on the border between two roundings may fall to either side
    step = 2.0 ** (-10 if precision == "fp16" else -7)
    assert np.abs(found - expected).max() < step
    assert np.median(np.abs(found - expected)) < 1e-6


def test_positions_stay() -> None:
    """Whatever a sine is computed from, and the product of two activations at an output."""
    node = helper.make_node
    stream = np.random.default_rng(0)
    model = _graph(
        [
            node("MatMul", ["x", "frequency"], ["angle"]),
            node("Add", ["angle", "phase"], ["moved"]),
            node("Sin", ["moved"], ["s"]),
            node("MatMul", ["s", "w"], ["p"]),
            node("Transpose", ["p"], ["t"], perm=[1, 0]),
            node("MatMul", ["p", "t"], ["product"]),
            node("Reshape", ["product", "shape"], ["y"]),
        ],
        {
            "frequency": stream.normal(size=(2, 6)), "phase": np.ones(6),
            "w": stream.normal(size=(6, 6)),
        },
        {"x": [4, 2]},
        {"y": [16]},
    )  # fmt: skip
    model.graph.initializer.append(numpy_helper.from_array(np.array([16]), "shape"))
    model = onnx.shape_inference.infer_shapes(model)
    assert half_nodes(model, "fp16") == {"p", "t"}
    onnx.checker.check_model(lowered(model, "fp16"), full_check=True)


def test_an_output_in_half_precision_is_cast_back() -> None:
    model = _graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"w": np.eye(3) * 1.0001},
        {"x": [2, 3]},
        {"y": [2, 3]},
    )
    result = lowered(model, "fp16")
    assert [v.type.tensor_type.elem_type for v in result.graph.output] == [TensorProto.FLOAT]
    x = np.array([[1, 2, 3], [4, 5, 0.1]], np.float32)
    (found,) = _run(emulated(result, "fp16"), {"x": x})
    assert np.array_equal(found, x.astype(np.float16).astype(np.float32))


def test_a_constant_out_of_range_is_refused() -> None:
    model = _graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        {"w": np.eye(3) * 1e5},
        {"x": [2, 3]},
        {"y": [2, 3]},
    )
    with pytest.raises(ValueError, match="constant w reaches 100000"):
        lowered(model, "fp16")
    lowered(model, "bf16")


#: operators that may hold half-precision results; anything else in them is a mistake
_EXPECTED = {
    "MatMul", "Conv", "ConvTranspose", "Add", "Mul", "Softmax", "Gelu", "Relu", "Reshape",
    "Transpose", "Slice", "Pad", "ReduceMax", "Concat", "Split", "Cast", "Where", "Gather",
    "Unsqueeze", "Squeeze", "Expand", "Identity",
}  # fmt: skip


@pytest.mark.parametrize("precision", HALVES)
@pytest.mark.parametrize("name", ["image_encoder", "memory_attention", "memory_encoder"])
def test_real_graphs(bundle: Bundle, precision: Half, name: str) -> None:
    model = onnx.load(bundle.graph_path(name))
    chosen = half_nodes(model, precision)
    kinds = collections.Counter(n.op_type for n in model.graph.node if n.output[0] in chosen)
    assert set(kinds) <= _EXPECTED
    products = [n.output[0] for n in model.graph.node if n.op_type == "MatMul"]
    assert set(products) <= chosen, "every matrix product of this graph is lowered"
    result = lowered(model, precision)
    assert [t.name for t in result.graph.input] == [t.name for t in model.graph.input]
    assert [t.name for t in result.graph.output] == [t.name for t in model.graph.output]
    types = {v.type.tensor_type.elem_type for v in (*result.graph.input, *result.graph.output)}
    assert types <= {TensorProto.FLOAT, TensorProto.INT64, TensorProto.INT32, TensorProto.BOOL}


def test_decoder_keeps_heads_positions_and_mask_logits(bundle: Bundle) -> None:
    model = onnx.load(bundle.graph_path("mask_decoder"))
    chosen = half_nodes(model, "fp16")
    makers = {out: node for node in model.graph.node for out in node.output}
    kept = {n.op_type for n in model.graph.node if n.output[0] not in chosen}
    assert {"Gemm", "LayerNormalization", "Sin", "Cos", "Sigmoid"} <= kept
    # walk back from the logits to their product
    value = "all_mask_logits"
    while makers[value].op_type != "MatMul":
        value = makers[value].input[0]
    assert value not in chosen
    point = next(n for n in model.graph.node if "point_coords" in n.input and n.op_type == "MatMul")
    assert point.output[0] not in chosen


@pytest.mark.parametrize(
    "case",
    # the memory encoder is made of convolutions, which stay float32 in bf16
    [c for c in CASES if c.graph not in ("mask_prompt", "memory_encoder")],
    ids=lambda case: case.key,
)
def test_bf16_errs_eight_times_as_much_as_fp16(bundle: Bundle, case: Case) -> None:
    """Three bits of mantissa apart: so both really round, everywhere."""
    recorded = load_record(bundle.path / bundle.proof_files["record"].path, bundle.model)
    exact = onnx.load(bundle.graph_path(case.graph))
    graphs = {half: emulated(lowered(exact, half), half) for half in HALVES}
    shares, ratios = [], []
    # one object's errors share their sign through a whole step: 2 to 30 times in a single draw
    for seed in range(12):
        inputs = case_inputs(case, bundle.model, recorded.statistics, seed)
        right = _run(exact, inputs)[0]
        errors = {h: np.abs(_run(g, inputs)[0] - right).mean() for h, g in graphs.items()}
        shares.append(errors["fp16"] / np.abs(right).mean())
        ratios.append(errors["bf16"] / errors["fp16"])
    assert 1e-5 < np.mean(shares) < 3e-3
    assert 6 < np.exp(np.mean(np.log(ratios))) < 10
