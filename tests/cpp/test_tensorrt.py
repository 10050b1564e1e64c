"""The native TensorRT session of C++, on doubles of TensorRT and of the CUDA driver.

What it refuses is compared with what the Python runtime says of the same files.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from cpp_build import SOURCE, program, require_toolchain, run
from cpp_engines import write_engines
from fake_bundle import write_bundle
from fake_tensorrt import MACHINE

from sam2rt.configs.bundle import Bundle, file_sha256
from sam2rt.configs.errors import BundleError, Sam2rtError, SessionError
from sam2rt.plugins.registry import digests
from sam2rt.runtime.backends.engine_record import (
    ENGINES,
    EngineRecord,
    EngineTarget,
    check_engine,
    engine_folder,
    write_record,
)

pytestmark = pytest.mark.slow

#: the first graph to be opened, so that Python's one check is the same
GRAPH = "image_encoder"
PLUGIN = "sam2rt::MemoryCrossAttention"


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    require_toolchain()
    write_bundle(tmp_path / "bundle")
    made = Bundle.load(tmp_path / "bundle")
    write_engines(made)
    return made


def tensorrt(kind: str, *arguments: str, **environment: str) -> str:
    """What the test program prints with the doubles in the place of the libraries."""
    path = program(kind, "tensorrt")
    double = str(path.parent / "double")
    return run([str(path), *arguments], LD_LIBRARY_PATH=double, **environment)


@pytest.mark.parametrize("kind", ["release", "asan", "tsan"])
def test_native_sessions(kind: str, bundle: Bundle) -> None:
    out = tensorrt(kind, "run", str(bundle.path))
    assert out.count("ok ") == 11, out


def calls(kind: str, bundle: Bundle, *which: str) -> str:
    path = program(kind, "tensorrt_calls")
    command = [str(path), str(bundle.path), *which]
    return run(command, LD_LIBRARY_PATH=str(path.parent / "double"))


@pytest.mark.parametrize("kind", ["release", "asan"])
def test_a_frame_in_the_steady_state_costs_the_host_few_calls(kind: str, bundle: Bundle) -> None:
    """Counts of calls on the double; values are those of host memory."""
    out = calls(kind, bundle)
    assert out.count("ok ") == 8, out


def test_trackers_may_change_their_thread(bundle: Bundle) -> None:
    out = calls("tsan", bundle, "change their thread")
    assert out.count("ok ") == 1, out


def _edited(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def _broken(bundle: Bundle, name: str) -> tuple[Path, Path]:
    folder = bundle.path / ENGINES / MACHINE.folder
    return folder / f"{name}.engine", folder / f"{name}.json"


def _truncate(bundle: Bundle) -> None:
    engine, _ = _broken(bundle, GRAPH)
    engine.write_bytes(engine.read_bytes()[:-2])


def _flip(bundle: Bundle) -> None:
    engine, _ = _broken(bundle, GRAPH)
    data = bytearray(engine.read_bytes())
    data[3] ^= 16
    engine.write_bytes(data)


def _write(**changed: object) -> Callable[[Bundle], object]:
    return lambda bundle: write_engines(bundle, **changed)


def _record(change: Callable[[Path], object]) -> Callable[[Bundle], object]:
    return lambda bundle: change(_broken(bundle, GRAPH)[1])


#: what is done to the engines, and the machine that both runtimes find
_SCENARIOS: dict[str, tuple[Callable[[Bundle], object], EngineTarget]] = {
    "compute capability": (_write(), replace(MACHINE, arch=80)),
    "gpu": (_write(gpu="NVIDIA H100"), MACHINE),
    "tensorrt": (_write(tensorrt="10.15.0.1"), MACHINE),
    "newer tensorrt": (_write(tensorrt="10.17.0.1", version_compatible=True), MACHINE),
    "driver": (_write(), replace(MACHINE, driver=(12, 8))),
    "plugin": (_write(kernels={"sam2rt::Gone": "ab"}), MACHINE),
    "old plugin": (_write(kernels={PLUGIN: "ab"}), MACHINE),
    "other export": (_write(onnx="00"), MACHINE),
    "other variant": (_write(source="gone"), MACHINE),
    "other graph": (_write(graph="mask_decoder"), MACHINE),
    "everything": (
        _write(gpu="NVIDIA H100", tensorrt="10.15.0.1", onnx="00", driver=(14, 1)), MACHINE,
    ),
    "truncated": (_truncate, MACHINE),
    "flipped": (_flip, MACHINE),
    "missing": (lambda bundle: _broken(bundle, GRAPH)[0].unlink(), MACHINE),
    "edited record": (_record(lambda s: _edited(s, "Fake GPU", "Best GPU")), MACHINE),
    "broken record": (_record(lambda s: s.write_text("{")), MACHINE),
    "no digest": (_record(lambda s: s.write_text("{}")), MACHINE),
    "schema": (_record(lambda s: _edited(s, '"schema": 1', '"schema": "2"')), MACHINE),
    "no record": (_record(Path.unlink), MACHINE),
}  # fmt: skip


@pytest.mark.parametrize("name", list(_SCENARIOS))
def test_refused_as_python_refuses_before_any_native_call(name: str, bundle: Bundle) -> None:
    """The double ends the process when TensorRT's runtime is asked for."""
    change, machine = _SCENARIOS[name]
    change(bundle)
    with pytest.raises((BundleError, SessionError)) as expected:
        check_engine(bundle, MACHINE.folder, GRAPH, machine)
    out = tensorrt(
        "release", "open", str(bundle.path), MACHINE.folder,
        SAM2RT_DOUBLE_ABORT="1", SAM2RT_DOUBLE_ARCH=str(machine.arch),
        SAM2RT_DOUBLE_DRIVER=str(machine.driver[0] * 1000 + machine.driver[1] * 10),
    )  # fmt: skip
    assert out == f"{type(expected.value).__name__}: {expected.value}\n"


def test_engines_that_fit_are_opened(bundle: Bundle) -> None:
    """Another GPU of the same kind, an older minor version, the kernel of this version."""
    write_engines(
        bundle, gpu="NVIDIA H100", hardware_compatible=True, tensorrt="10.15.0.1",
        version_compatible=True, kernels={PLUGIN: digests()[PLUGIN]},
    )  # fmt: skip
    assert tensorrt("release", "open", str(bundle.path), MACHINE.folder) == "opened\n"


@pytest.mark.parametrize(
    ("environment", "words"),
    [
        (
            {"SAM2RT_DOUBLE_FAIL": "cuInit:100"},
            "SessionError: CUDA failed while looking for a GPU: CUDA_ERROR_NO_DEVICE (100): "
            "install the NVIDIA driver (nvidia-smi must list a GPU), or use device='cpu'",
        ),
        (
            {"SAM2RT_DOUBLE_MEMORY": "500"},
            "SessionError: the engine of image_encoder needs {} bytes of GPU memory, 500 are "
            "free: free GPU memory, track fewer objects, or build smaller profiles",
        ),
        (
            {"SAM2RT_DOUBLE_ARCH": "80"},
            "BundleError: expected engines for sm80-trt10.16.1.11 in {bundle}, found "
            "sm90-trt10.16.1.11: build them with 'sam2rt build {bundle}'",
        ),
    ],
)
def test_machines_that_cannot_run_engines(
    environment: dict[str, str], words: str, bundle: Bundle
) -> None:
    size = _broken(bundle, GRAPH)[0].stat().st_size + 1000
    out = tensorrt("release", "open", str(bundle.path), SAM2RT_DOUBLE_ABORT="1", **environment)
    assert out == words.format(size, bundle=bundle.path) + "\n"


def test_memory_that_runs_out_later_is_given_back(bundle: Bundle) -> None:
    """Places for tensors do not fit beside the engines."""
    out = tensorrt("asan", "open", str(bundle.path), SAM2RT_DOUBLE_MEMORY="2000000")
    assert re.fullmatch(
        r"SessionError: (inputs and outputs of|running) \w+ needs \d+ bytes of GPU memory, \d+ are "
        r"free: free GPU memory, track fewer objects, or build smaller profiles\n", out
    )  # fmt: skip


def test_what_tensorrt_cannot_read_names_its_message(bundle: Bundle) -> None:
    engine, record = _broken(bundle, GRAPH)
    engine.write_text("something else")
    with pytest.raises(Sam2rtError):
        check_engine(bundle, MACHINE.folder, GRAPH, MACHINE)
    _write_record_for(engine, record)
    out = tensorrt("release", "open", str(bundle.path))
    assert out == _cannot_load(bundle, engine, "magic tag does not match")


def test_tensorrt_s_logger_outlives_the_session_that_gave_it(bundle: Bundle) -> None:
    """TensorRT calls the first logger while anything of it lives; here its session has ended."""
    fine = write_engines(bundle)
    fine.rename(fine.with_name("fine"))
    write_engines(bundle)
    engine, record = _broken(bundle, GRAPH)
    engine.write_text("something else")
    _write_record_for(engine, record)
    out = tensorrt("asan", "open", str(bundle.path), "fine", "fine", MACHINE.folder)
    assert out == "opened\nopened\n" + _cannot_load(bundle, engine, "magic tag does not match")


def _cannot_load(bundle: Bundle, engine: Path, why: str) -> str:
    return (
        f"SessionError: TensorRT 10.16.1.11 cannot load {engine}: {why}: build it again with "
        f"'sam2rt build {bundle.path} --graphs {engine.stem}'\n"
    )


def _write_record_for(engine: Path, record: Path, **changed: object) -> None:
    data = json.loads(record.read_text())
    del data["schema"], data["digest"]
    data |= {"size": engine.stat().st_size, "sha256": file_sha256(engine), **changed}
    write_record(engine, EngineRecord(**data))


def _for_later(bundle: Bundle, *versions: str, **changed: object) -> None:
    """Engines for later TensorRT in a folder of each version, and none for this one."""
    own = bundle.path / ENGINES / MACHINE.folder
    for version in versions:
        write_engines(bundle, tensorrt=version, **{"version_compatible": True, **changed})
        own.rename(own.with_name(f"sm90-trt{version}"))


def _folder(bundle: Bundle, version: str) -> Path:
    return bundle.path / ENGINES / f"sm90-trt{version}"


def test_engines_for_later_tensorrt_are_found_in_an_older_folder(bundle: Bundle) -> None:
    shutil.rmtree(bundle.path / ENGINES)
    _for_later(bundle, "10.14.1.48")
    assert tensorrt("release", "open", str(bundle.path)) == "opened\n"


#: folders beside the two of 10.9.0.3 and 10.14.1.48, and the newest that runs here
_FOLDERS: dict[str, tuple[Callable[[Bundle], object], str]] = {
    "numbers are compared as such": (lambda bundle: None, "10.14.1.48"),
    "not for later": (
        lambda bundle: _for_later(bundle, "10.15.0.1", version_compatible=False), "10.14.1.48",
    ),
    "newer than this TensorRT": (lambda bundle: _for_later(bundle, "10.17.0.1"), "10.14.1.48"),
    "another export": (lambda bundle: _for_later(bundle, "10.15.0.1", onnx="00"), "10.14.1.48"),
    "unreadable": (
        lambda bundle: (_folder(bundle, "10.14.1.48") / "memory_encoder.json").write_text("{"),
        "10.9.0.3",
    ),
    "incomplete": (
        lambda bundle: (_folder(bundle, "10.14.1.48") / "mask_decoder.json").unlink(), "10.9.0.3",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", list(_FOLDERS))
def test_the_newest_folder_that_fits_is_python_s(name: str, bundle: Bundle) -> None:
    """Records alone decide: the message about an engine that is gone says which was chosen."""
    change, chosen = _FOLDERS[name]
    shutil.rmtree(bundle.path / ENGINES)
    _for_later(bundle, "10.9.0.3", "10.14.1.48")
    change(bundle)
    for engine in bundle.path.glob("*/*/*.engine"):
        engine.unlink()
    assert engine_folder(bundle, MACHINE) == _folder(bundle, chosen).name
    with pytest.raises(BundleError) as expected:
        check_engine(bundle, _folder(bundle, chosen).name, GRAPH, MACHINE)
    out = tensorrt("release", "open", str(bundle.path), SAM2RT_DOUBLE_ABORT="1")
    assert out == f"BundleError: {expected.value}\n"


@pytest.mark.parametrize(
    ("changed", "named"),
    [({"version_compatible": False}, None), ({"arch": 80}, None), ({}, "other")],
)
def test_where_no_folder_fits_those_that_are_there_are_named(
    changed: dict[str, object], named: str | None, bundle: Bundle
) -> None:
    shutil.rmtree(bundle.path / ENGINES)
    _for_later(bundle, "10.9.0.3", "10.14.1.48", **changed)
    with pytest.raises(BundleError, match=r"found sm90-trt10\.14\.1\.48, sm") as expected:
        engine_folder(bundle, MACHINE, named)
    out = tensorrt("release", "open", str(bundle.path), *filter(None, [named]))
    assert out == f"BundleError: {expected.value}\n"


def test_only_engines_for_later_tensorrt_may_bring_code_for_the_host(bundle: Bundle) -> None:
    write_engines(bundle, version_compatible=True)
    assert tensorrt("release", "open", str(bundle.path)) == "opened\n"
    engine, record = _broken(bundle, "mask_decoder")
    _write_record_for(engine, record, version_compatible=False)
    out = tensorrt("release", "open", str(bundle.path))
    assert out == _cannot_load(bundle, engine, "host code is not allowed")


def test_a_machine_without_tensorrt_or_driver_says_so(tmp_path: Path, bundle: Bundle) -> None:
    command = [str(program("release", "tensorrt")), "open", str(bundle.path)]
    out = run(command, LD_LIBRARY_PATH=str(tmp_path))
    assert out == (
        "SessionError: TensorRT cannot be loaded (libnvinfer.so.10 is not found): install "
        "TensorRT, or add its folder to the library search path\n"
    )


def test_the_kernels_known_to_cpp_are_this_version_s() -> None:
    """After a change of the kernel: write its new digest into the header."""
    header = (SOURCE / "src" / "kernel_digests.hpp").read_text()
    assert f'"{digests()[PLUGIN]}"' in header
    assert f'"{PLUGIN}"' in header


def test_the_driver_has_the_functions_that_are_asked_for() -> None:
    """By the names that NVIDIA's own bindings look for."""
    import importlib.util

    spec = importlib.util.find_spec("cuda.bindings")
    if spec is None or not spec.submodule_search_locations:
        pytest.skip("cuda-python is missing: pip install 'sam2rt[tensorrt]'")
    folder = Path(next(iter(spec.submodule_search_locations)))
    known = b"".join(p.read_bytes() for p in folder.rglob("*driver*.so"))
    source = (SOURCE / "src" / "cuda_driver.cpp").read_text()
    names = re.findall(r'take\(\w+, "(cu\w+)"\)', source)
    assert len(names) == 30
    for name in names:
        assert name.encode() + b"\0" in known, name
