"""Engines where TensorRT is: our plugin alone first, then the model's, proved and timed."""

from __future__ import annotations

import importlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch

from ...configs.bundle import Precision
from ...plugins import memory_cross_attention as op
from ...plugins.kernel import NAMESPACE
from ...plugins.tensorrt_plugins import AttentionSettings, precompile, register_attention
from ...runtime.backends.open import open_session
from .kernels import make_inputs, merged, poisoned, reference, relative_error
from .needs import one_line
from .stage import Problem, Stage
from .systems import frames_per_second, replay_differences, untrained_bundle

#: ||out - reference|| / ||reference||, see ``kernels.BOUNDS``
_BOUND = 1.5e-2


def plugin_engine(stage: Stage) -> Iterator[dict[str, Any]]:
    """An engine of one node, ours: whether TensorRT builds it, and runs it right.

    Tells at once whether a kernel compiled ahead of time may take more than 48 KB of shared
    memory, which nobody documents.
    """
    trt = importlib.import_module("tensorrt")
    problem = stage.steady[0]
    splits = op.split_count(problem.rows, problem.objects, stage.processors)
    settings = AttentionSettings(stage.arch, problem.width, problem.value, splits)
    codes = precompile(settings, "bfloat16")
    found: dict[str, Any] = {"tensorrt": trt.__version__, "shared": [c.shared for c in codes]}
    yield found
    register_attention(trt, importlib.import_module("tensorrt.plugin"), settings)
    engine = _built(trt, one_node_model(problem))
    found["built"] = engine is not None
    yield found
    if engine is not None:
        error = _run_error(trt, engine, problem, splits, stage)
        yield {**found, "error": error, "passed": error <= _BOUND}


def one_node_model(problem: Problem) -> bytes:
    """An ONNX model of the bare node, shapes fixed, bfloat16."""
    from onnx import TensorProto, helper

    def info(name: str, kind: int, *shape: int | None) -> Any:
        return helper.make_tensor_value_info(name, kind, list(shape))

    n, rows, tokens = problem.objects, problem.rows, problem.tokens
    half, full = TensorProto.BFLOAT16, TensorProto.FLOAT
    node = helper.make_node(
        op.NAME, list(op.INPUTS), list(op.OUTPUTS), domain=NAMESPACE, **op.ATTRIBUTES
    )
    graph = helper.make_graph(
        [node],
        "one_node",
        [
            info("query", half, n, rows, problem.width),
            info("key", half, n, tokens, problem.width),
            info("value", half, n, tokens, problem.value),
        ],
        # how many pieces there are is the plugin's affair
        [info("partial", full, n, None, rows, problem.value), info("lse", full, n, None, rows)],
    )
    opsets = [helper.make_opsetid("", 20), helper.make_opsetid(NAMESPACE, 1)]
    made = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    return bytes(made.SerializeToString())


def _built(trt: Any, model: bytes) -> bytes:
    from ...export.engines.engine_from_onnx import engine_from_onnx
    from ...export.engines.options import EngineOptions

    options = EngineOptions(precision="bf16")
    return bytes(engine_from_onnx(trt, model, Path("one_node.onnx"), (), options))


def _run_error(trt: Any, engine: bytes, problem: Problem, splits: int, stage: Stage) -> float:
    runtime = trt.Runtime(trt.Logger(trt.Logger.ERROR))
    context = runtime.deserialize_cuda_engine(engine).create_execution_context()
    inputs = make_inputs(problem, stage.device, torch.bfloat16)
    partial, lse = poisoned(inputs, splits)
    for name, tensor in {**vars(inputs), "partial": partial, "lse": lse}.items():
        context.set_tensor_address(name, tensor.data_ptr())
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    stage.synchronize()
    if not context.execute_async_v3(stream.cuda_stream):
        raise RuntimeError("TensorRT refused to enqueue the engine of one node")
    stream.synchronize()
    return relative_error(merged(partial, lse), reference(inputs))


def engines(stage: Stage, precision: Precision = "bf16") -> Iterator[dict[str, Any]]:
    """Engines of the fastest model for one object: the build's report, replays, frames a second."""
    from ...export.engines.build import build_engines
    from ...export.engines.options import BuildOptions, EngineOptions
    from ...export.engines.profiles import Limits

    cache = stage.folder / "timings.cache"
    options = BuildOptions(limits=Limits(objects=1), engine=EngineOptions(timing_cache=cache))
    with tempfile.TemporaryDirectory() as folder:
        bundle = untrained_bundle(Path(folder), stage.models[0], precision)
        report = build_engines(bundle, options)
        found: dict[str, Any] = {
            "model": stage.models[0],
            "precision": precision,
            "tensorrt": report.machine.tensorrt,
            "seconds": dict(report.seconds),
            "candidates": [vars(c) for c in report.candidates],
            "proof": dict(report.proof),
        }
        yield found
        found["replay"] = replay_differences(bundle)
        yield found
        try:
            with open_session(bundle, "tensorrt", "cuda") as session:
                found["tensorrt cuda"] = frames_per_second(session)
        except Exception as error:
            # what a vendor's library raises must not cost the rest
            found["tensorrt cuda"] = {"failed": one_line(error)}
        yield found
