"""Exported graphs in ONNX Runtime, and random inputs that fit a contract."""

from __future__ import annotations

import functools
import gc
from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from golden import recipe_state
from numpy.typing import NDArray

from sam2rt.configs.graphs import GraphSpec, graph_specs
from sam2rt.configs.models import model_config
from sam2rt.export.graphs.modules import GraphVariant, graph_modules
from sam2rt.export.graphs.onnx_from_module import onnx_from_module
from sam2rt.export.model.reference import ReferenceSession
from sam2rt.export.model.sam2 import Sam2, build_model
from sam2rt.runtime.session import Into, Session

Arrays = dict[str, NDArray[Any]]
DEFAULT_VARIANT = GraphVariant()


@functools.cache
def recipe_model(name: str, image_size: int | None = None) -> Sam2:
    """The recordings' model; another image size keeps its weights."""
    config = model_config(name)
    model = build_model(config if image_size is None else config.with_image_size(image_size))
    model.load_state_dict(recipe_state(name))
    return model


@functools.cache
def exported(
    name: str, graph: str, image_size: int | None = None, opset: int = 20,
    variant: GraphVariant = DEFAULT_VARIANT,
) -> onnx.ModelProto:  # fmt: skip
    model = recipe_model(name, image_size)
    spec = graph_specs(model.config)[graph]
    return onnx_from_module(_modules(name, image_size, variant)[graph], spec, opset)


@functools.cache
def _modules(name: str, image_size: int | None, variant: GraphVariant):
    return graph_modules(recipe_model(name, image_size), variant)


def forget() -> None:
    """Free the models, graphs and sessions kept for other tests: they take gigabytes."""
    for cached in (recipe_model, exported, _modules, onnx_graph):
        cached.cache_clear()
    gc.collect()


class OnnxGraph:
    """One ONNX model on the CPU, called by input names; outputs by name."""

    def __init__(self, model: onnx.ModelProto | str) -> None:
        options = ort.SessionOptions()
        options.intra_op_num_threads = 2
        options.log_severity_level = 3
        content = model if isinstance(model, str) else model.SerializeToString()
        self._session = ort.InferenceSession(content, options, ["CPUExecutionProvider"])
        self._outputs = [output.name for output in self._session.get_outputs()]

    def __call__(self, inputs: Arrays) -> Arrays:
        return dict(zip(self._outputs, self._session.run(None, inputs), strict=True))


@functools.cache
def onnx_graph(name: str, graph: str, image_size: int | None = None) -> OnnxGraph:
    return OnnxGraph(exported(name, graph, image_size))


class OnnxSession(Session):
    """A session on the exported graphs of one of the recordings' models; they stay cached."""

    def __init__(self, name: str) -> None:
        self.bundle = reference(name).bundle
        self._name = name

    def run(
        self, graph: str, inputs: Mapping[str, NDArray[Any]], into: Into | None = None
    ) -> Arrays:
        return onnx_graph(self._name, graph)(dict(inputs))


def reference(name: str, image_size: int | None = None) -> ReferenceSession:
    return ReferenceSession(recipe_model(name, image_size))


def contract(name: str, graph: str, image_size: int | None = None) -> GraphSpec:
    return graph_specs(recipe_model(name, image_size).config)[graph]


def random_inputs(spec: GraphSpec, seed: int, size: int, **dims: int) -> Arrays:
    """Inputs of the ranges that occur; `size` is the image side, `dims` the symbols' values."""
    random = np.random.default_rng(seed)
    shapes = {
        tensor.name: [dims[dim] if isinstance(dim, str) else dim for dim in tensor.shape]
        for tensor in spec.inputs
    }
    return {name: _random_input(name, shape, random, size) for name, shape in shapes.items()}


def _random_input(
    name: str, shape: list[int], random: np.random.Generator, size: int
) -> NDArray[Any]:
    if name in ("multimask_output", "binarize"):
        return np.zeros(shape, bool)
    if name == "memory_tpos":
        return random.integers(0, 7, shape)
    if name == "point_labels":
        return random.integers(-1, 4, shape).astype(np.int32)
    if name == "has_mask_input":
        return random.integers(0, 2, shape).astype(np.float32)
    if name == "point_coords":
        return (random.random(shape) * size).astype(np.float32)
    scale = {"mask_input": 10, "mask_logits": 10, "object_score": 5, "obj_ptr_pos": 0.3}
    return random.standard_normal(shape).astype(np.float32) * np.float32(scale.get(name, 1))


def differences(spec: GraphSpec, expected: Arrays, actual: Arrays) -> dict[str, float]:
    """Largest absolute difference per output; names, dtypes and shapes must agree."""
    assert list(actual) == [tensor.name for tensor in spec.outputs]
    result = {}
    for tensor in spec.outputs:
        one, other = expected[tensor.name], actual[tensor.name]
        assert one.shape == other.shape, tensor.name
        assert one.dtype == other.dtype == np.dtype(tensor.dtype), tensor.name
        result[tensor.name] = float(np.abs(one - other).max(initial=0))
    return result
