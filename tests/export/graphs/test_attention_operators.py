"""The operator Attention in the place of plain products: the same numbers, and what it needs.

That the vendor's builder fuses it is tested in tests/export/engines/test_real_builder.py.
"""

from __future__ import annotations

import numpy as np
import onnxruntime
import pytest
from onnx import ModelProto, helper

from sam2rt.configs.bundle import Half
from sam2rt.configs.graphs import OPERATOR_RELEASE, graph_specs
from sam2rt.configs.models import model_config
from sam2rt.export.graphs.modules import graph_modules
from sam2rt.export.graphs.onnx_from_module import onnx_from_module
from sam2rt.export.graphs.plugin_nodes import with_attention_operators
from sam2rt.export.graphs.precision import emulated, lowered
from sam2rt.export.graphs.tensorrt_rules import tensorrt_problems
from sam2rt.export.graphs.variants import FULL_VALUES, variant_models
from sam2rt.export.model.sam2 import Sam2, build_model
from sam2rt.export.model.untrained import untrained_state

MICRO = model_config("micro")
SPEC = graph_specs(MICRO)["memory_attention"]
#: to the frame itself and to memories, in each layer
ATTENTIONS = 2 * MICRO.memory_attention_layers
#: (objects, images, memories, pointers): shared and own images, the least and the usual
SIZES = [(1, 1, 7, 16), (3, 1, 2, 2), (2, 2, 1, 0)]


@pytest.fixture(scope="module")
def model() -> Sam2:
    made = build_model(MICRO)
    made.load_state_dict(untrained_state(MICRO))
    return made


@pytest.fixture(scope="module")
def full(model: Sam2) -> ModelProto:
    """Memory attention of micro in plain operators, values at full width."""
    return onnx_from_module(graph_modules(model, FULL_VALUES)["memory_attention"], SPEC, 20)


def _run(model: ModelProto, n: int, shared: int, memories: int, pointers: int) -> np.ndarray:
    stream = np.random.default_rng(n * 100 + memories)
    sizes = {"N": n, "I": shared, "M": memories, "K": pointers}
    arrays = {}
    for t in SPEC.inputs:
        shape = tuple(sizes[d] if isinstance(d, str) else d for d in t.shape)
        values = (
            stream.integers(0, 7, shape) if t.dtype == "int64" else stream.standard_normal(shape)
        )
        arrays[t.name] = values.astype(t.dtype)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return session.run(None, arrays)[0]


@pytest.mark.parametrize("sizes", SIZES)
def test_operators_give_what_plain_products_give(
    full: ModelProto, sizes: tuple[int, int, int, int]
) -> None:
    expected = _run(full, *sizes)
    found = _run(with_attention_operators(full), *sizes)
    # sums of another order: float32 rounding of numbers near 4
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5)
    assert np.abs(expected).max() > 1


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize("sizes", SIZES)
def test_in_half_precision_they_are_as_close_to_float32(
    full: ModelProto, precision: Half, sizes: tuple[int, int, int, int]
) -> None:
    """As the proof runs half precision on a CPU: float32, each operator's result rounded."""
    exact = _run(full, *sizes)
    plain = lowered(full, precision)
    operators = emulated(with_attention_operators(plain), precision)
    assert [n.op_type for n in operators.graph.node].count("Attention") == ATTENTIONS
    found = np.abs(_run(operators, *sizes) - exact).max()
    # one rounding of weights less in each attention; the residual stream is float32 in both
    assert 0 < found < 1.1 * np.abs(_run(emulated(plain, precision), *sizes) - exact).max()


def test_each_attention_is_one_operator_of_its_own_name(full: ModelProto) -> None:
    before = full.SerializeToString()
    made = with_attention_operators(full)
    kinds = [node.op_type for node in made.graph.node]
    assert (kinds.count("Attention"), kinds.count("Softmax")) == (ATTENTIONS, 0)
    assert [n.op_type for n in full.graph.node].count("Softmax") == ATTENTIONS
    names = [node.name for node in made.graph.node]
    assert len(set(names)) == len(names)
    for node in made.graph.node:
        if node.op_type == "Attention":
            # queries come scaled, and TensorRT refuses any attribute more
            attributes = {a.name: helper.get_attribute_value(a) for a in node.attribute}
            assert attributes == {"scale": 1.0}
    assert full.SerializeToString() == before


def test_the_shared_queries_of_the_first_layer_alone_are_repeated(full: ModelProto) -> None:
    """A builder fuses no attention whose batches differ."""
    (repeated,) = [node for node in full.graph.node if node.op_type == "Expand"]
    assert repeated.name.startswith("/layers.0/cross_attn/")
    readers = [n for n in full.graph.node if repeated.output[0] in n.input]
    assert [n.op_type for n in readers] == ["MatMul"]


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_the_variant_needs_half_precision_and_a_later_release(model: Sam2, precision: Half) -> None:
    made = {name: graph for name, _, graph in variant_models(model, 20, precision)}
    operators = made["memory_attention.operator"]
    assert (operators.opset_import[0].version, operators.ir_version) == (23, 11)
    assert tensorrt_problems(operators, OPERATOR_RELEASE) == []
    early = tensorrt_problems(operators)
    assert len(early) == ATTENTIONS
    assert all("imported from TensorRT 10.15 on, expected by 10.13" in text for text in early)
    # the other variants stay as they were
    for name, graph in made.items():
        if graph is not operators:
            assert tensorrt_problems(graph) == [] or graph.functions, name


def test_float32_has_no_such_variant(model: Sam2) -> None:
    assert "memory_attention.operator" not in {
        name for name, _, _ in variant_models(model, 20, "fp32")
    }


def test_a_graph_without_attention_is_refused(model: Sam2) -> None:
    graph = onnx_from_module(
        graph_modules(model)["memory_encoder"], graph_specs(MICRO)["memory_encoder"], 20
    )
    with pytest.raises(ValueError, match="has no attention in one piece"):
        with_attention_operators(graph)
