"""``sam2rt doctor``: what this machine can run, and the one line that fixes what it cannot.

No probe raises: on a machine with nothing installed the list says what to install. Nothing is
loaded that could crash without a GPU.
"""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import platform
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ...configs.bundle import Bundle
from ...configs.errors import MissingExtraError, Sam2rtError
from ...configs.graphs import engine_specs
from ...plugins.cpu import library
from ...plugins.kernel import ARCHITECTURES
from ...plugins.registry import list_plugins, triton_present
from ..backends.engine_record import ENGINES, EngineTarget, incompatibilities
from ..backends.openvino_session import UNITS, capabilities, openvino_module
from ..backends.tensorrt_library import tensorrt_module
from ..backends.usable import usable_backends
from ..gpu.cuda import Device, device

Status = Literal["ok", "missing", "problem"]


@dataclass(frozen=True)
class Finding:
    """One line: the topic, its state, and what fixes it (empty when nothing must be fixed)."""

    topic: str
    status: Status
    text: str
    remedy: str = ""


def doctor(bundle: Path | None = None) -> list[Finding]:
    """Look at the machine, and at the engines of `bundle` when given. Never raises."""
    findings: list[Finding] = []
    probes: list[Callable[[], Iterator[Finding]]] = [
        _python,
        _driver,
        _gpu,
        _tensorrt,
        _onnxruntime,
        _bfloat16,
        _openvino,
        _packages,
        _plugins,
    ]
    if bundle is not None:
        probes.append(lambda: _bundle(bundle))
    for probe in probes:
        try:
            findings.extend(probe())
        except Exception as error:  # a probe that breaks is a finding, not a crash
            name = getattr(probe, "__name__", "bundle").lstrip("_").replace("<lambda>", "bundle")
            findings.append(Finding(name, "problem", _line(error), "see the message"))
    return findings


def _python() -> Iterator[Finding]:
    system = f"{platform.system()} {platform.machine()}"
    text = f"{_version('sam2rt')}, Python {platform.python_version()}, {system}"
    yield Finding("sam2rt", "ok", text)


def _driver() -> Iterator[Finding]:
    remedy = "install NVIDIA's driver; without one the CPU backend works"
    name = "nvcuda.dll" if platform.system() == "Windows" else "libcuda.so.1"
    try:
        library = ctypes.CDLL(name)
    except OSError:
        yield Finding("driver", "missing", f"no NVIDIA driver ({name})", remedy)
        return
    version = ctypes.c_int()
    if library.cuDriverGetVersion(ctypes.byref(version)) != 0:
        yield Finding("driver", "problem", "the NVIDIA driver does not answer", remedy)
        return
    text = f"supports CUDA {version.value // 1000}.{version.value % 1000 // 10}"
    yield Finding("driver", "ok", text)


def _gpu() -> Iterator[Finding]:
    found, why = _device()
    if found is None:
        what, _, remedy = why.rpartition(": ")
        yield Finding("GPU", "missing", what, remedy)
        return
    text = (
        f"{found.name}, compute capability {found.arch // 10}.{found.arch % 10}, "
        f"{found.multiprocessors} multiprocessors, {found.memory >> 20} MiB"
    )
    yield Finding("GPU", "ok", text)


def _device() -> tuple[Device | None, str]:
    try:
        return device(), ""
    except Sam2rtError as error:
        return None, str(error)


def _tensorrt() -> Iterator[Finding]:
    try:
        trt = tensorrt_module()
    except MissingExtraError as error:
        what, _, remedy = str(error).partition(": ")
        yield Finding("TensorRT", "missing", what, remedy)
    except Sam2rtError as error:
        what, _, remedy = str(error).rpartition(": ")
        yield Finding("TensorRT", "problem", what, remedy)
    else:
        yield Finding("TensorRT", "ok", f"{trt.__version__}")


def _onnxruntime() -> Iterator[Finding]:
    if importlib.util.find_spec("onnxruntime") is None:
        remedy = "pip install 'sam2rt[cpu]' (or 'sam2rt[gpu]' with an NVIDIA GPU)"
        yield Finding("ONNX Runtime", "missing", "not installed", remedy)
        return
    if len(twice := _distributions_of("onnxruntime")) > 1:
        text = f"{' and '.join(twice)} are installed into one module, which mixes their files"
        which = "'sam2rt[cpu]' or 'sam2rt[gpu]'"
        remedy = f"pip uninstall {' '.join(twice)}, then pip install {which}, not both"
        yield Finding("ONNX Runtime", "problem", text, remedy)
        return
    ort = importlib.import_module("onnxruntime")
    short = [name.removesuffix("ExecutionProvider") for name in ort.get_available_providers()]
    text = f"{ort.__version__}, providers {', '.join(short)}"
    gpu, _ = _device()
    if gpu is not None and "CUDA" not in short:
        remedy = "pip uninstall onnxruntime, then pip install 'sam2rt[gpu]'"
        yield Finding("ONNX Runtime", "problem", f"{text}: the GPU is not used", remedy)
    else:
        yield Finding("ONNX Runtime", "ok", text)


def _bfloat16() -> Iterator[Finding]:
    """Whether ONNX Runtime runs bf16 bundles here: the processor's units, and our operators."""
    topic = "bf16 on the CPU"
    why, _, remedy = library.lacking().rpartition(": ")
    units = " and ".join(library.UNITS[unit] for unit in library.units_here())
    if why:
        text = f"{units}, but {why}" if units else why
        yield Finding(topic, "missing", text, remedy)
        return
    made = library.load()
    text = f"{units}; operators {made.identity[:12]} run on {library.UNITS[made.units]}"
    yield Finding(topic, "ok", text)


def _openvino() -> Iterator[Finding]:
    try:
        library = openvino_module()
    except MissingExtraError as error:
        what, _, remedy = str(error).partition(": ")
        yield Finding("OpenVINO", "missing", what, remedy)
        return
    core = library.Core()
    units = [half for half, unit in UNITS.items() if unit in capabilities(core, "CPU")]
    found = ", ".join(device.lower() for device in core.available_devices)
    halves = f"{' and '.join(units)} on the CPU" if units else "float32 alone on the CPU"
    version = library.__version__.partition("-")[0]
    yield Finding("OpenVINO", "ok", f"{version}, devices {found}; {halves}")


#: module -> (what it is for, distribution, extra)
_OPTIONAL = {
    "cuda.bindings.runtime": ("CUDA from Python", "cuda-bindings", "tensorrt"),
    "triton": ("compiling our GPU kernels", "triton", "kernels"),
    "pycuda.driver": ("sharing PyCUDA's context and arrays", "pycuda", "pycuda"),
    "av": ("video", "av", "media"),
    "cv2": ("drawing and masks", "opencv-python-headless", "media"),
    "PIL": ("images", "pillow", "media"),
    "torch": ("exporting checkpoints; its CPU build will do", "torch", "export"),
    "onnx": ("exporting checkpoints", "onnx", "export"),
}


def _packages() -> Iterator[Finding]:
    for module, (purpose, distribution, extra) in _OPTIONAL.items():
        try:
            present = importlib.util.find_spec(module) is not None
        except ModuleNotFoundError:
            present = False
        if not present:
            text = f"not installed ({purpose})"
            remedy = f"pip install 'sam2rt[{extra}]'"
            if module == "torch" and platform.system() == "Linux":
                remedy += ", after PyTorch's CPU build to spare gigabytes of CUDA"
            yield Finding(distribution, "missing", text, remedy)
            continue
        yield Finding(distribution, "ok", f"{_version(distribution)} ({purpose})")


def _distributions_of(module: str) -> list[str]:
    """Names of the installed distributions that hold a file of that module."""
    return sorted(set(importlib.metadata.packages_distributions().get(module, [])))


def _version(distribution: str) -> str:
    try:
        return importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:
        return "of unknown version"


def _plugins() -> Iterator[Finding]:
    names = [info.name for info in list_plugins()]
    gpu, _ = _device()
    text = f"{len(names)} kernels"
    if gpu is not None and gpu.arch < min(ARCHITECTURES):
        yield Finding(
            "plugins",
            "problem",
            f"{text}, none for compute capability {gpu.arch / 10}",
            "build with --attention folded",
        )
    elif not triton_present():
        remedy = "pip install 'sam2rt[kernels]', or build with --attention folded"
        yield Finding("plugins", "missing", f"{text}, but no triton to compile them", remedy)
    else:
        yield Finding("plugins", "ok", f"{text}, triton compiles them")


def _bundle(path: Path) -> Iterator[Finding]:
    try:
        bundle = Bundle.load(path)
    except Sam2rtError as error:
        what, _, remedy = str(error).rpartition(": ")
        yield Finding("bundle", "problem", what, remedy)
        return
    yield Finding("bundle", "ok", f"{bundle.model.name}, {bundle.precision}, {path}")
    yield from _places(bundle)
    yield from _engines(bundle)


def _places(bundle: Bundle) -> Iterator[Finding]:
    """Per backend whether it runs the bundle; nothing is broken where another one does."""
    for place in usable_backends(bundle):
        topic = f"runs on {place}"
        if place.usable:
            yield Finding(topic, "ok", "yes")
        else:
            yield Finding(topic, "missing", f"no: {place.why}", place.remedy)


def _engines(bundle: Bundle) -> Iterator[Finding]:
    build = f"sam2rt build {bundle.path}"
    folders = sorted(p for p in (bundle.path / ENGINES).glob("*") if p.is_dir())
    if not folders:
        yield Finding("engines", "missing", "none built", build)
        return
    machine, why = _machine()
    if machine is None:
        what, _, remedy = why.rpartition(": ")
        for folder in folders:
            # the engines may be good: this machine lacks what runs them
            yield Finding(f"engines {folder.name}", "missing", f"cannot run here: {what}", remedy)
        return
    graphs = engine_specs(bundle.model)
    found = {
        folder.name: [r for g in graphs for r in incompatibilities(bundle, folder.name, g, machine)]
        for folder in folders
    }
    for name, reasons in found.items():
        if not reasons:
            yield Finding(f"engines {name}", "ok", f"all {len(graphs)} fit this machine")
            continue
        text = f"{len(reasons)} of {len(graphs)} do not fit: {reasons[0]}"
        if name != machine.folder and not all(found.values()):
            yield Finding(f"engines {name}", "missing", f"for another machine: {text}")
        else:
            yield Finding(f"engines {name}", "problem", text, build)


def _machine() -> tuple[EngineTarget | None, str]:
    found, why = _device()
    if found is None:
        return None, why
    try:
        version: Any = tensorrt_module().__version__
    except Sam2rtError as error:
        return None, str(error)
    return EngineTarget(str(version), found.arch, found.name, found.driver), ""


def _line(error: BaseException) -> str:
    return " ".join(str(error).split()) or type(error).__name__
