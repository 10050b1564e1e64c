"""Forms for engines equal the graphs they stand for, and stay out of CPU sessions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from sam2rt.configs.bundle import Bundle
from sam2rt.configs.graphs import graph_specs
from sam2rt.configs.models import model_config
from sam2rt.export.bundle import export_bundle
from sam2rt.export.checkpoints import load_checkpoint
from sam2rt.export.untrained import untrained_state
from sam2rt.runtime.build_onnx import function_names
from sam2rt.runtime.ort import OnnxRuntimeSession

MICRO = model_config("micro")
FORMS = {
    "image_encoder.whole": "image_encoder",
    "memory_attention.whole": "memory_attention",
    "memory_attention.full": "memory_attention",
}


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    folder = tmp_path_factory.mktemp("forms")
    torch.save({"model": untrained_state(MICRO)}, folder / "micro.pt")
    checkpoint = load_checkpoint(folder / "micro.pt")
    return export_bundle(checkpoint, folder / "bundle", for_engines=True, threads=1, seed=3)


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


def test_the_manifest_names_the_forms(bundle: Bundle) -> None:
    assert set(bundle.graphs) == set(graph_specs(MICRO)) | set(FORMS)
    again = Bundle.load(bundle.path)
    for name, graph in FORMS.items():
        assert again.graphs[name].spec.inputs == again.graphs[graph].spec.inputs
        assert again.graphs[name].spec.outputs == again.graphs[graph].spec.outputs


@pytest.mark.parametrize("name", list(FORMS))
def test_each_form_equals_its_graph(bundle: Bundle, name: str) -> None:
    inputs = _inputs(FORMS[name])
    session = OnnxRuntimeSession(bundle, threads=1)
    expected, found = session.run(FORMS[name], inputs), session.run(name, inputs)
    for output, value in expected.items():
        scale = np.abs(value).max()
        np.testing.assert_allclose(found[output], value, rtol=0, atol=1e-5 * scale)


def test_only_whole_memory_attention_has_the_node(bundle: Bundle) -> None:
    with_node = [n for n in bundle.graphs if function_names(bundle.graph_path(n).read_bytes())]
    assert with_node == ["memory_attention.whole"]


def test_a_cpu_session_opens_the_contract_alone(bundle: Bundle) -> None:
    with OnnxRuntimeSession(bundle, threads=1) as session:
        assert set(session._graphs) == set(graph_specs(MICRO))


def test_forms_are_left_out_unless_asked_for(bundle: Bundle, tmp_path: Path) -> None:
    checkpoint = load_checkpoint(bundle.path.parent / "micro.pt")
    plain = export_bundle(checkpoint, tmp_path / "plain", threads=1, seed=3)
    assert set(plain.graphs) == set(graph_specs(MICRO))
