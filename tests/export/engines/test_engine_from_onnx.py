"""The build path against a double that knows only what the vendor's bindings declare."""

from __future__ import annotations

import ast
import importlib.util
import sys
import weakref
from pathlib import Path
from typing import Any

import pytest
from recording_tensorrt import Recorder
from tensorrt_bindings_stub import VERSIONS, declared_api

from sam2rt.configs.bundle import Precision
from sam2rt.configs.errors import InputError, MissingExtraError, SessionError
from sam2rt.configs.graphs import graph_specs
from sam2rt.configs.models import model_config
from sam2rt.export.engines import engine_from_onnx as build_engine
from sam2rt.export.engines.engine_from_onnx import engine_from_onnx
from sam2rt.export.engines.options import EngineOptions
from sam2rt.export.engines.profiles import Limits, graph_profiles
from sam2rt.runtime.backends.engine_profiles import admits, choose_profile, is_fixed
from sam2rt.runtime.backends.tensorrt_library import Messages, make_logger, tensorrt_module

TINY = model_config("sam2.1_hiera_tiny")
PACKAGE = Path(build_engine.__file__).parents[2]
USERS = [
    "export/engines/engine_from_onnx.py",
    "export/engines/build.py",
    "export/engines/job.py",
    "plugins/tensorrt_plugins.py",
    "runtime/backends/tensorrt_session.py",
    "runtime/backends/tensorrt_library.py",
    "runtime/tasks/doctor.py",
]


@pytest.fixture(params=VERSIONS)
def recorder(request: pytest.FixtureRequest) -> Recorder:
    made = Recorder(request.param)
    made.gives["OnnxParser.parse"] = lambda *_: True
    made.gives["Builder.build_serialized_network"] = lambda *_: b"engine"
    made.gives["IBuilderConfig.add_optimization_profile"] = lambda *_: 0
    return made


def _build(recorder: Recorder, options: EngineOptions, graph: str = "memory_attention") -> bytes:
    profiles = graph_profiles(graph_specs(TINY)[graph], TINY, Limits(objects=4))
    return engine_from_onnx(
        recorder.module, b"model", Path("bundle") / f"{graph}.onnx", profiles, options
    )


def test_networks_are_strongly_typed_and_float32_is_float32(recorder: Recorder) -> None:
    trt: Any = recorder.module
    assert _build(recorder, EngineOptions()) == b"engine"
    flag = trt.NetworkDefinitionCreationFlag
    wanted = 1 << int(flag.STRONGLY_TYPED) | 1 << int(flag.PREFER_AOT_PYTHON_PLUGINS)
    assert recorder.arguments("Builder.create_network") == [(wanted,)]
    assert recorder.arguments("OnnxParser.parse") == [(b"model", "bundle/memory_attention.onnx")]
    assert recorder.arguments("IBuilderConfig.clear_flag") == [(trt.BuilderFlag.TF32,)]
    # precision is the graph's alone
    assert recorder.arguments("IBuilderConfig.set_flag") == []


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
def test_float32_convolutions_of_half_graphs_may_use_tensor_cores(
    recorder: Recorder, precision: Precision
) -> None:
    _build(recorder, EngineOptions(precision=precision))
    assert recorder.arguments("IBuilderConfig.clear_flag") == []


def test_what_the_library_says_is_heard_once(recorder: Recorder) -> None:
    """Builder and parser share their messages; others hear it too."""
    mine, theirs = Messages(transcript=[]), Messages()
    for messages in (mine, theirs, mine):
        logger = make_logger(recorder.module, messages)
    severity = recorder.module.ILogger.Severity
    logger.log(severity.ERROR, "no\n kernel")
    logger.log(severity.VERBOSE, " Name: a")
    assert (mine.errors, theirs.errors) == (["no kernel"], ["no kernel"])
    assert mine.transcript == ["no\n kernel", " Name: a"]


def test_no_builder_says_what_builds_without_a_gpu(recorder: Recorder) -> None:
    def none(*_: Any) -> None:
        raise TypeError("pybind11::init(): factory function returned nullptr")

    recorder.module.Builder = none  # type: ignore[attr-defined]
    with pytest.raises(SessionError, match=r"makes no builder here .*pip install tensorrt-rtx"):
        _build(recorder, EngineOptions())


def test_attention_may_be_taken_apart_where_no_kernel_fits(recorder: Recorder) -> None:
    """One profile without a kernel would fail the engine; only operators Attention are touched."""
    trt: Any = recorder.module
    layers = [trt.ILayer() for _ in range(4)]
    kinds = [trt.LayerType.SHUFFLE, trt.LayerType.ATTENTION_INPUT, trt.LayerType.SOFTMAX]
    types = iter([*kinds, trt.LayerType.ATTENTION_INPUT])
    attention = trt.IAttention()
    recorder.gives["INetworkDefinition.num_layers"] = lambda: len(layers)
    recorder.gives["INetworkDefinition.get_layer"] = lambda index: layers[index]
    recorder.gives["ILayer.type"] = lambda: next(types)
    recorder.gives["IAttentionInputLayer.attention"] = lambda: attention
    _build(recorder, EngineOptions(precision="fp16"))
    assert recorder.arguments("IAttention.decomposable") == [(True,), (True,)]
    named = [type(layer).__name__ for layer in layers]
    assert named == ["ILayer", "IAttentionInputLayer", "ILayer", "IAttentionInputLayer"]


def test_a_library_that_knows_no_python_plugins_builds_without_that_flag(
    recorder: Recorder,
) -> None:
    trt: Any = recorder.module
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)

    def refuse(flags: int) -> Any:
        if flags == typed:
            return trt.INetworkDefinition()
        _complain(recorder, "invalid flag")
        return None

    recorder.gives["Builder.create_network"] = refuse
    assert _build(recorder, EngineOptions()) == b"engine"
    assert recorder.arguments("Builder.create_network")[-1] == (typed,)
    # what the first try said is no reason of another failure
    recorder.gives["Builder.build_serialized_network"] = lambda *_: None
    with pytest.raises(SessionError, match="TensorRT gave no message"):
        _build(recorder, EngineOptions())


def test_a_library_without_strong_typing_is_refused(recorder: Recorder) -> None:
    recorder.gives["Builder.create_network"] = lambda _: _complain(recorder, "unknown flag 1")
    with pytest.raises(SessionError, match="no strongly typed network: unknown flag 1: pip inst"):
        _build(recorder, EngineOptions())


@pytest.mark.parametrize(
    ("said", "options", "fix"),
    [
        (
            "no tactics to implement the operation within workspace limit.",
            EngineOptions(workspace=777),
            "workspace limit.: raise --workspace, now 777 bytes, or leave it out",
        ),
        ("no tactics within workspace limit.", EngineOptions(), "within workspace limit."),
        (
            "Unable to load library: libnvinfer_lean.so.1",
            EngineOptions(version_compatible=True),
            "or build without --version-compat",
        ),
        (
            "Unable to load library: libnvinfer_lean.so.1",
            EngineOptions(),
            "Unable to load library: libnvinfer_lean.so.1",
        ),
    ],
)
def test_what_the_builder_lacks_names_our_option(
    recorder: Recorder, said: str, options: EngineOptions, fix: str
) -> None:
    recorder.gives["Builder.build_serialized_network"] = lambda *_: _complain(recorder, said)
    with pytest.raises(SessionError) as caught:
        _build(recorder, options)
    assert str(caught.value).startswith(f"TensorRT cannot build memory_attention: {said}")
    assert str(caught.value).endswith(fix)


def _complain(recorder: Recorder, text: str) -> None:
    logger = recorder.arguments("Builder")[-1][0]
    logger.log(recorder.module.ILogger.Severity.ERROR, text)  # type: ignore[attr-defined]


def test_profiles_are_steady_states_and_one_range(recorder: Recorder) -> None:
    _build(recorder, EngineOptions())
    shapes = recorder.arguments("IOptimizationProfile.set_shape")
    memory = [arguments[1:] for arguments in shapes if arguments[0] == "memory"]
    assert memory == [
        ((1, 7, 64, 64, 64),) * 3,
        ((4, 7, 64, 64, 64),) * 3,
        ((1, 1, 64, 64, 64), (1, 7, 64, 64, 64), (4, 10, 64, 64, 64)),
    ]
    pointers = [arguments[1:] for arguments in shapes if arguments[0] == "obj_ptrs"]
    assert pointers[-1] == ((1, 0, 256), (1, 16, 256), (4, 25, 256))
    assert len(recorder.arguments("IBuilderConfig.add_optimization_profile")) == 3


def test_options_reach_the_builder(recorder: Recorder, tmp_path: Path) -> None:
    trt: Any = recorder.module
    cache = tmp_path / "timings"
    cache.write_bytes(b"old")
    recorder.gives["ITimingCache.serialize"] = lambda: b"new"
    options = EngineOptions(
        workspace=1 << 30,
        level=4,
        hardware_compatible=True,
        version_compatible=True,
        timing_cache=cache,
    )
    _build(recorder, options)
    assert recorder.arguments("IBuilderConfig.set_memory_pool_limit") == [
        (trt.MemoryPoolType.WORKSPACE, 1 << 30)
    ]
    assert recorder.arguments("IBuilderConfig.builder_optimization_level") == [(4,)]
    assert recorder.arguments("IBuilderConfig.hardware_compatibility_level") == [
        (trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY,)
    ]
    flags = recorder.arguments("IBuilderConfig.set_flag")
    assert flags == [(trt.BuilderFlag.VERSION_COMPATIBLE,)]
    assert recorder.arguments("IBuilderConfig.create_timing_cache") == [(b"old",)]
    assert recorder.arguments("IBuilderConfig.set_timing_cache")[0][1] is False
    assert cache.read_bytes() == b"new"


def test_a_foreign_timing_cache_is_an_error(recorder: Recorder, tmp_path: Path) -> None:
    recorder.gives["IBuilderConfig.set_timing_cache"] = lambda *_: False
    with pytest.raises(SessionError, match="another TensorRT, GPU or driver: delete it"):
        _build(recorder, EngineOptions(timing_cache=tmp_path / "cache"))


def test_a_timing_cache_is_made_with_its_folder_and_may_be_refused_at_once(
    recorder: Recorder, tmp_path: Path
) -> None:
    recorder.gives["ITimingCache.serialize"] = lambda: b"new"
    path = tmp_path / "new" / "timings"
    _build(recorder, EngineOptions(timing_cache=path))
    assert path.read_bytes() == b"new"
    # bytes that are no cache give none
    recorder.gives["IBuilderConfig.create_timing_cache"] = lambda *_: None
    with pytest.raises(SessionError, match=f"timing cache {path} was made by another"):
        _build(recorder, EngineOptions(timing_cache=path))


def test_one_logger_serves_the_process_and_every_listener(recorder: Recorder) -> None:
    trt: Any = recorder.module
    first, second = Messages(), Messages()
    logger = make_logger(trt, first)
    # TensorRT calls the first one on behalf of all
    assert make_logger(trt, second) is logger
    logger.log(trt.ILogger.Severity.ERROR, "broken")
    assert (first.last(), second.last()) == ("broken", "broken")
    gone = weakref.ref(first)
    del first
    logger.log(trt.ILogger.Severity.ERROR, "again")
    assert (gone(), second.errors) == (None, ["broken", "again"])
    _build(recorder, EngineOptions())
    assert recorder.arguments("Builder")[0][0] is logger


@pytest.mark.parametrize(
    ("source", "kind", "words"),
    [
        ("raise ImportError('libnvinfer.so.10: cannot open')", SessionError, "libnvinfer.so.10"),
        ("raise OSError('libnvinfer.so.10: bad ELF')", SessionError, "--force-reinstall"),
        ("import tensorrt_libs", SessionError, "does not load .No module named 'tensorrt_libs'"),
        ("__version__ = '8.6.1'", SessionError, "10.13 or later, found 8.6.1"),
        (None, MissingExtraError, "needs the package 'tensorrt'"),
    ],
)
def test_tensorrt_that_is_absent_is_told_from_one_that_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str | None, kind: type, words: str
) -> None:
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    if source is None:
        if importlib.util.find_spec("tensorrt") is not None:
            pytest.skip("TensorRT is installed")
    else:
        (tmp_path / "tensorrt.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(kind, match=words):
        tensorrt_module()


@pytest.mark.parametrize(
    ("operator", "words"),
    [("", "no importer"), ("Frobnicate", "Frobnicate '/layers.0/f': no importer")],
)
def test_the_parsers_own_words_and_node_are_passed_on(
    recorder: Recorder, operator: str, words: str
) -> None:
    recorder.gives["OnnxParser.parse"] = lambda *_: False
    recorder.gives["OnnxParser.num_errors"] = lambda: 1
    error = recorder.module.ParserError()  # type: ignore[attr-defined]
    recorder.gives["OnnxParser.get_error"] = lambda index: error
    recorder.gives["ParserError.desc"] = lambda: "no importer"
    recorder.gives["ParserError.node_operator"] = lambda: operator
    recorder.gives["ParserError.node_name"] = lambda: "/layers.0/f"
    with pytest.raises(SessionError) as caught:
        _build(recorder, EngineOptions())
    assert str(caught.value).endswith(f"cannot read memory_attention.onnx: {words}")


@pytest.mark.parametrize(
    ("message", "asked"),
    [
        ("Cuda Runtime (out of memory)", ""),
        (
            "Requested amount of GPU memory (123456789 bytes) could not be allocated.",
            "123456789 bytes asked for, ",
        ),
        ("Requested size was 4096 bytes: insufficient memory", "4096 bytes asked for, "),
    ],
)
def test_out_of_memory_says_asked_free_and_what_helps(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, message: str, asked: str
) -> None:
    trt: Any = recorder.module
    monkeypatch.setattr(build_engine, "free_memory", lambda: 12345)

    def fail(*_: Any) -> None:
        logger = recorder.arguments("Builder")[0][0]
        logger.log(trt.ILogger.Severity.WARNING, message)

    recorder.gives["Builder.build_serialized_network"] = fail
    with pytest.raises(SessionError) as caught:
        _build(recorder, EngineOptions(workspace=777))
    text = str(caught.value)
    assert f"({asked}12345 bytes free, workspace 777 bytes; " in text
    for option in ("--workspace", "--max-objects", "--max-memories", "--opt-level"):
        assert option in text


def test_a_failed_build_gives_tensorrts_last_error(recorder: Recorder) -> None:
    trt: Any = recorder.module

    def fail(*_: Any) -> None:
        logger = recorder.arguments("Builder")[0][0]
        logger.log(trt.ILogger.Severity.INFO, "chatter")
        logger.log(trt.ILogger.Severity.ERROR, "no\n kernel  fits")

    recorder.gives["Builder.build_serialized_network"] = fail
    with pytest.raises(SessionError, match="cannot build memory_attention: no kernel fits"):
        _build(recorder, EngineOptions())


def test_progress_comes_from_tensorrts_monitor_and_can_cancel(recorder: Recorder) -> None:
    seen: list[tuple[str, int, int | None]] = []

    def progress(what: str, done: int, total: int | None) -> None:
        seen.append((what, done, total))
        if done == 2:
            raise KeyboardInterrupt

    def build(network: Any, config: Any) -> None:
        monitor = recorder.arguments("IBuilderConfig.progress_monitor")[0][0]
        monitor.phase_start("Tactics", None, 5)
        assert monitor.step_complete("Tactics", 0) is True
        assert monitor.step_complete("Tactics", 1) is False
        monitor.phase_finish("Tactics")

    recorder.gives["Builder.build_serialized_network"] = build
    with pytest.raises(KeyboardInterrupt):
        engine_from_onnx(recorder.module, b"m", Path("x.onnx"), (), EngineOptions(), progress)
    assert seen == [("x: Tactics", 1, 5), ("x: Tactics", 2, 5)]


def test_bad_options_are_refused() -> None:
    with pytest.raises(InputError, match="expected 0 to 5"):
        EngineOptions(level=6)
    with pytest.raises(InputError, match="at least 1"):
        EngineOptions(workspace=0)
    with pytest.raises(InputError, match="at least one object"):
        Limits(objects=0)


@pytest.mark.parametrize("graph", list(graph_specs(TINY)))
def test_profiles_admit_what_tracking_uses(graph: str) -> None:
    spec = graph_specs(TINY)[graph]
    profiles = graph_profiles(spec, TINY, Limits(objects=4))
    sizes = {"B": 1, "I": 1, "G": 1, "N": 1, "M": 7, "K": 16, "P": 2}

    def shapes(**changed: int) -> dict[str, tuple[int, ...]]:
        now = {**sizes, **changed}
        return {
            t.name: tuple(now[d] if isinstance(d, str) else d for d in t.shape) for t in spec.inputs
        }

    assert choose_profile(profiles, shapes(), graph) == 0
    assert is_fixed(profiles[0])
    assert not is_fixed(profiles[-1])
    assert admits(profiles[-1], shapes(N=3, M=1, K=0, P=0, B=2, I=3, G=3))
    with pytest.raises(InputError, match="--max-objects"):
        choose_profile(profiles, shapes(N=5, B=9), graph)


def test_profiles_always_reach_what_the_proof_runs() -> None:
    spec = graph_specs(TINY)["memory_attention"]
    profiles = graph_profiles(spec, TINY, Limits(objects=1, memories=1, images=1))
    assert len(profiles) == 2
    assert profiles[0]["memory"][0] == (1, 7, 64, 64, 64)
    assert profiles[-1]["memory"][2] == (2, 7, 64, 64, 64)
    wide = graph_profiles(spec, TINY, Limits(objects=8, memories=12))
    assert wide[-1]["memory"][2] == (8, 12, 64, 64, 64)
    assert wide[-1]["obj_ptrs"][2] == (8, 27, 256)


def _names(source: str) -> set[tuple[str, ...]]:
    """Every ``trt.X`` and ``trt.X.Y`` a file uses."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        parts: list[str] = []
        while isinstance(node, ast.Attribute):
            parts.insert(0, node.attr)
            node = node.value  # type: ignore[assignment]
        if parts and isinstance(node, ast.Name) and node.id == "trt":
            found.add(tuple(parts[:2]))
    return found


@pytest.mark.parametrize("version", VERSIONS)
def test_every_tensorrt_name_in_our_source_exists(version: str) -> None:
    api = declared_api(version)["api"]
    used = set().union(
        *(_names((PACKAGE / f).read_text()) for f in USERS if (PACKAGE / f).exists())
    )
    assert ("BuilderFlag", "TF32") in used
    missing = []
    for name, *rest in used:
        if name in ("__version__", "__name__"):
            continue
        entry = api.get(name)
        inner = (entry or {}).get("values") or (entry or {}).get("members") or {}
        nested = ("ILogger", "Severity")
        if entry is None or (rest and rest[0] not in inner and (name, rest[0]) != nested):
            missing.append((name, *rest))
    assert missing == []


@pytest.mark.parametrize("version", VERSIONS)
def test_the_double_refuses_what_the_bindings_lack(version: str) -> None:
    trt: Any = Recorder(version).module
    builder = trt.Builder(trt.ILogger())
    config = builder.create_builder_config()
    with pytest.raises(AttributeError):
        _ = trt.BuilderFlag.FP17
    with pytest.raises(AttributeError, match="no writable property 'workspace'"):
        config.workspace = 5
    with pytest.raises(AttributeError, match="no member 'make'"):
        builder.make()
    with pytest.raises(TypeError, match="pool_size must be"):
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, "1G")
    with pytest.raises(TypeError, match="flag must be"):
        config.set_flag(3)
