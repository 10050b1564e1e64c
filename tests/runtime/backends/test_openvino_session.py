"""The OpenVINO session: the same answers as ONNX Runtime, and bfloat16 as the graphs say."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from bundles import SharedBundles
from exported import random_inputs

from sam2rt import Bundle, InputError, MissingExtraError, SessionError
from sam2rt.configs.graphs import engine_specs
from sam2rt.export.verify import verify_bundle
from sam2rt.runtime import compiled_models
from sam2rt.runtime.backends import openvino_session as module
from sam2rt.runtime.backends.onnxruntime_session import OnnxRuntimeSession
from sam2rt.runtime.backends.open import open_session
from sam2rt.runtime.backends.openvino_session import OpenVinoSession, steady_sizes
from sam2rt.runtime.stopping import stop_running

openvino = pytest.importorskip("openvino", reason="the package openvino is not installed")
BF16 = "BF16" in openvino.Core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
#: sizes of calls: those of the steady state, some while memories grow, several objects
SIZES = {
    "steady": {"M": 7, "K": 16, "N": 1, "I": 1, "G": 1, "B": 1, "P": 2},
    "growing": {"M": 2, "K": 3, "N": 1, "I": 1, "G": 1, "B": 1, "P": 1},
    "objects": {"M": 7, "K": 16, "N": 3, "I": 1, "G": 1, "B": 1, "P": 3},
}


@pytest.fixture(scope="module", autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


@pytest.fixture(scope="module")
def opened(bundle: Bundle) -> Iterator[OpenVinoSession]:
    with OpenVinoSession(bundle, threads=1) as session:
        yield session


@pytest.fixture(scope="module")
def bf16_bundle(shared_bundles: SharedBundles) -> Bundle:
    return shared_bundles.built_in(precision="bf16", seed=1)


def _inputs(bundle: Bundle, graph: str, sizes: str) -> dict[str, Any]:
    return random_inputs(bundle.graphs[graph].spec, 3, bundle.model.image_size, **SIZES[sizes])


@pytest.mark.parametrize("sizes", SIZES)
@pytest.mark.parametrize(
    "graph", ["image_encoder", "memory_attention", "mask_decoder", "mask_prompt", "memory_encoder"]
)
def test_it_answers_as_onnxruntime_does(
    bundle: Bundle, session: OnnxRuntimeSession, opened: OpenVinoSession, graph: str, sizes: str
) -> None:
    inputs = _inputs(bundle, graph, sizes)
    expected, found = session.run(graph, inputs), opened.run(graph, inputs)
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert (found[name].dtype, found[name].shape) == (array.dtype, array.shape)
        scale = np.abs(array).max()
        # single values of random inputs tip over as they do between any two libraries
        np.testing.assert_allclose(found[name], array, rtol=0, atol=1e-4 * scale, err_msg=name)
        assert np.abs(found[name] - array).mean() <= 1e-6 * scale, name


def test_it_has_the_separate_graphs(bundle: Bundle, opened: OpenVinoSession) -> None:
    assert opened.graphs == tuple(engine_specs(bundle.model))
    assert not opened.fused
    with pytest.raises(InputError, match="unknown graph 'track_step'"):
        opened.run("track_step", {})


def test_outputs_outlive_the_next_call(bundle: Bundle, opened: OpenVinoSession) -> None:
    first = _inputs(bundle, "memory_encoder", "steady")
    kept = opened.run("memory_encoder", first)["memory"]
    before = kept.copy()
    opened.run("memory_encoder", {**first, "image_embed": 2 * first["image_embed"]})
    np.testing.assert_array_equal(kept, before)


def test_results_do_not_depend_on_what_ran_before(bundle: Bundle) -> None:
    steady, growing = (_inputs(bundle, "memory_attention", s) for s in ("steady", "growing"))
    with OpenVinoSession(bundle, threads=1) as one, OpenVinoSession(bundle, threads=1) as other:
        runs = [one.run("memory_attention", x) for x in (steady, growing, steady)]
        again = [other.run("memory_attention", x) for x in (growing, steady)]
    first, second, third = (run["conditioned_embed"] for run in runs)
    np.testing.assert_array_equal(first, third)
    np.testing.assert_array_equal(first, again[1]["conditioned_embed"])
    np.testing.assert_array_equal(second, again[0]["conditioned_embed"])


def test_objects_are_those_of_single_calls(bundle: Bundle, opened: OpenVinoSession) -> None:
    inputs = _inputs(bundle, "memory_attention", "objects")
    together = opened.run("memory_attention", inputs)["conditioned_embed"]
    for i in range(3):
        own = {name: a if len(a) == 1 else a[i : i + 1] for name, a in inputs.items()}
        single = opened.run("memory_attention", own)["conditioned_embed"]
        np.testing.assert_array_equal(together[i : i + 1], single)


def test_threads_share_a_session(bundle: Bundle, opened: OpenVinoSession) -> None:
    images = [_inputs(bundle, "image_encoder", "steady")["image"] * (1 + i) for i in range(4)]
    expected = [opened.run("image_encoder", {"image": image})["image_embed"] for image in images]
    found: dict[int, list[Any]] = {}

    def work(i: int) -> None:
        calls = (opened.run("image_encoder", {"image": images[i]}) for _ in range(5))
        found[i] = [call["image_embed"] for call in calls]

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i in range(4):
        for array in found[i]:
            np.testing.assert_array_equal(array, expected[i])


def test_a_call_can_be_ended_from_outside(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    ended, running = threading.Event(), threading.Event()

    class Request:
        def infer(self, inputs: object, share_inputs: bool) -> dict[str, Any]:
            running.set()
            assert ended.wait(60)
            raise RuntimeError("Infer Request was canceled")

        def cancel(self) -> None:
            ended.set()

    session = OpenVinoSession(bundle, threads=1)
    monkeypatch.setattr(session, "_request", lambda graph, steady: Request())

    def stop() -> None:
        assert running.wait(60)
        stop_running()

    thread = threading.Thread(target=stop)
    thread.start()
    with pytest.raises(SessionError, match=r"mask_prompt failed .* canceled"):
        session.run("mask_prompt", _inputs(bundle, "mask_prompt", "steady"))
    thread.join()


def test_graphs_are_checked_without_compiling(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = OpenVinoSession(bundle, threads=1)
    session.check_graphs()
    assert session._compiled == {}
    nothing = {"query_model": lambda model, device: {}, "read_model": session._core.read_model}
    monkeypatch.setattr(
        session, "_core", type("Core", (), {k: staticmethod(v) for k, v in nothing.items()})
    )
    with pytest.raises(SessionError, match=r"OpenVINO's CPU lacks .*MatMul.* of image_encoder"):
        session.check_graphs()


def test_it_is_proved_as_any_backend(bundle: Bundle) -> None:
    outcome = verify_bundle(bundle.path, backend="openvino", threads=1)
    assert (outcome["backend"], outcome["device"]) == ("openvino", "cpu")
    assert not outcome["emulated"]
    # float32 stays float32: bfloat16 would differ by a thousandth of the scale and more
    for name, d in outcome["outputs"].items():
        assert d["max"] <= 5e-5 * max(d["scale"], 1e-3), name


@pytest.mark.skipif(not BF16, reason="this processor has no bfloat16 units")
def test_bfloat16_is_what_is_proved(bf16_bundle: Bundle) -> None:
    outcome = verify_bundle(bf16_bundle.path, backend="openvino", threads=1)
    assert not outcome["emulated"]
    outputs = outcome["outputs"]
    encoder = outputs["image_encoder.image_embed"]
    # eight bits of mantissa: far from float32, and close enough
    assert 5e-4 < encoder["max"] / encoder["scale"] < 2e-2
    # a mask prompt is resized exactly in every precision
    assert outputs["mask_prompt.mask_input"]["max"] == 0
    assert outcome["clip"]["lowest_iou"] > 0.95


def test_half_precision_needs_units(bf16_bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    def core() -> Any:
        return _Core(["FP32", "INT8"])

    monkeypatch.setattr(module, "openvino_module", lambda: _Module(core))
    expected = r"no units for bf16 .* would run the bf16 bundle in float32: export with --precision"
    with pytest.raises(SessionError, match=expected):
        open_session(bf16_bundle, "openvino")


class _Core:
    available_devices = ("CPU", "GPU.0", "GPU.1")

    def __init__(self, units: list[str]) -> None:
        self._units = units

    def get_property(self, device: str, name: str) -> list[str]:
        assert name == "OPTIMIZATION_CAPABILITIES"
        return self._units


class _Module:
    def __init__(self, core: Any) -> None:
        self.Core = core


@pytest.mark.parametrize(("device", "name"), [("gpu", "GPU"), ("gpu.1", "GPU.1"), ("cpu", "CPU")])
def test_devices_by_openvinos_names(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch, device: str, name: str
) -> None:
    monkeypatch.setattr(module, "openvino_module", lambda: _Module(lambda: _Core(["FP32"])))
    assert open_session(bundle, "openvino", device)._name == name  # type: ignore[attr-defined]


@pytest.mark.parametrize("device", ["npu", "cuda", "", "gpu.7"])
def test_a_missing_device_is_refused_early(bundle: Bundle, device: str) -> None:
    expected = f"OpenVINO finds no device '{device}' on this machine: expected one of cpu"
    with pytest.raises(SessionError, match=expected):
        open_session(bundle, "openvino", device)


def test_without_the_package(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'sam2rt\[openvino\]'"):
        open_session(bundle, "openvino")


def test_it_stays_closed(bundle: Bundle) -> None:
    session = OpenVinoSession(bundle, threads=1)
    inputs = _inputs(bundle, "mask_prompt", "steady")
    session.run("mask_prompt", inputs)
    session.close()
    with pytest.raises(InputError, match="closed"):
        session.run("mask_prompt", inputs)


def test_a_missing_graph_is_one_line(bundle: Bundle) -> None:
    broken = dataclasses.replace(bundle, path=bundle.path / "nowhere")
    with pytest.raises(SessionError, match=r"image_encoder\.onnx with OpenVINO .*it is missing"):
        OpenVinoSession(broken).run("image_encoder", _inputs(bundle, "image_encoder", "steady"))


def test_steady_sizes_are_the_models(bundle: Bundle) -> None:
    config = bundle.model
    assert steady_sizes(config) == {
        "B": 1, "N": 1, "I": 1, "G": 1, "M": config.num_maskmem, "K": config.max_obj_ptrs,
    }  # fmt: skip


class _Counted:
    """OpenVINO with its calls counted."""

    def __init__(self, core: Any) -> None:
        self._core = core
        self.compiled = 0

    def compile_model(self, *arguments: Any) -> Any:
        self.compiled += 1
        return self._core.compile_model(*arguments)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._core, name)


@pytest.fixture
def models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where compiled models are kept, empty."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path / "sam2rt" / "openvino"


def _answer(
    bundle: Bundle, graph: str = "memory_attention", sizes: str = "steady", threads: int = 1
) -> tuple[int, dict[str, Any]]:
    """How many graphs a new session compiles for a call, and what the call gives."""
    session = OpenVinoSession(bundle, threads=threads)
    core = _Counted(session._core)
    session._core = core
    made = session.run(graph, _inputs(bundle, graph, sizes))
    session.close()
    return core.compiled, made


def _same(one: dict[str, Any], other: dict[str, Any]) -> bool:
    return list(one) == list(other) and all(np.array_equal(one[k], other[k]) for k in one)


@pytest.mark.parametrize(
    "graph", ["image_encoder", "memory_attention", "mask_decoder", "mask_prompt", "memory_encoder"]
)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_kept_model_gives_the_same_bits(
    shared_bundles: SharedBundles, models: Path, graph: str, precision: str
) -> None:
    if precision == "bf16" and not BF16:
        pytest.skip("this processor has no bfloat16 units")
    bundle = shared_bundles.built_in(precision=precision, seed=1)
    for sizes in ("steady", "growing"):
        first, again = _answer(bundle, graph, sizes), _answer(bundle, graph, sizes)
        # one model with dynamic sizes may serve both
        assert again[0] == 0, sizes
        assert _same(first[1], again[1]), sizes
    assert models.stat().st_mode & 0o777 == 0o700
    assert all(one.suffix == ".model" for one in models.iterdir())


def test_sizes_threads_and_bundles_have_models_of_their_own(
    bundle: Bundle, shared_bundles: SharedBundles, models: Path
) -> None:
    other = shared_bundles.built_in(precision="bf16", seed=1)
    assert [_answer(bundle)[0], _answer(bundle)[0]] == [1, 0]
    assert [_answer(bundle, sizes="growing")[0], _answer(bundle, threads=2)[0]] == [1, 1]
    if BF16:
        assert _answer(other)[0] == 1
    assert len(list(models.iterdir())) == (4 if BF16 else 3)


def test_another_openvino_compiles_anew(
    bundle: Bundle, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert _answer(bundle)[0] == 1
    monkeypatch.setattr(openvino, "__version__", "2099.1.0-1-abc")
    assert [_answer(bundle)[0], _answer(bundle)[0]] == [1, 0]


@pytest.mark.parametrize("harm", ["cut", "emptied", "bit", "other", "link", "foreign"])
def test_a_harmed_model_is_compiled_anew(bundle: Bundle, models: Path, harm: str) -> None:
    _, expected = _answer(bundle)
    (file,) = models.iterdir()
    content = file.read_bytes()
    if harm == "cut":
        file.write_bytes(content[: len(content) // 2])
    elif harm == "emptied":
        file.write_bytes(b"")
    elif harm == "bit":
        file.write_bytes(content[:-9] + bytes([content[-9] ^ 1]) + content[-8:])
    elif harm == "other":
        # whole, and nothing that OpenVINO wrote
        file.write_bytes(hashlib.sha256(b"none").digest() + b"none")
    elif harm == "link":
        file.rename(models.parent / "elsewhere")
        file.symlink_to(models.parent / "elsewhere")
    elif os.geteuid() == 0:
        os.chown(file, 12345, 12345)
    else:
        pytest.skip("needs root to give a file away")
    compiled, found = _answer(bundle)
    assert compiled == 1
    assert _same(found, expected)
    # it was replaced
    assert _answer(bundle)[0] == 0
    assert not file.is_symlink()


@pytest.mark.parametrize("place", ["a file", "open to all", "no right", "full"])
def test_without_a_place_for_models_it_works(
    bundle: Bundle, models: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if place == "a file":
        models.parent.write_text("")
    elif place == "open to all":
        models.mkdir(parents=True)
        models.chmod(0o777)
    elif place == "no right":
        monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    else:

        def full(path: Path) -> None:
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(compiled_models, "replaced_file", full)
    first, again = _answer(bundle), _answer(bundle)
    assert (first[0], again[0]) == (1, 1)
    assert _same(first[1], again[1])
    if models.is_dir():
        assert list(models.iterdir()) == []


def test_a_missing_graph_is_not_answered_for(bundle: Bundle, models: Path, tmp_path: Path) -> None:
    _answer(bundle, "mask_prompt")
    broken = dataclasses.replace(bundle, path=bundle.path / "nowhere")
    with pytest.raises(SessionError, match="it is missing"):
        _answer(broken, "mask_prompt")


def test_processes_that_compile_at_once(bundle: Bundle, models: Path) -> None:
    code = (
        "import sys; from sam2rt import Bundle;"
        "from sam2rt.runtime.backends.openvino_session import OpenVinoSession as S;"
        "S(Bundle.load(sys.argv[1]), threads=1).__enter__()"
    )
    command = [sys.executable, "-c", code, str(bundle.path)]
    running = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(120) for process in running] == [0, 0]
    graphs = engine_specs(bundle.model)
    assert len(list(models.iterdir())) == len(graphs)
    session = OpenVinoSession(bundle, threads=1)
    core = _Counted(session._core)
    session._core = core
    with session:
        assert core.compiled == 0


def test_models_have_a_largest_size(
    bundle: Bundle, models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(compiled_models, "LARGEST", 0)
    assert [_answer(bundle, "mask_prompt")[0] for _ in range(2)] == [1, 1]
    assert list(models.iterdir()) == []
