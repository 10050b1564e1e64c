"""Engines that the C++ tests' double of TensorRT reads, with records of the real format."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from fake_tensorrt import MACHINE, VERSION

from sam2rt.configs.bundle import Bundle, file_sha256
from sam2rt.configs.graphs import GraphSpec, TensorSpec, engine_specs
from sam2rt.export.engines.profiles import Limits, graph_profiles
from sam2rt.runtime.backends.engine_record import ENGINES, EngineRecord, onnx_digest, write_record

_BYTES = {"float32": 4, "int32": 4, "int64": 8, "bool": 1}


def _line(kind: str, tensor: TensorSpec) -> str:
    return " ".join([kind, tensor.name, str(_BYTES[tensor.dtype]), *map(str, tensor.shape)])


def _text(kind: str, number: int, spec: GraphSpec, profiles: int) -> str:
    lines = [
        f"{kind} {number} {profiles}",
        *(_line("in", t) for t in spec.inputs),
        *(_line("out", t) for t in spec.outputs),
    ]
    return "\n".join(lines) + "\n"


def write_engines(bundle: Bundle, **changed: Any) -> Path:
    """An engine of every graph, for two objects and images; `changed` fields in the records."""
    folder = bundle.path / ENGINES / MACHINE.folder
    folder.mkdir(parents=True, exist_ok=True)
    # an engine for later TensorRT brings code of its own
    kind = "portable" if changed.get("version_compatible") else "engine"
    for number, (name, spec) in enumerate(engine_specs(bundle.model).items()):
        profiles = graph_profiles(spec, bundle.model, Limits(objects=2))
        path = folder / f"{name}.engine"
        path.write_text(_text(kind, number, spec, len(profiles)))
        record = EngineRecord(
            graph=name, source=name, size=path.stat().st_size, sha256=file_sha256(path),
            onnx=onnx_digest(bundle, name), tensorrt=VERSION, arch=MACHINE.arch, gpu=MACHINE.gpu,
            driver=MACHINE.driver, precision=bundle.precision, attention="folded",
            hardware_compatible=False, version_compatible=False, device_memory=1000,
            profiles=profiles, proof={"worst": 1.5e-7, "text": "café"},
        )  # fmt: skip
        write_record(path, replace(record, **changed))
    return folder
