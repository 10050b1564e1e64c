"""Which backends run a bundle is found out by opening it, when a predictor is made too."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from bundles import SharedBundles
from click.testing import CliRunner

from sam2rt.cli import main as cli
from sam2rt.cli.main import command_group
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import SessionError
from sam2rt.runtime.backends import onnxruntime_session
from sam2rt.runtime.backends.onnxruntime_session import PROVIDERS, OnnxRuntimeSession
from sam2rt.runtime.backends.usable import usable_backends
from sam2rt.runtime.predictors.image import ImagePredictor
from sam2rt.runtime.predictors.stream import StreamTracker
from sam2rt.runtime.predictors.video import VideoPredictor
from sam2rt.runtime.tasks.doctor import doctor

pytest.importorskip("onnxruntime")

_REFUSED = (
    r"onnxruntime [\d.]+ cannot run the bf16 bundle {path} on the CPU, where it has no kernels for "
    r"it \(Could not find an implementation for .*\): export the checkpoint with --precision fp32, "
    r"run it with {backend} where the processor has units for it, or on an NVIDIA GPU with {device}"
)


@pytest.fixture(scope="module")
def bf16(shared_bundles: SharedBundles) -> Bundle:
    return shared_bundles.built_in(seed=0, precision="bf16")


@pytest.mark.parametrize("precision", ["fp32", "fp16", "int8"])
def test_what_the_cpu_runs(precision: str, shared_bundles: SharedBundles) -> None:
    bundle = shared_bundles.built_in(seed=0, precision=precision)
    places = {str(place): place for place in usable_backends(bundle)}
    assert list(places) == [
        "onnxruntime cpu",
        "onnxruntime cuda",
        "onnxruntime tensorrt",
        "openvino cpu",
        "tensorrt cuda",
    ]
    assert places["onnxruntime cpu"].usable
    if importlib.util.find_spec("openvino") is not None:
        # few processors have float16 units; none is told to run it in float32 without a word
        assert places["openvino cpu"].usable or precision == "fp16"
    ImagePredictor(bundle, threads=1).close()
    if importlib.util.find_spec("tensorrt") is None:
        native = places["tensorrt cuda"]
        assert native.why == "TensorRT needs the package 'tensorrt'"
        assert native.remedy == "pip install 'sam2rt[tensorrt]'"


@pytest.mark.parametrize("made", [ImagePredictor, VideoPredictor, StreamTracker])
def test_a_predictor_that_cannot_run_is_not_made(made: Callable[..., Any], bf16: Bundle) -> None:
    with pytest.raises(SessionError) as refused:
        made(bf16)
    expected = _REFUSED.format(
        path=re.escape(str(bf16.path)), backend="backend='openvino'", device="device='cuda'"
    )
    assert re.fullmatch(expected, str(refused.value))


def test_the_command_names_its_own_option(
    bf16: Bundle, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cv2.imwrite(str(tmp_path / "p.png"), np.zeros((60, 80, 3), np.uint8))
    places = ["--bundle", str(bf16.path), "-o", str(tmp_path / "out")]
    with pytest.raises(SystemExit) as done:
        cli(["segment", str(tmp_path / "p.png"), "--point", "3,3", *places])
    assert done.value.code == 1
    expected = _REFUSED.format(
        path=re.escape(str(bf16.path)), backend="--backend openvino", device="--device cuda"
    )
    assert re.fullmatch(f"sam2rt: {expected}\n", capsys.readouterr().err)
    assert not (tmp_path / "out").exists()


def test_a_listed_provider_is_not_believed(
    shared_bundles: SharedBundles, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As onnxruntime-gpu without CUDA's libraries: it lists the provider and runs on the CPU."""
    import onnxruntime

    bundle = shared_bundles.built_in(seed=0, precision="fp32")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: list(PROVIDERS["cuda"]))
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: None, raising=False)
    monkeypatch.setattr(OnnxRuntimeSession, "_providers", lambda self: ["CPUExecutionProvider"])
    places = {str(place): place for place in usable_backends(bundle)}
    assert not places["onnxruntime cuda"].usable
    assert "instead of CUDAExecutionProvider" in places["onnxruntime cuda"].why
    with pytest.raises(SessionError, match="instead of CUDAExecutionProvider"):
        ImagePredictor(bundle, device="cuda")


def test_each_graph_is_opened(
    shared_bundles: SharedBundles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    real = OnnxRuntimeSession._opened

    def listening(self: Any, path: Path, *given: Any, **named: Any) -> Any:
        opened.append(path.name)
        return real(self, path, *given, **named)

    monkeypatch.setattr(onnxruntime_session.OnnxRuntimeSession, "_opened", listening)
    bundle = shared_bundles.built_in(seed=0, precision="fp32")
    assert next(iter(usable_backends(bundle))).usable
    assert sorted(opened) == [
        "image_encoder.onnx",
        "mask_decoder.onnx",
        "mask_prompt.onnx",
        "memory_attention.onnx",
        "memory_encoder.onnx",
        "track_step.onnx",
    ]


def test_doctor_says_where_a_bundle_runs(bf16: Bundle, shared_bundles: SharedBundles) -> None:
    found = {finding.topic: finding for finding in doctor(bf16.path)}["runs on onnxruntime cpu"]
    assert found.status == "missing"
    assert found.text.startswith("no: onnxruntime ")
    assert "Could not find an implementation" in found.text
    assert found.remedy == (
        "export the checkpoint with --precision fp32, run it with backend='openvino' where the "
        "processor has units for it, or on an NVIDIA GPU with device='cuda'"
    )
    whole = shared_bundles.built_in(seed=0, precision="fp32")
    found = {finding.topic: finding for finding in doctor(whole.path)}["runs on onnxruntime cpu"]
    assert (found.status, found.text, found.remedy) == ("ok", "yes", "")


@pytest.mark.parametrize("command", ["inspect", "verify"])
def test_commands_say_what_was_proved_and_where_it_runs(command: str, bf16: Bundle) -> None:
    group = command_group()
    done = CliRunner().invoke(group, [command, str(bf16.path)])
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    proved = lines.index("proof       passed on onnxruntime cpu, seed 0")
    assert lines[proved + 1] == (
        "  not of the graphs as they stand: every operator in float32, its result rounded to half "
        "precision"
    )
    runs = [line for line in lines if line.startswith("runs on onnxruntime cpu ")]
    assert len(runs) == 1
    assert "no: onnxruntime" in runs[0]
