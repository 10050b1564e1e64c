"""Custom nodes with their plain bodies, as ONNX Runtime and TensorRT's parser see them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto
from torch import nn

from sam2rt.export.plugin_nodes import (
    memory_cross_attention,
    plugin_nodes,
    with_plugin_functions,
)
from sam2rt.plugins import memory_cross_attention as op
from sam2rt.runtime.build_onnx import without_functions

WIDTH, VALUE, ROWS, LAYERS = 64, 16, 36, 2


class _Layers(nn.Module):
    """Cross-attention layers in a row, each feeding the next its queries."""

    def __init__(self) -> None:
        super().__init__()
        self.out = nn.ModuleList(nn.Linear(VALUE, WIDTH) for _ in range(LAYERS))

    def forward(self, query, key, value, cos, sin):  # type: ignore[no-untyped-def]
        for out in self.out:
            query = query + out(memory_cross_attention(query, key, value, cos, sin))
        return query


def _arrays(n: int, tokens: int) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(n)
    angles = rng.uniform(0, 6, (ROWS, WIDTH // 2))
    arrays = {
        "query": rng.standard_normal((n, ROWS, WIDTH)),
        "key": rng.standard_normal((n, tokens, WIDTH)),
        "value": rng.standard_normal((n, tokens, VALUE)),
        "cos": np.cos(angles),
        "sin": np.sin(angles),
    }
    return {k: v.astype(np.float32) for k, v in arrays.items()}


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, onnx.ModelProto]:
    torch.manual_seed(0)
    module = _Layers().eval()
    sample = tuple(torch.from_numpy(a) for a in _arrays(2, 80).values())
    n, tokens = torch.export.Dim("N", min=1), torch.export.Dim("L", min=1)
    shapes = ({0: n}, {0: n, 1: tokens}, {0: n, 1: tokens}, {}, {})
    path = tmp_path_factory.mktemp("nodes") / "model.onnx"
    torch.onnx.export(
        module, sample, path, dynamo=True, opset_version=18, dynamic_shapes=shapes,
        input_names=list(_arrays(1, 1)), output_names=["out"], verbose=False,
        external_data=False,
    )  # fmt: skip
    return module, with_plugin_functions(onnx.load(path), WIDTH)


def _run(model: bytes, arrays: dict[str, np.ndarray]) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, arrays)[0]


@pytest.mark.parametrize(("n", "tokens"), [(1, 36), (3, 100)])
def test_node_with_its_body_equals_torch(
    exported: tuple[nn.Module, onnx.ModelProto], n: int, tokens: int
) -> None:
    module, model = exported
    arrays = _arrays(n, tokens)
    with torch.no_grad():
        expected = module(*(torch.from_numpy(a) for a in arrays.values())).numpy()
    got = _run(model.SerializeToString(), arrays)
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-5)


def test_dropping_the_function_leaves_one_custom_node_per_layer(
    exported: tuple[nn.Module, onnx.ModelProto], tmp_path: Path
) -> None:
    _, model = exported
    assert [f.name for f in model.functions if f.domain == "sam2rt"] == [op.NAME]
    bare = onnx.load_model_from_string(without_functions(model.SerializeToString(), {op.NAME}))
    assert not [f for f in bare.functions if f.domain == "sam2rt"]
    nodes = plugin_nodes(bare)
    assert [node.op_type for node in nodes] == [op.NAME] * LAYERS
    for node in nodes:
        attributes = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}
        assert attributes == {"plugin_namespace": b"sam2rt", "plugin_version": b"1"}
        assert (len(node.input), len(node.output)) == (5, 2)
    # nothing else of the model changes
    again = onnx.ModelProto()
    again.CopyFrom(model)
    del again.functions[:]
    again.functions.extend(f for f in model.functions if f.domain != "sam2rt")
    assert again == bare


def test_operator_names_are_no_built_in_operators() -> None:
    """TensorRT's parser prefers a built-in operator of the same name, whatever the domain."""
    assert op.NAME not in {schema.name for schema in onnx.defs.get_all_schemas()}


@pytest.mark.parametrize(("n", "tokens"), [(2, 90)])
def test_plain_body_alone_equals_numpy(n: int, tokens: int) -> None:
    arrays = _arrays(n, tokens)
    node = onnx.helper.make_node(
        op.NAME, list(op.INPUTS), list(op.OUTPUTS), domain="sam2rt", **op.ATTRIBUTES
    )

    def info(name: str, rank: int) -> onnx.ValueInfoProto:
        return onnx.helper.make_tensor_value_info(name, TensorProto.FLOAT, [None] * rank)

    graph = onnx.helper.make_graph(
        [node], "g", [info(k, a.ndim) for k, a in arrays.items()],
        [info("partial", 4), info("lse", 3)],
    )  # fmt: skip
    model = onnx.helper.make_model(
        graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10
    )
    with_plugin_functions(model, WIDTH)
    onnx.checker.check_model(model)
    partial = _run(model.SerializeToString(), arrays)
    expected, _ = op.reference(*arrays.values())
    assert partial.shape == expected.shape
    np.testing.assert_allclose(partial, expected, rtol=0, atol=2e-6)
