"""The engine of one node, as far as a machine without TensorRT can say."""

from __future__ import annotations

import onnx
import torch

from sam2rt.benchmarks.gpu.kernels import BOUNDS, make_inputs, relative_error
from sam2rt.benchmarks.gpu.model.executor import GraphExecutor
from sam2rt.benchmarks.gpu.stage import Problem
from sam2rt.benchmarks.gpu.tensorrt_engines import one_node_model
from sam2rt.export.graphs.plugin_nodes import plugin_nodes, with_plugin_functions
from sam2rt.plugins import memory_cross_attention as op


def test_the_model_of_one_node_is_the_operator() -> None:
    problem = Problem(2, 4, 2, 3, width=64, value=16)
    model = onnx.load_model_from_string(one_node_model(problem))
    onnx.checker.check_model(model)
    assert [node.op_type for node in plugin_nodes(model)] == [op.NAME]
    assert len(model.graph.node) == 1
    inputs = make_inputs(problem, "cpu", torch.bfloat16)
    expected, _ = op.reference(*(t.float().numpy() for t in vars(inputs).values()))
    found = GraphExecutor(with_plugin_functions(model))(vars(inputs))
    assert found["lse"].shape == (2, 1, 16)
    assert relative_error(found["partial"], torch.from_numpy(expected)) < BOUNDS[torch.bfloat16]
