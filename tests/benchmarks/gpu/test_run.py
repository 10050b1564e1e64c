"""The GPU benchmark where no GPU is: rehearsed as a whole; its checks fail what is wrong."""

from __future__ import annotations

import dataclasses
import json
import math
import os
import signal
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
from gpu_rehearsal import install
from gpu_wheels import TRITON, wheel_folder
from triton_kernels import interpreted, triton_on_path

from sam2rt.benchmarks.gpu import collect, engine_code, speed
from sam2rt.benchmarks.gpu import kernels as gpu_kernels
from sam2rt.benchmarks.gpu import needs as gpu_needs
from sam2rt.benchmarks.gpu import run as gpu
from sam2rt.benchmarks.gpu import systems as gpu_systems
from sam2rt.benchmarks.gpu.stage import STEADY, Problem, Stage, gpu_stage, rehearsal_stage
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import SessionError
from sam2rt.plugins import memory_cross_attention as op
from sam2rt.plugins.kernel import Launch
from sam2rt.runtime.session import Session

ROOT = Path(gpu.__file__).parents[2]
SMALL = (Problem(2, 5, 2, 3, width=64, value=16), Problem(1, 6, 1, 0, width=64, value=16))
LAUNCH = Launch({"BLOCK_Q": 16, "BLOCK_K": 16}, 4, 1)


def _script(tmp_path: Path, *arguments: str, **environment: str) -> dict[str, Any]:
    """The report of the script itself, run as users do, in a folder of its own."""
    done = subprocess.run(
        ["bash", str(ROOT / "benchmarks/gpu.sh"), *arguments],
        capture_output=True, text=True, cwd=tmp_path,
        env={**os.environ, "PYTHON": sys.executable, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert [p.name for p in tmp_path.iterdir()] == ["gpu.json"]
    found: dict[str, Any] = json.loads((tmp_path / "gpu.json").read_text())
    return found


def test_every_part_is_rehearsed(tmp_path: Path) -> None:
    """What a GPU will be asked to do, on a CPU: no part may fail, and each says what it did."""
    path = f"{wheel_folder(TRITON)}:{os.environ.get('PYTHONPATH', '')}".rstrip(":")
    report = _script(tmp_path, "--rehearse", "gpu.json", PYTHONPATH=path, OMP_NUM_THREADS="1")
    assert [name for name in report if name != "seconds"] == list(gpu.PARTS)
    absent = {"plugin_engine": "tensorrt", "engines": "tensorrt", "original": "sam2"}
    for name, package in absent.items():
        assert report.pop(name)["not_run"].startswith(f"not installed: {package}")
    assert report.pop("end_to_end")["not_run"].startswith("neither tensorrt nor")
    for name, result in report.items():
        unlike = {"not_run", "failed", "stopped"} & {*result} if isinstance(result, dict) else ()
        assert not unlike, f"{name}: {result}"
    _rehearsed_kernels(report)
    _rehearsed_model(report)


def _rehearsed_kernels(report: dict[str, Any]) -> None:
    code = report["engine_code"]
    kinds = [(x["dtype"], x["code"]) for x in code["launches"]]
    types = ("torch.bfloat16", "torch.float16")
    assert {*kinds} == {(dtype, image) for dtype in types for image in ("cubin", "ptx")}
    assert code["passed"]
    # half precision inputs, float32 sums
    assert 0 < max(x["error"] for x in code["launches"]) < 1e-6
    assert code["races"] == {"torch_to_sam2rt": 0, "sam2rt_to_torch_dlpack": 0}
    assert report["kernel_correctness"]["passed"]
    assert report["kernel_correctness"]["pixels"] == {
        "upsample_mask": 0, "fill_small": 0, "rotate_keys": 0,
    }  # fmt: skip
    narrow, wide = report["kernel_speed"]["problems"]
    assert (narrow["problem"]["value"], wide["problem"]["value"]) == (16, 64)
    assert narrow["sam2rt"][0]["ms"] > 0
    assert len(narrow["torch"]) == 3
    assert len(report["kernel_tuning"]) == 1
    assert report["device_layer"]["passed"]


def _rehearsed_model(report: dict[str, Any]) -> None:
    (model,) = report["model"]
    assert (model["model"], model["precision"]) == ("micro", "bf16")
    assert list(model["attentions"]) == ["plugin", "full", "body"]
    for found in model["attentions"].values():
        assert found["fps_device"] == pytest.approx(1e3 / found["frame_ms"])
        assert found["fps_host"] > 0
    assert {"image_encoder_ms", "mask_decoder_ms", "memory_encoder_ms"} <= {
        *model["attentions"]["plugin"]
    }
    proof = report["half_precision"]["bf16"]
    assert (proof["passed"], proof["problems"]) == (True, [])
    # four frames of up to three objects, and other numbers than the float32 graphs give
    assert proof["clip"]["results"] == 1 + 2 + 3 + 3
    attended = proof["outputs"]["memory_attention.conditioned_embed"]
    assert 0.99 < attended["cosine"] < 1 - 1e-7
    assert report["host_time"]["frame_ms"] > 0
    assert report["host_time"]["host_ms"] > 0
    share = report["host_time"]["host_ms"] / report["host_time"]["frame_ms"]
    assert report["host_time"]["host_share"] == pytest.approx(share)


def test_attention_check_passes_right_kernels() -> None:
    kernel = interpreted("attention_kernels").memory_cross_attention
    found = gpu_kernels.attention_errors(kernel, SMALL, (LAUNCH,), "cpu", torch.float32)
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
                partial = arguments[7]
                if fault == "scaled":
                    partial *= 1.001
                else:
                    partial[0, 0, 0, 0] = math.nan

            return run

    found = gpu_kernels.attention_errors(Wrong(), SMALL[:1], (LAUNCH,), "cpu", torch.float32)
    assert not any(f["passed"] for f in found)


def test_the_kernel_that_is_measured_is_the_engines() -> None:
    """Compiled once, for any sizes, as ahead of time; not anew for a size of 1 or 16."""
    triton_on_path()
    parameters = gpu_kernels.attention_kernel().params
    general = [p.name for p in parameters if p.do_not_specialize]
    assert general == ["n_query", "n_key", "n_split", "n_batch"]


@pytest.mark.parametrize("error", [0.5, math.nan])
def test_correctness_is_told_launch_by_launch(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: float
) -> None:
    narrow, wide = op.ATTENTION.candidates(90), op.WIDE_ATTENTION.candidates(90)
    asked: list[tuple[str, Launch]] = []

    def errors(kernel: Any, problems: Any, launches: Any, device: str, dtype: Any) -> Any:
        asked.append((str(dtype), *launches))
        wrong = len(asked) == 2
        return [{"error": error if wrong else 0.001, "passed": not wrong}]

    monkeypatch.setattr(gpu_kernels, "attention_kernel", lambda: None)
    monkeypatch.setattr(gpu_kernels, "pixel_errors", lambda _: {"fill_small": 0})
    monkeypatch.setattr(gpu_kernels, "_rotation_errors", lambda _: 0)
    monkeypatch.setattr(gpu_kernels, "attention_errors", errors)
    told = list(gpu_kernels.correctness(Stage("cuda", 90, 132, tmp_path)))
    types = ("bfloat16", "float16")
    assert asked == [(f"torch.{d}", x) for d in types for x in (*narrow, *wide)]
    assert [t["passed"] for t in told] == [True] + [False] * (len(asked) - 1)
    np.testing.assert_equal(told[-1]["worst"], error)


@pytest.mark.parametrize("fault", ["another argument", "too few"])
def test_engine_code_that_takes_other_arguments_is_found(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, fault: str
) -> None:
    """What an engine holds is what is launched, not what Triton compiles for itself."""
    install(monkeypatch)
    compiled = engine_code.compile_kernel

    def wrong(kernel: Any, arch: int, **options: Any) -> Any:
        code = compiled(kernel, arch, **options)
        # as if Triton's hidden pointers were still there, or an integer were gone
        extra = ".param .u64 memory_cross_attention_param_9,"
        gone = ".param .u32 memory_cross_attention_param_3,"
        text = code.ptx.replace(gone, "") if fault == "too few" else extra + code.ptx
        object.__setattr__(code, "ptx", text)
        return code

    monkeypatch.setattr(engine_code, "compile_kernel", wrong)
    with pytest.raises((AssertionError, KeyError)):
        list(engine_code.engine_code(rehearsal_stage(tmp_path)))


def test_engine_code_that_is_wrong_shows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An integer passed in another's place."""
    install(monkeypatch)
    stage = rehearsal_stage(tmp_path)
    problem, launch = stage.steady[0], LAUNCH
    constants = {"WIDTH": problem.width, "VALUE": problem.value}
    code = engine_code.compile_kernel(
        op.ATTENTION, 90, dtype="bfloat16", launch=launch, constants=constants
    )
    inputs = gpu_kernels.make_inputs(problem, "cpu", torch.bfloat16)
    assert engine_code.launched_error(stage, code, code.cubin, inputs, launch) < 1e-6
    short = gpu_kernels.Inputs(inputs.query, inputs.key[:, :-1], inputs.value[:, :-1])
    expected = gpu_kernels.reference(inputs)
    monkeypatch.setattr(engine_code, "reference", lambda _: expected)
    assert engine_code.launched_error(stage, code, code.cubin, short, launch) > 1e-3


def test_engines_are_proved_without_the_command_line() -> None:
    code = (
        "import sys; sys.modules['click'] = sys.modules['torch'] = sys.modules['onnx'] = None\n"
        "import sam2rt.benchmarks.gpu.systems, sam2rt.export.engines.build"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_torch_reference_is_the_numpy_reference() -> None:
    inputs = gpu_kernels.make_inputs(SMALL[0], "cpu", torch.float32)
    expected, _ = op.reference(*(t.numpy() for t in vars(inputs).values()))
    found = gpu_kernels.reference(inputs, rows_at_once=7)
    np.testing.assert_allclose(found.numpy(), expected[:, 0], atol=1e-12)


def test_the_stage_is_the_gpu_of_this_machine(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    if not torch.cuda.is_available():
        with pytest.raises(gpu_needs.CannotRunError, match="torch sees no GPU"):
            gpu_stage(tmp_path)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    found = SimpleNamespace(multi_processor_count=132)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: found)
    stage = gpu_stage(tmp_path)
    assert (stage.device, stage.arch, stage.processors, stage.rehearsal) == ("cuda", 90, 132, False)
    assert gpu_kernels.launches_of(stage) == op.ATTENTION.candidates(90)
    assert gpu_kernels.launches_of(stage, wide=True) == op.WIDE_ATTENTION.candidates(90)
    # no kernel that wide fits the registers there
    assert gpu_kernels.launches_of(dataclasses.replace(stage, arch=89), wide=True) == ()


def test_tuning_begins_with_what_engines_use(tmp_path: Path) -> None:
    stage = Stage("cuda", 90, 132, tmp_path)
    tried = speed._grid(stage)
    assert tried[:3] == list(op.ATTENTION.candidates(90))
    assert len({str(gpu_kernels.describe(x)) for x in tried}) == len(tried)


def test_work_is_counted_once() -> None:
    steady = STEADY[0]
    assert (steady.rows, steady.tokens) == (4096, 28736)
    assert steady.flop == 2 * 4096 * 28736 * 320


def test_parts_without_a_gpu_say_why(tmp_path: Path) -> None:
    """The script itself, as it runs where neither GPU nor TensorRT is."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    report = _script(tmp_path, "gpu.json", "machine", "kernel_speed", "original")
    assert list(report) == ["machine", "seconds", "kernel_speed", "original"]
    assert report["machine"]["sam2rt"].startswith("0.1.0")
    assert report["kernel_speed"]["not_run"] in ("not installed: triton", "torch sees no GPU")
    assert report["original"]["not_run"].startswith("not installed: sam2")


def test_a_part_that_crashes_or_hangs_costs_only_itself(tmp_path: Path) -> None:
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
    target = tmp_path / "new" / "report.json"
    collector = collect.Collector(
        lambda name: [sys.executable, "-c", scripts[name]], {"partial": 6}, target
    )
    started = time.monotonic()
    found = collector.collect(list(scripts), 100)
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
    late = {"good": {"not_run": "no time was left"}, "seconds": {"good": 0.0}}
    assert collector.collect(["good"], 1) == late
    assert json.loads(target.read_text()) == late
    assert [p.name for p in target.parent.iterdir()] == ["report.json"]


def test_what_a_part_told_is_in_the_report_while_it_runs(tmp_path: Path) -> None:
    """A call that is cut short leaves what was measured."""
    target = tmp_path / "report.json"
    code = "import time; print('SO FAR {\"ms\": 4}', flush=True); time.sleep(60)"
    script = (
        "import sys; from pathlib import Path\n"
        "from sam2rt.benchmarks.gpu.collect import Collector\n"
        f"command = lambda name: [sys.executable, '-c', {code!r}]\n"
        f"Collector(command, {{}}, Path({str(target)!r})).collect(['part'], 100)"
    )
    with subprocess.Popen([sys.executable, "-c", script]) as running:
        until = time.monotonic() + 60
        while not target.is_file() and time.monotonic() < until:
            time.sleep(0.1)
        running.kill()
    found = json.loads(target.read_text())["part"]
    assert found == {"stopped": "the script was cut short", "until_then": {"ms": 4}}


def test_ctrl_c_ends_the_script_and_its_part_at_once(tmp_path: Path) -> None:
    """As a terminal sends it: to the script and all in its group."""
    path = f"{wheel_folder(TRITON)}:{os.environ.get('PYTHONPATH', '')}".rstrip(":")
    command = ["bash", str(ROOT / "benchmarks/gpu.sh"), "--rehearse", "gpu.json"]
    running = subprocess.Popen(
        [*command, "machine", "kernel_correctness"], cwd=tmp_path, start_new_session=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHON": sys.executable, "PYTHONPATH": path},
    )  # fmt: skip
    until = time.monotonic() + 60
    while not (tmp_path / "gpu.json").is_file() and time.monotonic() < until:
        time.sleep(0.1)
    sent = time.monotonic()
    os.killpg(running.pid, signal.SIGINT)
    _, said = running.communicate(timeout=60)
    assert time.monotonic() - sent < 20
    assert running.returncode == 128 + signal.SIGINT
    assert "Traceback" not in said
    assert json.loads((tmp_path / "gpu.json").read_text())["machine"]["sam2rt"].startswith("0.1.0")


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (ZeroDivisionError("division by zero"), {"failed": "ZeroDivisionError: division by zero"}),
        (SessionError("no GPU"), {"not_run": "no GPU"}),
        (gpu_needs.CannotRunError("too old"), {"not_run": "too old"}),
    ],
)
def test_errors_are_told(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, error: Exception, told: dict[str, str]
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(gpu, "_stage", fail)
    assert gpu.run_part("ceilings", tmp_path) == told


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
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    models = gpu_needs.VARIANTS

    def measured(name: str, precision: str) -> Iterator[dict[str, Any]]:
        yield {"model": name, "precision": precision, "tensorrt cuda": 5}
        if name == models[1]:
            raise ValueError("no kernel\nfor it")
        yield {"model": name, "precision": precision, "tensorrt cuda": 5, "onnxruntime cuda": 4}

    monkeypatch.setattr(gpu_systems, "end_to_end", measured)
    monkeypatch.setattr(gpu_systems, "require_gpu_backend", lambda: None)
    monkeypatch.setattr(gpu_systems.importlib.util, "find_spec", lambda name: None)
    told = [
        json.loads(json.dumps(t))
        for t in gpu_systems.end_to_end_of_all(Stage("cuda", 90, 132, tmp_path))
    ]
    found = told[-1]
    assert [f["precision"] for f in found] == ["fp16"] * 4 + ["fp32"] * 4
    assert found[1] == {
        "model": models[1], "precision": "fp16", "tensorrt cuda": 5,
        "failed": "ValueError: no kernel for it",
    }  # fmt: skip
    assert sum("failed" in f for f in found) == 2
    # each backend's figures are told at once, in case the next takes all the time
    assert [len(t[0]) for t in told[:2]] == [3, 4]


def test_end_to_end_does_not_export_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(gpu_systems, "untrained_bundle", lambda *_: pytest.fail("exported"))
    monkeypatch.setattr(
        gpu_needs.importlib.util, "find_spec", lambda name: name != "tensorrt" or None
    )
    with pytest.raises(gpu_needs.CannotRunError, match="neither tensorrt nor onnxruntime-gpu"):
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
