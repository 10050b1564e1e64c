"""The executor of ONNX graphs against ONNX Runtime, over what our exporters write."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx
import onnx.inliner
import pytest
import torch
from bundles import SharedBundles
from exported import OnnxGraph
from onnx import ModelProto, TensorProto, helper

from sam2rt.benchmarks.gpu.model.executor import GraphExecutor, load_graph
from sam2rt.benchmarks.gpu.systems import steady_inputs
from sam2rt.configs.bundle import Bundle, Precision
from sam2rt.export.graphs.precision import emulated
from sam2rt.plugins import memory_cross_attention as op

PRECISIONS = ("fp32", "bf16", pytest.param("fp16", marks=pytest.mark.slow))
#: least cosine between outputs, and largest difference as a share of the largest value: float32
#: sums in another order, which random memories amplify to 2e-5; 8 and 11 bits of mantissa,
#: rounded at other places on either side
COSINE = {"fp32": 1 - 1e-8, "bf16": 0.99, "fp16": 0.9995}
LARGEST = {"fp32": 1e-4, "bf16": 0.3, "fp16": 0.1}


def _bundle(shared: SharedBundles, precision: Precision) -> Bundle:
    return shared.untrained(precision=precision, engine_variants=True)


def _tensors(arrays: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _expected(bundle: Bundle, name: str, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What ONNX Runtime gives; a graph of half precision by float32 kernels that round."""
    path = bundle.graph_path(name)
    if bundle.precision == "fp32":
        return OnnxGraph(str(path))(arrays)
    plain = onnx.inliner.inline_local_functions(onnx.load(path))
    graph = emulated(onnx.shape_inference.infer_shapes(plain), bundle.precision)
    return OnnxGraph(graph)(arrays)


def _runs(bundle: Bundle, name: str, device: str = "cpu") -> Iterator[tuple[bool, dict[str, Any]]]:
    arrays = steady_inputs(bundle, name, 3)
    for fused in (False, True):
        run = load_graph(bundle.graph_path(name), device, fused=fused)
        with torch.inference_mode():
            yield fused, run({n: t.to(device) for n, t in _tensors(arrays).items()})


@pytest.mark.parametrize("precision", PRECISIONS)
def test_every_graph_of_micro_equals_onnxruntime(
    shared_bundles: SharedBundles, precision: Precision
) -> None:
    bundle = _bundle(shared_bundles, precision)
    # half precision has the variant "operator" too
    assert len(bundle.graphs) == (9 if precision == "fp32" else 10)
    for name, entry in bundle.graphs.items():
        expected = _expected(bundle, name, steady_inputs(bundle, name, 3))
        for fused, found in _runs(bundle, name):
            assert list(found) == [t.name for t in entry.spec.outputs]
            for output, value in expected.items():
                _close(found[output].numpy(), value, precision, f"{name}.{output} {fused=}")


def _close(found: np.ndarray, expected: np.ndarray, precision: str, what: str) -> None:
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype), what
    a, b = found.ravel().astype(np.float64), expected.ravel().astype(np.float64)
    scale = max(np.abs(b).max(), 1e-3)
    assert np.abs(a - b).max() <= LARGEST[precision] * scale, what
    assert a @ b / np.sqrt((a @ a) * (b @ b)) >= COSINE[precision], what


def test_nothing_of_a_graph_is_read_back_or_left_on_the_host(
    shared_bundles: SharedBundles,
) -> None:
    """On tensors without content, as a capture demands: neither a value nor a stray device."""
    bundle = _bundle(shared_bundles, "bf16")
    for name, entry in bundle.graphs.items():
        for _, found in _runs(bundle, name, "meta"):
            for tensor in entry.spec.outputs:
                made = found[tensor.name]
                assert made.device.type == "meta", f"{name}.{tensor.name}"
                assert str(made.dtype) == f"torch.{tensor.dtype}"


@pytest.mark.slow
def test_memory_attention_of_tiny_equals_onnxruntime(tiny_bundle: Bundle) -> None:
    arrays = steady_inputs(tiny_bundle, "memory_attention", 3)
    arrays = {n: a[:, :2] if n in ("memory", "memory_tpos") else a for n, a in arrays.items()}
    path = tiny_bundle.graph_path("memory_attention")
    expected = OnnxGraph(str(path))(arrays)["conditioned_embed"]
    with torch.inference_mode():
        found = load_graph(path, fused=True)(_tensors(arrays))["conditioned_embed"]
    _close(found.numpy(), expected, "fp32", "memory_attention")


def test_a_kernel_takes_the_place_of_a_plain_body(shared_bundles: SharedBundles) -> None:
    bundle = _bundle(shared_bundles, "fp32")
    given = _tensors(steady_inputs(bundle, "memory_attention", 3))
    path = bundle.graph_path("memory_attention.whole")
    calls: list[tuple[int, ...]] = []

    def kernel(*inputs: torch.Tensor) -> list[torch.Tensor]:
        calls.append(tuple(inputs[1].shape))
        return [torch.from_numpy(a).float() for a in op.reference(*(t.numpy() for t in inputs))]

    plain = load_graph(path)(given)["conditioned_embed"]
    found = load_graph(path, custom={op.NAME: kernel})(given)["conditioned_embed"]
    assert len(calls) == bundle.model.memory_attention_layers
    assert calls[0] == (1, 7 * 256 + 16 * 4, 64)
    np.testing.assert_allclose(found.numpy(), plain.numpy(), rtol=0, atol=5e-5)


def _model(nodes: list[Any], inputs: dict[str, tuple[int, ...]], opset: int = 20) -> ModelProto:
    infos = [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in inputs.items()]
    out = [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", infos, out)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)


def test_an_operator_that_no_exporter_writes_is_refused() -> None:
    model = _model([helper.make_node("Einsum", ["x"], ["out"], equation="ij->ji")], {"x": (2, 3)})
    with pytest.raises(NotImplementedError, match="Einsum"):
        GraphExecutor(model)


def test_attention_whose_weights_are_read_elsewhere_is_left_as_it_is() -> None:
    nodes = [
        helper.make_node("MatMul", ["q", "k"], ["s"]),
        helper.make_node("Softmax", ["s"], ["w"], axis=-1),
        helper.make_node("MatMul", ["w", "v"], ["o"]),
        helper.make_node("ReduceMax", ["w"], ["m"], keepdims=0),
        helper.make_node("Add", ["o", "m"], ["out"]),
    ]
    shapes = {"q": (1, 5, 8), "k": (1, 8, 7), "v": (1, 7, 4)}
    model = _model(nodes, shapes)
    stream = np.random.default_rng(0)
    arrays = {n: stream.standard_normal(s).astype(np.float32) for n, s in shapes.items()}
    expected = OnnxGraph(model)(arrays)["out"]
    found = GraphExecutor(model, fused=True)(_tensors(arrays))["out"]
    np.testing.assert_allclose(found.numpy(), expected, rtol=0, atol=1e-6)
