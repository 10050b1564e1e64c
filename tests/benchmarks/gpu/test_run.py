"""The GPU benchmark where no GPU is: its checks run interpreted, its parts say why they cannot."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from fake_bundle import write_bundle
from triton_kernels import interpreted, triton_on_path

from sam2rt.benchmarks.gpu import kernels as gpu_kernels
from sam2rt.benchmarks.gpu import run as gpu
from sam2rt.benchmarks.gpu import systems as gpu_systems
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import SessionError
from sam2rt.plugins import memory_cross_attention as op
from sam2rt.plugins.kernel import Launch
from sam2rt.runtime.session import Session

ROOT = Path(gpu.__file__).parents[2]
SMALL = (
    gpu_kernels.Problem(2, 5, 2, 3, width=64, value=16),
    gpu_kernels.Problem(1, 6, 1, 0, width=64, value=16),
)
LAUNCH = Launch({"BLOCK_Q": 16, "BLOCK_K": 16}, 4, 1)


def test_attention_check_passes_right_kernels() -> None:
    module = interpreted("attention_kernels")
    found = gpu_kernels.attention_errors(module, SMALL, (LAUNCH,), "cpu", torch.float32)
    assert [f["splits"] for f in found] == [1, 4, 7] * 2
    assert all(f["passed"] for f in found)
    assert 0 < max(f["error"] for f in found) < 1e-6


@pytest.mark.parametrize("fault", ["scaled", "unwritten"])
def test_attention_check_fails_wrong_kernels(fault: str) -> None:
    real = interpreted("attention_kernels")

    class Wrong:
        def __getitem__(self, grid: Any) -> Any:
            def run(*arguments: Any, **named: Any) -> None:
                real.memory_cross_attention[grid](*arguments, **named)
                partial = arguments[9]
                if fault == "scaled":
                    partial *= 1.001
                else:
                    partial[0, 0, 0, 0] = math.nan

            return run

    module = SimpleNamespace(rotate_keys=real.rotate_keys, memory_cross_attention=Wrong())
    found = gpu_kernels.attention_errors(module, SMALL[:1], (LAUNCH,), "cpu", torch.float32)
    assert not any(f["passed"] for f in found)


def test_the_kernel_that_is_measured_is_the_engines() -> None:
    """Compiled once, for any sizes, as ahead of time; not anew for a size of 1 or 16."""
    triton_on_path()
    parameters = gpu_kernels.kernels().memory_cross_attention.params
    general = [p.name for p in parameters if p.do_not_specialize]
    assert general == ["n_query", "n_key", "n_split", "n_batch"]


@pytest.mark.parametrize("error", [0.5, math.nan])
def test_correctness_is_told_launch_by_launch(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: float
) -> None:
    launches = op.ATTENTION.candidates(90)
    asked: list[tuple[str, Launch]] = []

    def errors(module: Any, problems: Any, launches: Any, device: str, dtype: Any) -> Any:
        asked.append((str(dtype), *launches))
        wrong = len(asked) == 2
        return [{"error": error if wrong else 0.001, "passed": not wrong}]

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    monkeypatch.setattr(gpu, "require", lambda *_: None)
    monkeypatch.setattr(gpu_kernels, "kernels", lambda: None)
    monkeypatch.setattr(gpu_kernels, "pixel_errors", lambda: {"fill_small": 0})
    monkeypatch.setattr(gpu_kernels, "attention_errors", errors)
    found = gpu.run_part("kernel_correctness")
    assert asked == [(f"torch.{d}", x) for d in ("bfloat16", "float16") for x in launches]
    assert (found["passed"], len(found["attention"])) == (False, len(asked))
    np.testing.assert_equal(found["worst"], error)
    told = [json.loads(t) for t in capsys.readouterr().out.split("\nSO FAR ")[1:]]
    assert [t["passed"] for t in told] == [True] + [False] * (len(asked) - 1)


def test_engines_are_proved_without_the_command_line() -> None:
    code = (
        "import sys; sys.modules['click'] = sys.modules['torch'] = sys.modules['onnx'] = None\n"
        "import sam2rt.benchmarks.gpu.systems, sam2rt.export.engines.build"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_torch_reference_is_the_numpy_reference() -> None:
    inputs = gpu_kernels.make_inputs(SMALL[0], "cpu", torch.float32)
    arrays = [t.numpy() for t in vars(inputs).values()]
    query, key, value, cos, sin = arrays
    turned = op.rotate_keys(key.astype(np.float64), cos, sin)
    expected, _ = op.reference(query, turned, value, cos, sin)
    found = gpu_kernels.reference(inputs, rows_at_once=7)
    np.testing.assert_allclose(found.numpy(), expected[:, 0], atol=1e-12)


def test_work_is_counted_once() -> None:
    steady = gpu_kernels.STEADY[0]
    assert (steady.rows, steady.tokens) == (4096, 28736)
    assert steady.flop == 2 * 4096 * 28736 * 320


def test_parts_without_a_gpu_say_why(tmp_path: Path) -> None:
    """The script itself, as it runs where neither GPU nor TensorRT is."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    out = tmp_path / "gpu.json"
    done = subprocess.run(
        ["bash", str(ROOT / "benchmarks/gpu.sh"), str(out), "machine", "kernel_speed", "original"],
        capture_output=True, text=True, cwd=tmp_path, env={**os.environ, "PYTHON": sys.executable},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    report = json.loads(out.read_text())
    assert list(report) == ["machine", "kernel_speed", "original"]
    assert report["machine"]["sam2rt"].startswith("0.1.0")
    assert report["kernel_speed"]["not_run"] in ("not installed: triton", "torch sees no GPU")
    assert report["original"]["not_run"].startswith("not installed: sam2")
    assert [p.name for p in tmp_path.iterdir()] == ["gpu.json"]


def test_a_part_that_crashes_or_hangs_costs_only_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scripts = {
        "good": "print('noise'); print('RESULT {\"a\": 1}')",
        "crash": "import os; os.abort()",
        "failed": "print('SO FAR [3]'); print('RESULT {\"failed\": \"KeyError\"}')",
        "partial": "import time; print('SO FAR [1]\\nSO FAR [1, 2', flush=True); time.sleep(60)",
        # what a library leaves: an unfinished line, bytes that are no text
        "noisy": "import os; os.write(1, b'\\xff 50 %'); print('\\nRESULT {\"a\": NaN}')",
        # a compiler that outlives its part and holds what it was given to write to
        "orphan": "import subprocess; subprocess.Popen(['sleep', '60']); print('RESULT 2')",
    }
    monkeypatch.setattr(gpu, "_command", lambda name: [sys.executable, "-c", scripts[name]])
    monkeypatch.setattr(gpu, "LIMITS", {"partial": 6})
    target = tmp_path / "new" / "report.json"
    started = time.monotonic()
    found = gpu.collect(list(scripts), 100, target)
    assert time.monotonic() - started < 40
    assert found["good"] == {"a": 1}
    assert found["crash"]["not_run"].startswith("exit code -6")
    assert found["failed"] == {"failed": "KeyError", "until_then": [3]}
    assert found["partial"] == {"stopped": "stopped after 6 s", "until_then": [1]}
    assert found["orphan"] == 2
    assert math.isnan(found.pop("noisy")["a"])
    # JSON has no NaN
    written = json.loads(target.read_text(), parse_constant=pytest.fail)
    assert written.pop("noisy") == {"a": "nan"}
    assert written == found
    late = {"good": {"not_run": "no time was left"}}
    assert gpu.collect(["good"], 1, target) == late
    assert json.loads(target.read_text()) == late
    assert [p.name for p in target.parent.iterdir()] == ["report.json"]


def test_an_error_nobody_foresaw_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gpu.PARTS, "machine", lambda: 1 / 0)
    assert gpu.run_part("machine") == {"failed": "ZeroDivisionError: division by zero"}


def test_replays_that_differ_are_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_bundle(tmp_path / "b")
    bundle = Bundle.load(tmp_path / "b")
    calls: list[str] = []

    class Stale(Session):
        def run(self, graph: str, inputs: Any, into: Any = None) -> Any:
            calls.append(graph)
            # the third call of a graph, its first replay, gives something else
            wrong = graph == "memory_encoder" and calls.count(graph) == 3
            return {"out": np.full(3, 1.5 if wrong else 1.0)}

    monkeypatch.setattr(gpu_systems, "open_session", lambda *_: Stale())
    assert gpu_systems.replay_differences(bundle, runs=2) == {
        "memory_attention": 0.0, "memory_encoder": 0.5, "mask_decoder": 0.0,
    }  # fmt: skip


def test_a_variant_that_fails_costs_only_itself(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def measured(name: str, precision: str) -> Iterator[dict[str, Any]]:
        yield {"model": name, "precision": precision, "tensorrt cuda": 5}
        if name == gpu_systems.VARIANTS[1]:
            raise ValueError("no kernel\nfor it")
        yield {"model": name, "precision": precision, "tensorrt cuda": 5, "onnxruntime cuda": 4}

    monkeypatch.setattr(gpu, "end_to_end", measured)
    monkeypatch.setattr(gpu, "require_gpu_backend", lambda: None)
    monkeypatch.setattr(gpu.importlib.util, "find_spec", lambda name: None)
    found = gpu.run_part("end_to_end")
    assert [f["precision"] for f in found] == ["fp16"] * 4 + ["fp32"] * 4
    assert found[1] == {
        "model": gpu_systems.VARIANTS[1], "precision": "fp16", "tensorrt cuda": 5,
        "failed": "ValueError: no kernel for it",
    }  # fmt: skip
    assert sum("failed" in f for f in found) == 2
    # each backend's figures are told at once, in case the next takes all the time
    told = capsys.readouterr().out.split("\nSO FAR ")[1:]
    assert [len(json.loads(t)[0]) for t in told[:2]] == [3, 4]
    assert json.loads(told[-1]) == found


def test_errors_of_ours_are_reasons(monkeypatch: pytest.MonkeyPatch) -> None:
    def part() -> None:
        raise SessionError("no GPU")

    monkeypatch.setitem(gpu.PARTS, "engine_proof", part)
    assert gpu.run_part("engine_proof") == {"not_run": "no GPU"}


def test_end_to_end_does_not_export_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_systems, "untrained_bundle", lambda *_: pytest.fail("exported"))
    monkeypatch.setattr(
        gpu_systems.importlib.util, "find_spec", lambda name: name != "tensorrt" or None
    )
    with pytest.raises(gpu_systems.CannotRunError, match="neither tensorrt nor onnxruntime-gpu"):
        next(gpu_systems.end_to_end("micro", "fp32"))


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("sam2.1_hiera_base_plus", "configs/sam2.1/sam2.1_hiera_b+.yaml"),
        ("sam2_hiera_large", "configs/sam2/sam2_hiera_l.yaml"),
    ],
)
def test_configuration_files_of_the_original(name: str, file: str) -> None:
    assert gpu_systems._original_config(gpu_systems.model_config(name)) == file
