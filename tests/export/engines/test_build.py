"""Building a bundle's engines: what is kept, what is refused, what the records say."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from sam2rt.configs.bundle import (
    Bundle,
    GraphEntry,
    bundle_file,
    file_sha256,
    staged_folder,
    write_manifest,
)
from sam2rt.configs.errors import BundleError, InputError, ProofError, SessionError
from sam2rt.export.engines import attention, build, job
from sam2rt.export.engines.build import _foreign_to, build_engines
from sam2rt.export.engines.job import BuildJob
from sam2rt.export.engines.options import BuildOptions, EngineOptions
from sam2rt.export.engines.profiles import Limits
from sam2rt.export.proof.record import bundle_record
from sam2rt.plugins import memory_cross_attention as op
from sam2rt.plugins.registry import digests
from sam2rt.plugins.tensorrt_plugins import AttentionSettings
from sam2rt.runtime.backends import tensorrt_session as trt
from sam2rt.runtime.backends.engine_record import ENGINES, read_record
from sam2rt.runtime.gpu import cuda
from sam2rt.runtime.session import Session

pytest.importorskip("cuda.bindings.runtime")

from fake_bundle import empty_graph, write_bundle
from fake_cuda import FakeCuda
from fake_tensorrt import MACHINE, FakeTensorRT, write_engines

#: an empty model, and one with a function sam2rt::MemoryCrossAttention too
FULL, OPERATOR, WITHOUT_NODE = (empty_graph(name) for name in ("full", "operator", "whole"))
_NAME = op.NAME.encode()
_FUNCTION = bytes([0x0A, len(_NAME)]) + _NAME + bytes([0x52, 6]) + b"sam2rt"
WITH_NODE = WITHOUT_NODE + bytes([0xCA, 0x01, len(_FUNCTION)]) + _FUNCTION


class _Build:
    """The fakes, and what the engine builder was asked."""

    def __init__(self, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
        self.bundle, self.gpu = bundle, FakeCuda()
        self.models: list[tuple[str, bytes]] = []
        self.options: list[EngineOptions] = []
        self.fail: dict[bytes, Exception] = {}
        self.proofs = 0
        self.unequal: ProofError | None = None
        module = FakeTensorRT(bundle, self.gpu)
        monkeypatch.setattr(cuda, "cudart", lambda: self.gpu)
        monkeypatch.setattr(trt, "tensorrt_module", lambda: module)
        monkeypatch.setattr(build, "tensorrt_module", lambda: module)
        monkeypatch.setattr(build, "bundle_record", lambda bundle: None)
        monkeypatch.setattr(job, "engine_from_onnx", self._engine)
        monkeypatch.setattr(BuildJob, "_register", lambda job: None)
        for module_of_build in (build, attention):
            monkeypatch.setattr(module_of_build, "triton_present", lambda: True)
        for module_of_build in (job, attention):
            monkeypatch.setattr(module_of_build, "prove_session", self._prove)
        self.kernels: list[tuple[Path, int]] = []
        monkeypatch.setattr(build, "write_kernels", lambda *a: self.kernels.append(a))

    def _engine(
        self, trt: Any, model: bytes, path: Path, profiles: Any, options: EngineOptions, *_: Any
    ) -> bytes:
        self.models.append((path.stem, model))
        self.options.append(options)
        if model in self.fail:
            raise self.fail[model]
        kind = "portable" if options.version_compatible else "engine"
        return f"{kind}:{path.stem.partition('.')[0]}".encode()

    def _prove(self, bundle: Bundle, session: Session, progress: Any) -> Mapping[str, Any]:
        self.proofs += 1
        assert session.bundle is bundle is self.bundle
        if self.unequal is not None:
            raise self.unequal
        return {"worst": 0.01}

    @property
    def folder(self) -> Path:
        return self.bundle.path / ENGINES / MACHINE.folder


@pytest.fixture
def fakes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Build:
    write_bundle(tmp_path / "bundle")
    return _Build(Bundle.load(tmp_path / "bundle"), monkeypatch)


@pytest.fixture
def fakes_with_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> _Build:
    """A bundle whose memory attention has the custom node, and its full-width variant."""
    target = tmp_path / "bundle"
    write_bundle(target)
    old = Bundle.load(target)
    with staged_folder(tmp_path / "new") as work:
        for file in old.files():
            (work / file.path).parent.mkdir(exist_ok=True)
            (work / file.path).write_bytes((target / file.path).read_bytes())
        spec = old.graphs["memory_attention"].spec
        graphs = dict(old.graphs)
        for variant, data in (("whole", WITH_NODE), ("full", FULL), ("operator", OPERATOR)):
            name = f"memory_attention.{variant}"
            (work / f"{name}.onnx").write_bytes(data)
            graphs[name] = GraphEntry(spec, bundle_file(work, f"{name}.onnx"))
        fields = {**vars(old), "path": work, "graphs": graphs, "precision": "bf16"}
        write_manifest(Bundle(**fields))
    return _Build(Bundle.load(tmp_path / "new"), monkeypatch)


def test_every_graph_becomes_an_engine_with_its_record(fakes: _Build) -> None:
    options = BuildOptions(attention="folded", limits=Limits(objects=2))
    report = build_engines(fakes.bundle, options)
    assert report.folder == fakes.folder
    # one graph for a whole frame is for CPUs
    separate = [graph for graph in fakes.bundle.graphs if graph != "track_step"]
    assert sorted(p.name for p in fakes.folder.iterdir()) == sorted(
        f"{g}{end}" for g in separate for end in (".engine", ".json")
    )
    assert (report.proof, fakes.proofs) == ({"worst": 0.01}, 1)
    assert [arch for _, arch in fakes.kernels] == [90]
    for name in separate:
        path = fakes.folder / f"{name}.engine"
        record = read_record(path)
        assert (record.graph, record.attention, record.splits) == (name, "folded", 1)
        assert (record.tensorrt, record.arch, record.gpu) == ("10.16.1.11", 90, "Fake GPU")
        assert record.sha256 == file_sha256(path)
        assert record.proof == {"worst": 0.01}
        assert record.kernels == {}
    # what was built is what a session loads
    with trt.TensorRTSession(fakes.bundle) as session:
        assert session.engine("mask_decoder")[1].device_memory == 1000


def test_a_failed_proof_leaves_what_was_there(fakes: _Build) -> None:
    write_engines(fakes.bundle)
    before = {p.name: p.read_bytes() for p in fakes.folder.iterdir()}
    fakes.unequal = ProofError("mask_logits differs by 3")
    with pytest.raises(ProofError, match="differs by 3"):
        build_engines(fakes.bundle, BuildOptions(attention="folded"))
    assert {p.name: p.read_bytes() for p in fakes.folder.iterdir()} == before
    assert [p.name for p in (fakes.bundle.path / ENGINES).iterdir()] == [MACHINE.folder]


def test_engines_for_later_tensorrt_are_built_and_loaded(fakes: _Build) -> None:
    options = BuildOptions(attention="folded", engine=EngineOptions(version_compatible=True))
    build_engines(fakes.bundle, options)
    assert read_record(fakes.folder / "mask_decoder.engine").version_compatible
    with trt.TensorRTSession(fakes.bundle) as session:
        assert session.engine("mask_decoder")[1].device_memory == 1000


@pytest.mark.parametrize(
    ("driver", "cubin"), [((12, 4), True), ((12, 6), True), ((12, 8), False), ((13, 0), False)]
)
def test_a_driver_older_than_the_ptx_gets_machine_code(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, driver: tuple[int, int], cubin: bool
) -> None:
    write_bundle(tmp_path / "bundle")
    bundle = dataclasses.replace(Bundle.load(tmp_path / "bundle"), precision="bf16")
    registered: list[AttentionSettings] = []
    monkeypatch.setattr(job, "precompile", lambda *_: [SimpleNamespace(ptx_version=(8, 7))])
    monkeypatch.setattr(job, "register_attention", lambda *a: registered.append(a[2]))
    monkeypatch.setattr(job.importlib, "import_module", lambda name: None)
    machine = dataclasses.replace(MACHINE, driver=driver)
    BuildJob(None, bundle, BuildOptions(), machine, 132, tmp_path, None)._register()  # type: ignore[arg-type]
    assert [s.cubin for s in registered] == [cubin]


def test_one_graph_is_built_again_beside_the_others(fakes: _Build) -> None:
    write_engines(fakes.bundle)
    kept = (fakes.folder / "mask_decoder.json").read_bytes()
    options = BuildOptions(graphs=("memory_encoder",))
    report = build_engines(fakes.bundle, options)
    assert list(report.seconds) == ["memory_encoder"]
    assert [name for name, _ in fakes.models] == ["memory_encoder"]
    assert (fakes.folder / "mask_decoder.json").read_bytes() == kept
    assert read_record(fakes.folder / "memory_encoder.engine").proof == {"worst": 0.01}


def test_one_graph_alone_cannot_be_proved(fakes: _Build) -> None:
    with pytest.raises(BundleError, match=r"needs the engine of image_encoder too .* build all"):
        build_engines(fakes.bundle, BuildOptions(graphs=("memory_encoder",)))


def test_without_a_record_nothing_is_built(fakes: _Build, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(build, "bundle_record", bundle_record)
    with pytest.raises(BundleError, match="holds no record of the reference"):
        build_engines(fakes.bundle, BuildOptions())
    assert fakes.models == []


def test_auto_keeps_the_fastest_variant_that_passed(
    fakes_with_node: _Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = fakes_with_node
    times = iter([4.0, 3.0, 2.0, 1.0])
    monkeypatch.setattr(attention, "attention_milliseconds", lambda session, bundle: next(times))
    report = build_engines(fakes.bundle, BuildOptions())
    assert [(c.attention, c.milliseconds) for c in report.candidates] == [
        ("folded", 4.0),
        ("full", 3.0),
        ("operator", 2.0),
        ("plugin", 1.0),
    ]
    record = read_record(fakes.folder / "memory_attention.engine")
    assert (record.attention, record.splits) == ("plugin", 7)
    assert record.source == "memory_attention.whole"
    name = "sam2rt::MemoryCrossAttention"
    assert record.kernels == {name: digests()[name]}
    tried = [model for name, model in fakes.models if name.startswith("memory_attention")]
    # plain body kept, the other graphs, function dropped
    assert tried == [WITH_NODE, FULL, OPERATOR, WITHOUT_NODE]
    # each variant once, and the engines that are kept
    assert fakes.proofs == 5
    # precision is the bundle's
    assert {options.precision for options in fakes.options} == {"bf16"}


def test_auto_skips_variants_that_fail_and_says_why(
    fakes_with_node: _Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    fakes = fakes_with_node
    # folded first, then the operator
    times = iter([5.0, 6.0])
    monkeypatch.setattr(attention, "attention_milliseconds", lambda session, bundle: next(times))
    fakes.fail = {FULL: SessionError("no kernel fits"), WITHOUT_NODE: ProofError("too far")}
    report = build_engines(fakes.bundle, BuildOptions())
    assert [(c.attention, c.error) for c in report.candidates] == [
        ("folded", None),
        ("full", "no kernel fits"),
        ("operator", None),
        ("plugin", "too far"),
    ]
    assert read_record(fakes.folder / "memory_attention.engine").attention == "folded"


def test_auto_without_any_usable_variant_names_each(fakes: _Build) -> None:
    graph = fakes.bundle.graph_path("memory_attention").read_bytes()
    fakes.fail = {graph: SessionError("no kernel fits")}
    with pytest.raises(ProofError) as caught:
        build_engines(fakes.bundle, BuildOptions())
    assert "folded: no kernel fits; full: the bundle has no graph" in str(caught.value)
    assert not fakes.folder.exists()


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("full", "no graph 'memory_attention.full'.*--engine-variants"),
        ("operator", "take half precision, the bundle is fp32: export it with --precision bf16"),
        ("plugin", "the bundle is fp32: export it with --precision bf16"),
    ],
)
def test_variants_the_bundle_lacks_are_refused(fakes: _Build, asked: str, words: str) -> None:
    with pytest.raises(BundleError, match=words):
        build_engines(fakes.bundle, BuildOptions(attention=asked))


def test_the_operator_variant_is_built_of_its_own_graph(fakes_with_node: _Build) -> None:
    fakes = fakes_with_node
    build_engines(fakes.bundle, BuildOptions(attention="operator"))
    record = read_record(fakes.folder / "memory_attention.engine")
    assert (record.attention, record.source) == ("operator", "memory_attention.operator")
    assert ("memory_attention.operator", OPERATOR) in fakes.models
    # other graphs have no such variant
    assert read_record(fakes.folder / "mask_decoder.engine").source == "mask_decoder"


def test_tensorrt_without_the_operator_is_named(
    fakes_with_node: _Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build.tensorrt_module(), "__version__", "10.14.1.48")
    with pytest.raises(SessionError, match=r"operator Attention from 10\.15 on, found 10\.14\.1"):
        build_engines(fakes_with_node.bundle, BuildOptions(attention="operator"))


def test_plugin_without_triton_names_it(
    fakes_with_node: _Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "triton_present", lambda: False)
    with pytest.raises(SessionError, match=r"pip install 'triton>=3\.6'"):
        build_engines(fakes_with_node.bundle, BuildOptions(attention="plugin"))


def test_options_are_checked_before_anything_is_built(fakes: _Build) -> None:
    with pytest.raises(InputError, match="is fp32, asked for bf16: precision lies in the graph"):
        build_engines(fakes.bundle, BuildOptions(precision="bf16"))
    with pytest.raises(InputError, match="unknown graph 'encoder'"):
        build_engines(fakes.bundle, BuildOptions(graphs=("encoder",)))
    with pytest.raises(InputError, match="unknown attention 'flash'"):
        BuildOptions(attention="flash")
    with pytest.raises(InputError, match="unknown precision 'int4'"):
        BuildOptions(precision="int4")  # type: ignore[arg-type]
    for_cpus = dataclasses.replace(fakes.bundle, precision="int8")
    with pytest.raises(InputError, match="is int8, for CPUs: sam2rt export CHECKPOINT"):
        build_engines(for_cpus, BuildOptions())
    assert fakes.models == []


def test_time_is_the_median_of_the_steady_state(fakes: _Build) -> None:
    write_engines(fakes.bundle)
    with trt.TensorRTSession(fakes.bundle) as session:
        assert 0 < attention.attention_milliseconds(session, fakes.bundle, runs=6) < 1000
    assert fakes.gpu.replays == 5
    # each run is waited for: what is timed is the work, not that it was asked for
    calls = [c for c in fakes.gpu.calls if c in ("cudaMemcpyAsync", "cudaStreamSynchronize")]
    assert calls[-1] == "cudaStreamSynchronize"
    assert calls.count("cudaStreamSynchronize") == 6


def test_only_what_a_build_writes_or_keeps_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "kept.txt").write_text("copied")
    foreign = _foreign_to(tmp_path)
    for name in ("mask_decoder.engine", "mask_decoder.json", "kernels.cubin"):
        (tmp_path / name).write_bytes(b"x")
    assert foreign(tmp_path) is None
    (tmp_path / "notes.txt").write_text("mine")
    assert foreign(tmp_path) == "notes.txt"
    (tmp_path / "folder").mkdir()
    with pytest.raises(BundleError, match="folder is a folder among engines: move it away"):
        _foreign_to(tmp_path)
