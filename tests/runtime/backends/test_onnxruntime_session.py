"""The ONNX Runtime session, on a bundle of toy graphs that know their own answer."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from no_descriptors import no_descriptors

from sam2rt import Bundle, BundleError, InputError, MissingExtraError, SessionError
from sam2rt.configs.bundle import GraphEntry, bundle_file
from sam2rt.configs.graphs import GraphSpec, TensorSpec, graph_specs
from sam2rt.configs.models import model_config
from sam2rt.runtime.backends.onnxruntime_session import PROVIDERS, OnnxRuntimeSession
from sam2rt.runtime.backends.open import open_session

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")
F32 = np.float32

AFFINE, DOUBLE = "image_encoder", "mask_decoder"


def _double(name: str) -> GraphSpec:
    return GraphSpec(
        name,
        (TensorSpec("codes", "int32", ("N", "P")),),
        (TensorSpec("twice", "int32", ("N", "P")),),
    )


#: the names of a bundle's five graphs, with contracts of our own
SPECS = {name: _double(name) for name in graph_specs(model_config("micro"))} | {
    AFFINE: GraphSpec(
        AFFINE,
        (TensorSpec("x", "float32", ("N", 3)), TensorSpec("flip", "bool", (1,))),
        (TensorSpec("y", "float32", ("N", 3)), TensorSpec("total", "float32", ("N",))),
    )
}


def _model(spec: GraphSpec) -> Any:
    """AFFINE: y = 2x + 1, or its negative; total = sum of y over a row. Others: 2 * codes."""
    helper = onnx.helper
    kinds = {"float32": 1, "int32": 6, "bool": 9}

    def infos(tensors: tuple[TensorSpec, ...]) -> list[Any]:
        return [helper.make_tensor_value_info(t.name, kinds[t.dtype], t.shape) for t in tensors]

    constants = [
        onnx.numpy_helper.from_array(np.array([2], F32), "two"),
        onnx.numpy_helper.from_array(np.array([1], F32), "one"),
        onnx.numpy_helper.from_array(np.array([1], np.int64), "axis"),
    ]
    nodes = [
        helper.make_node("Mul", ["x", "two"], ["x2"]),
        helper.make_node("Add", ["x2", "one"], ["z"]),
        helper.make_node("Neg", ["z"], ["minus"]),
        helper.make_node("Where", ["flip", "minus", "z"], ["y"]),
        helper.make_node("ReduceSum", ["y", "axis"], ["total"], keepdims=0),
    ]
    if spec.name != AFFINE:
        constants, nodes = [], [helper.make_node("Add", ["codes", "codes"], ["twice"])]
    graph = helper.make_graph(nodes, spec.name, infos(spec.inputs), infos(spec.outputs), constants)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    entries = {}
    for name, spec in SPECS.items():
        onnx.save(_model(spec), tmp_path / f"{name}.onnx")
        entries[name] = GraphEntry(spec, bundle_file(tmp_path, f"{name}.onnx"))
    return Bundle(
        path=tmp_path, model=model_config("micro"), precision="fp32", opset=18,
        checkpoint_sha256="ab" * 32, generator="test", graphs=entries, proof={}, proof_files={},
    )  # fmt: skip


def _affine(n: int, flip: bool = False) -> dict[str, Any]:
    x = np.arange(3 * n, dtype=F32).reshape(n, 3)
    return {"x": x, "flip": np.array([flip])}


@pytest.mark.parametrize("threads", [1, 2, None])
def test_runs_graphs_by_name(bundle: Bundle, threads: int | None) -> None:
    with open_session(bundle, "onnxruntime", "cpu", threads) as session:
        for n, flip in ((1, False), (4, True), (0, False)):
            out = session.run(AFFINE, _affine(n, flip))
            expected = (2 * _affine(n)["x"] + 1) * (-1 if flip else 1)
            assert list(out) == ["y", "total"]
            np.testing.assert_array_equal(out["y"], expected)
            np.testing.assert_array_equal(out["total"], expected.sum(1))
        codes = np.array([[1, -1]], np.int32)
        np.testing.assert_array_equal(session.run(DOUBLE, {"codes": codes})["twice"], 2 * codes)


def test_any_memory_layout_is_taken(bundle: Bundle) -> None:
    session = OnnxRuntimeSession(bundle)
    x = np.arange(24, dtype=F32).reshape(6, 4).T[::2, ::2]
    assert not x.flags.c_contiguous
    out = session.run(AFFINE, {"x": x, "flip": np.array([False])})
    np.testing.assert_array_equal(out["y"], 2 * x + 1)


def test_constructing_opens_nothing_and_running_opens_one_graph(bundle: Bundle) -> None:
    (bundle.path / f"{DOUBLE}.onnx").write_bytes(b"never read")
    session = OnnxRuntimeSession(bundle)
    assert session.run(AFFINE, _affine(1))["total"].tolist() == [9.0]
    with pytest.raises(SessionError, match=r"mask_decoder\.onnx"):
        session.__enter__()
    assert session._graphs == {}


def test_it_stays_closed(bundle: Bundle) -> None:
    session = OnnxRuntimeSession(bundle)
    with session:
        assert session.run(AFFINE, _affine(1))["total"].tolist() == [9.0]
    with pytest.raises(InputError, match="the session is closed: make another one"):
        session.run(AFFINE, _affine(1))
    with pytest.raises(InputError, match="the session is closed"):
        session.__enter__()
    session.close()
    assert session._graphs == {}


def test_one_session_serves_many_threads(bundle: Bundle) -> None:
    session = OnnxRuntimeSession(bundle, threads=1)
    totals: dict[int, list[float]] = {}

    def work(n: int) -> None:
        for _ in range(20):
            totals[n] = session.run(AFFINE, _affine(n))["total"].tolist()

    threads = [threading.Thread(target=work, args=(n,)) for n in range(1, 9)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for n, total in totals.items():
        assert total == (2 * _affine(n)["x"] + 1).sum(1).tolist()


@pytest.mark.parametrize(
    ("graph", "change", "message"),
    [
        (AFFINE, {"flip": None}, "graph image_encoder takes"),
        (AFFINE, {"x": np.zeros((2, 4), F32)}, r"image_encoder.x: expected float32 \['N', 3\]"),
        (AFFINE, {"x": np.zeros((2, 3))}, r"image_encoder.x: .* got float64 \[2, 3\]"),
        ("encoder", {}, "unknown graph 'encoder': expected one of image_encoder, "),
    ],
)
def test_inputs_that_break_the_contract(
    bundle: Bundle, graph: str, change: dict[str, Any], message: str
) -> None:
    inputs = {k: v for k, v in {**_affine(2), **change}.items() if v is not None}
    session = OnnxRuntimeSession(bundle)
    with pytest.raises(InputError, match=message):
        session.run(graph, inputs)
    assert session.run(AFFINE, _affine(1))["total"].tolist() == [9.0]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda p: p.write_bytes(p.read_bytes()[:40]), r"cannot open graph .*image_encoder\.onnx"),
        (lambda p: p.write_bytes(b"\x00" * 64), r"cannot open graph .*image_encoder\.onnx"),
        (lambda p: p.unlink(), r"image_encoder\.onnx .*\(it is missing\)"),
    ],
)
def test_graphs_that_cannot_be_opened(bundle: Bundle, damage: Any, message: str) -> None:
    damage(bundle.path / f"{AFFINE}.onnx")
    with pytest.raises(SessionError, match=message) as caught:
        OnnxRuntimeSession(bundle).run(AFFINE, _affine(1))
    assert "\n" not in str(caught.value)
    assert "make the bundle again" in str(caught.value)


def test_a_graph_the_manifest_does_not_hold(bundle: Bundle) -> None:
    with pytest.raises(BundleError, match="has no graph 'other'"):
        bundle.graph_path("other")


def test_a_failing_run_is_one_line(bundle: Bundle) -> None:
    """A contract looser than the graph lets a shape through that only the backend refuses."""
    loose = dataclasses.replace(
        SPECS[AFFINE], inputs=(TensorSpec("x", "float32", ("N", "P")), SPECS[AFFINE].inputs[1])
    )
    entry = dataclasses.replace(bundle.graphs[AFFINE], spec=loose)
    session = OnnxRuntimeSession(dataclasses.replace(bundle, graphs={AFFINE: entry}))
    with pytest.raises(SessionError, match=r"graph image_encoder failed on cpu \(") as caught:
        session.run(AFFINE, {"x": np.zeros((2, 5), F32), "flip": np.array([True])})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_provider_that_is_not_built_in_is_no_fallback(bundle: Bundle, device: str) -> None:
    import onnxruntime

    provider = PROVIDERS[device][0]
    if provider in onnxruntime.get_available_providers():
        pytest.skip(f"this onnxruntime has {provider}")
    with pytest.raises(SessionError, match=rf"needs {provider}.*sam2rt\[gpu\]"):
        OnnxRuntimeSession(bundle, device).run(AFFINE, _affine(1))


@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_provider_that_does_not_become_active_is_no_fallback(
    bundle: Bundle, device: str, monkeypatch: Any
) -> None:
    """What onnxruntime-gpu does where CUDA's libraries are absent: it runs on the CPU."""
    import onnxruntime

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS[device]))
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    with pytest.raises(SessionError, match=rf"instead of {PROVIDERS[device][0]}.*sam2rt doctor"):
        OnnxRuntimeSession(bundle, device).run(AFFINE, _affine(1))


@pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")
def test_what_onnxruntime_prints_of_missing_libraries_is_in_the_error(
    bundle: Bundle, monkeypatch: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    import onnxruntime

    def preload() -> None:
        print("Failed to load libcublasLt.so.13: cannot open shared object file")
        print("Please follow https://onnxruntime.ai/docs/install")

    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS["cuda"]))
    monkeypatch.setattr(onnxruntime, "preload_dlls", preload, raising=False)
    with pytest.raises(SessionError) as caught:
        OnnxRuntimeSession(bundle, "cuda").run(AFFINE, _affine(1))
    assert "(Failed to load libcublasLt.so.13: cannot open shared object file)" in str(caught.value)
    assert "pip install 'onnxruntime-gpu[cuda,cudnn]'" in str(caught.value)
    # standard output belongs to the program
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"device": "gpu"}, "unknown device 'gpu' .* cpu, cuda, tensorrt"),
        ({"threads": 0}, "threads is 0: expected at least 1"),
    ],
)
def test_arguments_that_mean_nothing(bundle: Bundle, arguments: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        OnnxRuntimeSession(bundle, **arguments)


@pytest.mark.parametrize(("device", "extra"), [("cpu", "cpu"), ("cuda", "gpu")])
def test_without_onnxruntime_the_extra_is_named(
    bundle: Bundle, device: str, extra: str, monkeypatch: Any
) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(
        importlib.util, "find_spec", lambda name: None if name == "onnxruntime" else find(name)
    )
    with pytest.raises(MissingExtraError, match=rf"pip install 'sam2rt\[{extra}\]'"):
        open_session(bundle, "onnxruntime", device)


def test_an_onnxruntime_that_does_not_load(bundle: Bundle, monkeypatch: Any) -> None:
    def broken(name: str) -> Any:
        raise ImportError(f"{name}: libonnx.so: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", broken)
    with pytest.raises(SessionError, match=r"installed but does not load \(onnxruntime: libonnx"):
        OnnxRuntimeSession(bundle).run(AFFINE, _affine(1))


def test_too_many_open_files_are_no_damaged_graph(bundle: Bundle) -> None:
    inputs = {"x": np.ones((1, 3), F32), "flip": np.array([False])}
    session = OnnxRuntimeSession(bundle, threads=1)
    with no_descriptors(), pytest.raises(SessionError) as caught:
        session.run(AFFINE, inputs)
    assert str(caught.value).endswith(
        "on cpu (Too many open files): close files and videos, or raise this process's limit, "
        "'ulimit -n'"
    )
    assert str(bundle.graph_path(AFFINE)) in str(caught.value)
    with session:
        np.testing.assert_array_equal(session.run(AFFINE, inputs)["y"], [[3, 3, 3]])
