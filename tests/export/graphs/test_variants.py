"""Variants for engines equal the graphs they stand for, and stay out of CPU sessions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from bundles import SharedBundles
from click.testing import CliRunner

from sam2rt.cli.commands import build as console_build
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import ProofError
from sam2rt.configs.graphs import graph_specs
from sam2rt.configs.models import model_config
from sam2rt.export.engines.onnx_functions import function_names
from sam2rt.export.engines.options import BuildOptions, BuildReport, Candidate, EngineOptions
from sam2rt.export.engines.profiles import Limits
from sam2rt.export.engines.proof import prove_session
from sam2rt.runtime.backends.engine_record import EngineTarget
from sam2rt.runtime.backends.onnxruntime_session import OnnxRuntimeSession

MICRO = model_config("micro")
VARIANTS = {
    "image_encoder.whole": "image_encoder",
    "memory_attention.whole": "memory_attention",
    "memory_attention.full": "memory_attention",
}


@pytest.fixture(scope="module")
def bundle(shared_bundles: SharedBundles) -> Bundle:
    return shared_bundles.untrained(engine_variants=True, seed=3)


def _inputs(graph: str) -> dict[str, np.ndarray]:
    stream = np.random.default_rng(5)
    sizes = {"B": 2, "N": 2, "I": 1, "M": 3, "K": 5}
    arrays = {}
    for t in graph_specs(MICRO)[graph].inputs:
        shape = tuple(sizes[d] if isinstance(d, str) else d for d in t.shape)
        if t.dtype == "int64":
            arrays[t.name] = stream.integers(0, 7, shape)
        else:
            arrays[t.name] = stream.standard_normal(shape).astype(np.float32)
    return arrays


def test_the_manifest_names_the_variants(bundle: Bundle) -> None:
    assert set(bundle.graphs) == set(graph_specs(MICRO)) | set(VARIANTS)
    again = Bundle.load(bundle.path)
    for name, graph in VARIANTS.items():
        assert again.graphs[name].spec.inputs == again.graphs[graph].spec.inputs
        assert again.graphs[name].spec.outputs == again.graphs[graph].spec.outputs


@pytest.mark.parametrize("name", list(VARIANTS))
def test_each_variant_equals_its_graph(bundle: Bundle, name: str) -> None:
    inputs = _inputs(VARIANTS[name])
    session = OnnxRuntimeSession(bundle, threads=1)
    expected, found = session.run(VARIANTS[name], inputs), session.run(name, inputs)
    for output, value in expected.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(found[output], value, rtol=0, atol=1e-5 * scale)


def test_only_whole_memory_attention_has_the_node(bundle: Bundle) -> None:
    with_node = [n for n in bundle.graphs if function_names(bundle.graph_path(n).read_bytes())]
    assert with_node == ["memory_attention.whole"]


@pytest.mark.parametrize(
    ("name", "adds"), [("memory_attention.full", True), ("memory_attention", False)]
)
def test_values_of_the_full_variant_alone_keep_their_bias(
    bundle: Bundle, name: str, adds: bool
) -> None:
    """What makes NVIDIA's builder fuse them (tests/export/engines/test_real_builder.py)."""
    graph = onnx.load(bundle.graph_path(name), load_external_data=False).graph
    maker = {output: node for node in graph.node for output in node.output}
    values = [
        maker[node.input[1]].op_type
        for node in graph.node
        if node.op_type == "MatMul" and maker[node.input[0]].op_type == "Softmax"
    ]
    assert len(values) == 4
    assert [kind == "Add" for kind in values] == [adds] * 4


def test_a_cpu_session_opens_the_contract_alone(bundle: Bundle) -> None:
    with OnnxRuntimeSession(bundle, threads=1) as session:
        assert set(session._graphs) == set(graph_specs(MICRO)) - {"memory_attention"}


def test_the_proof_of_engines_passes_equal_outputs_and_names_others(bundle: Bundle) -> None:
    session = OnnxRuntimeSession(bundle, threads=1)
    measured = prove_session(bundle, session)
    assert measured["clip"]["lowest_iou"] > 0.99

    class Off(OnnxRuntimeSession):
        def run(self, graph: str, inputs: Any, into: Any = None) -> dict[str, Any]:
            outputs = super().run(graph, inputs, into)
            if graph == "memory_encoder":
                outputs["memory"] = outputs["memory"] * np.float32(1.1)
            return outputs

    with pytest.raises(ProofError, match=r"the engine does not equal .*memory_encoder\.memory"):
        prove_session(bundle, Off(bundle, threads=1))


def test_build_options_reach_the_builder(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[BuildOptions] = []

    def build(loaded: Bundle, options: BuildOptions, progress: Any) -> BuildReport:
        seen.append(options)
        machine = EngineTarget("10.16.1.11", 90, "Fake GPU", (13, 0))
        tried = (Candidate("folded", 2.5), Candidate("full", error="no kernel fits"))
        return BuildReport(
            loaded.path, machine, {"mask_decoder": 61.0}, tried, {"clip": {"lowest_iou": 0.98765}}
        )

    monkeypatch.setattr(console_build, "build_engines", build)
    arguments = [
        str(bundle.path), "--graphs", "mask_decoder,mask_prompt", "--max-objects", "8",
        "--max-memories", "9", "--workspace", "4G", "--timing-cache", "t.cache",
        "--hardware-compat", "--version-compat", "--opt-level", "2", "--attention", "plugin",
        "--precision", "fp32",
    ]  # fmt: skip
    result = CliRunner().invoke(console_build.build_command, arguments)
    assert result.exit_code == 0, result.output
    (options,) = seen
    assert options == BuildOptions(
        graphs=("mask_decoder", "mask_prompt"), precision="fp32", attention="plugin",
        limits=Limits(objects=8, memories=9),
        engine=EngineOptions(4 << 30, 2, True, True, Path("t.cache")),
    )  # fmt: skip
    for line in (
        "Fake GPU, TensorRT 10.16.1.11", "mask_decoder: built in 61 s",
        "memory attention, folded: 2.50 ms", "memory attention, full: no kernel fits",
        "proof: lowest mask IoU 0.9877",
    ):  # fmt: skip
        assert line in result.output
    document = json.loads(
        CliRunner().invoke(console_build.build_command, [*arguments, "--json"]).stdout
    )
    assert document["folder"] == str(bundle.path)
    assert document["machine"]["gpu"] == "Fake GPU"
    assert [c["milliseconds"] for c in document["candidates"]] == [2.5, None]
    assert document["proof"] == {"clip": {"lowest_iou": 0.98765}}
    wrong = CliRunner().invoke(console_build.build_command, [str(bundle.path), "--workspace", "4x"])
    assert "expected a number of bytes such as 4G" in wrong.output
