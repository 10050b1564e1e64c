"""What doctor says with nothing installed, and about engines that do and do not fit."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from sam2rt.cli.commands import machine
from sam2rt.cli.commands.machine import doctor_command, plugins_command
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import MissingExtraError, SessionError
from sam2rt.plugins import registry
from sam2rt.runtime.gpu import cuda
from sam2rt.runtime.tasks import doctor
from sam2rt.runtime.tasks.doctor import Finding

pytest.importorskip("cuda.bindings.runtime")

from fake_bundle import write_bundle
from fake_cuda import FakeCuda
from fake_tensorrt import MACHINE, FakeTensorRT, write_engines
from triton_kernels import triton_on_path

from sam2rt.runtime.backends import tensorrt_library


def _topics(findings: list[Finding]) -> dict[str, Finding]:
    return {f.topic: f for f in findings}


def test_with_nothing_installed_it_says_what_to_install(tmp_path: Path) -> None:
    """numpy and the package alone: every other import fails, as on a fresh machine."""
    write_bundle(tmp_path / "b")
    code = """
import sys
allowed = set(sys.stdlib_module_names) | {"numpy", "sam2rt"}
class Only:
    def __init__(self, finder):
        self.finder = finder
    def find_spec(self, name, path=None, target=None):
        known = name.partition(".")[0] in allowed
        return self.finder.find_spec(name, path, target) if known else None
sys.meta_path[:] = [Only(f) for f in sys.meta_path if hasattr(f, "find_spec")]
import json, dataclasses
from pathlib import Path
from sam2rt.runtime.tasks.doctor import doctor
print(json.dumps([dataclasses.asdict(f) for f in doctor(Path(sys.argv[1]))]))
"""
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "b")], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    found = _topics([Finding(**f) for f in json.loads(done.stdout)])
    assert found["sam2rt"].status == "ok"
    assert found["GPU"].status == "missing"
    assert found["GPU"].remedy == "pip install 'sam2rt[tensorrt]'"
    assert found["TensorRT"].remedy == "pip install 'sam2rt[tensorrt]'"
    assert found["ONNX Runtime"].remedy.startswith("pip install 'sam2rt[cpu]'")
    assert found["triton"].remedy == "pip install 'sam2rt[kernels]'"
    assert found["pycuda"].remedy == "pip install 'sam2rt[pycuda]'"
    assert found["bundle"].text.startswith("micro, fp32")
    assert found["engines"].remedy == f"sam2rt build {tmp_path / 'b'}"
    assert "problem" not in {f.status for f in found.values()}


@pytest.fixture
def bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bundle:
    write_bundle(tmp_path / "b")
    made = Bundle.load(tmp_path / "b")
    gpu = FakeCuda()
    monkeypatch.setattr(cuda, "cudart", lambda: gpu)
    monkeypatch.setattr(doctor, "tensorrt_module", lambda: FakeTensorRT(made, gpu))
    return made


def test_engines_that_fit_are_told_from_those_that_do_not(bundle: Bundle) -> None:
    folder = write_engines(bundle)
    found = _topics(doctor.doctor(bundle.path))
    assert found["GPU"].text == ("Fake GPU, compute capability 9.0, 132 multiprocessors, 16384 MiB")
    assert found["TensorRT"].text == "10.16.1.11"
    name = f"engines {MACHINE.folder}"
    assert (found[name].status, found[name].text) == ("ok", "all 5 fit this machine")
    (folder / "mask_decoder.engine").write_bytes(b"engine:mask_decodes")
    found = _topics(doctor.doctor(bundle.path))
    assert found[name].status == "problem"
    assert "1 of 5 do not fit: " in found[name].text
    assert "has sha256" in found[name].text
    assert found[name].remedy == f"sam2rt build {bundle.path}"
    folder.rename(folder.with_name("sm80-trt10.13.3.9"))
    write_engines(bundle, arch=80, tensorrt="10.13.3.9")
    found = _topics(doctor.doctor(bundle.path))
    assert "expected compute capability 8.0, found 9.0" in found[name].text
    assert "expected TensorRT 10.13.3.9, found 10.16.1.11" in found[name].text


def test_engines_of_other_machines_beside_fitting_ones_are_no_problem(bundle: Bundle) -> None:
    folder = write_engines(bundle, arch=80)
    folder.rename(folder.with_name("sm80-trt10.16.1.11"))
    write_engines(bundle)
    found = _topics(doctor.doctor(bundle.path))
    assert found[f"engines {MACHINE.folder}"].status == "ok"
    other = found["engines sm80-trt10.16.1.11"]
    assert (other.status, other.remedy) == ("missing", "")
    assert other.text.startswith("for another machine: 5 of 5 do not fit: ")
    # its own folder is to be whole whatever others there are
    (folder / "mask_decoder.engine").unlink()
    assert _topics(doctor.doctor(bundle.path))[f"engines {MACHINE.folder}"].status == "problem"


def test_engines_where_nothing_can_run_them_are_not_broken(
    bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_engines(bundle)

    def absent() -> None:
        raise SessionError("CUDA failed while looking for a GPU: code 35: install the driver")

    monkeypatch.setattr(doctor, "device", absent)
    found = _topics(doctor.doctor(bundle.path))
    assert (found["GPU"].text, found["GPU"].remedy) == (
        "CUDA failed while looking for a GPU: code 35",
        "install the driver",
    )
    engines = found[f"engines {MACHINE.folder}"]
    assert (engines.status, engines.remedy) == ("missing", "install the driver")


def test_a_gpu_that_onnxruntime_does_not_use_is_a_problem(bundle: Bundle) -> None:
    found = _topics(doctor.doctor())["ONNX Runtime"]
    assert found.status == "problem"
    assert found.remedy == "pip uninstall onnxruntime, then pip install 'sam2rt[gpu]'"


def test_tensorrt_whose_libraries_do_not_load_is_a_problem(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def broken() -> None:
        raise OSError("libnvinfer.so.10: cannot open")

    monkeypatch.setattr(tensorrt_library.importlib, "import_module", lambda name: broken())
    found = _topics(doctor.doctor())["TensorRT"]
    assert (found.status, "libnvinfer.so.10" in found.text) == ("problem", True)
    assert "--force-reinstall" in found.remedy


def test_an_edited_bundle_is_a_finding(bundle: Bundle) -> None:
    manifest = bundle.path / "manifest.json"
    manifest.write_text(manifest.read_text().replace("fp32", "bf16"))
    found = _topics(doctor.doctor(bundle.path))["bundle"]
    assert found.status == "problem"
    assert "was edited" in found.text
    assert found.remedy.startswith("make it again with 'sam2rt export")


def test_a_probe_that_breaks_is_a_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> list[object]:
        raise ValueError("boom")

    monkeypatch.setattr(doctor, "list_plugins", broken)
    found = _topics(doctor.doctor())["plugins"]
    assert (found.status, found.text) == ("problem", "boom")


def test_the_command_prints_each_finding_and_its_remedy(bundle: Bundle) -> None:
    result = CliRunner().invoke(doctor_command, [str(bundle.path)])
    assert "Fake GPU" in result.output
    assert f"-> sam2rt build {bundle.path}" in result.output
    # onnxruntime without CUDA beside a GPU is broken
    assert result.exit_code == 1


def test_the_command_prints_json(monkeypatch: pytest.MonkeyPatch) -> None:
    finding = Finding("GPU", "missing", "none", "")
    monkeypatch.setattr("sam2rt.cli.commands.machine.doctor", lambda bundle: [finding])
    result = CliRunner().invoke(doctor_command, ["--json"])
    assert result.exit_code == 0
    assert json.loads(result.output) == [
        {"topic": "GPU", "status": "missing", "text": "none", "remedy": ""}
    ]


def test_plugins_are_listed() -> None:
    result = CliRunner().invoke(plugins_command)
    lines = result.output.splitlines()
    assert any(
        line.startswith("sam2rt::MemoryCrossAttention") and "sm_90" in line for line in lines
    )
    entries = json.loads(CliRunner().invoke(plugins_command, ["--json"]).output)
    assert {e["kind"] for e in entries} == {"operator", "kernel"}


def test_launches_are_listed_with_what_their_code_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    triton_on_path()
    # the others take a minute to compile
    first = next(registry.list_launches(90))
    assert (first.name, first.constants) == (
        "sam2rt::MemoryCrossAttention", {"BLOCK_Q": 128, "BLOCK_K": 64},
    )  # fmt: skip
    serial = replace(first, waits=48, warnings=("(C7512) instructions are serialized",))
    monkeypatch.setattr(machine, "list_launches", lambda arch: iter([first, serial]))
    assert CliRunner().invoke(plugins_command, ["--arch", "90"]).output.splitlines() == [
        "sam2rt::MemoryCrossAttention  BLOCK_Q 128 BLOCK_K 64, 8 warps, 3 stages: 180 registers, "
        "221184 bytes shared, 0 bytes spilled, 8 waits",
        "sam2rt::MemoryCrossAttention  BLOCK_Q 128 BLOCK_K 64, 8 warps, 3 stages: 180 registers, "
        "221184 bytes shared, 0 bytes spilled, 48 waits",
        "    !!  (C7512) instructions are serialized",
    ]
    told = json.loads(CliRunner().invoke(plugins_command, ["--arch", "90", "--json"]).output)
    assert [(t["stages"], t["registers"], t["waits"]) for t in told] == [(3, 180, 8), (3, 180, 48)]
    assert CliRunner().invoke(plugins_command, ["--arch", "91"]).exit_code == 2


def test_missing_extra_is_split_into_text_and_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise MissingExtraError("TensorRT", "tensorrt", "tensorrt")

    monkeypatch.setattr(doctor, "tensorrt_module", absent)
    found = _topics(doctor.doctor())["TensorRT"]
    assert (found.text, found.remedy) == (
        "TensorRT needs the package 'tensorrt'",
        "pip install 'sam2rt[tensorrt]'",
    )


def test_two_onnxruntimes_in_one_module_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    both = {"onnxruntime": ["onnxruntime-gpu", "onnxruntime", "onnxruntime"]}
    monkeypatch.setattr(doctor.importlib.metadata, "packages_distributions", lambda: both)
    found = _topics(doctor.doctor())["ONNX Runtime"]
    assert (found.status, found.text, found.remedy) == (
        "problem",
        "onnxruntime and onnxruntime-gpu are installed into one module, which mixes their files",
        "pip uninstall onnxruntime onnxruntime-gpu, then pip install 'sam2rt[cpu]' or "
        "'sam2rt[gpu]', not both",
    )


def test_torch_need_not_come_with_cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    real = doctor.importlib.util.find_spec
    monkeypatch.setattr(
        doctor.importlib.util, "find_spec", lambda name: None if name == "torch" else real(name)
    )
    monkeypatch.setattr(doctor.platform, "system", lambda: "Linux")
    found = _topics(doctor.doctor())["torch"]
    assert (found.status, found.text, found.remedy) == (
        "missing",
        "not installed (exporting checkpoints; its CPU build will do)",
        "pip install 'sam2rt[export]', after PyTorch's CPU build to spare gigabytes of CUDA",
    )
