"""What a model is told by its configuration: the same names when it is written and when read."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from ...configs.checks import whole_number
from ...configs.errors import InputError
from ..sessions.limits import ServerLimits

#: limits that a configuration's parameters hold
_LIMITS = ("objects", "frames", "pixels", "upload_bytes")
#: clips that one instance tracks at once, and that may wait beside them
CLIPS, WAITING = 4, 12


@dataclass(frozen=True)
class ModelSettings:
    """How one model runs. device: as sessions take it; limits: sessions and idle_seconds too."""

    bundle: Path
    backend: str = "onnxruntime"
    device: str = "cpu"
    threads: int | None = None
    limits: ServerLimits = field(default_factory=ServerLimits)

    def parameters(self) -> dict[str, str]:
        """The settings as parameters of a model's configuration."""
        given = {
            "bundle": str(self.bundle),
            "backend": self.backend,
            "device": self.device,
            "threads": "" if self.threads is None else str(self.threads),
        }
        return given | {f"max_{name}": str(getattr(self.limits, name)) for name in _LIMITS}


def settings_of(arguments: Mapping[str, str]) -> ModelSettings:
    """The settings of what the server tells an instance when it starts; InputError.

    Where the instance is one of a GPU, only that GPU is visible to this process from here on: each
    instance is a process of its own.
    """
    config = json.loads(arguments["model_config"])
    given = {name: value["string_value"] for name, value in config["parameters"].items()}
    limits = {name: _number(given, f"max_{name}") for name in _LIMITS if f"max_{name}" in given}
    if "sequence_batching" in config:
        batching = config["sequence_batching"]
        limits["idle_seconds"] = max(int(batching["max_sequence_idle_microseconds"]) // 10**6, 1)
        if "oldest" in batching:
            limits["sessions"] = int(batching["oldest"]["max_candidate_sequences"])
    backend, device = given.get("backend", "onnxruntime"), given.get("device", "cpu")
    if arguments.get("model_instance_kind") == "GPU":
        device = _on_gpu(backend, device, int(arguments["model_instance_device_id"]))
    return ModelSettings(
        bundle=Path(given["bundle"]),
        backend=backend,
        device=device,
        threads=_number(given, "threads") if given.get("threads") else None,
        limits=dataclasses.replace(ServerLimits(), **limits),
    )


def _number(given: Mapping[str, str], name: str) -> int:
    text = given[name].strip()
    if not text.isdecimal():
        raise InputError(f"parameter {name} is {text!r:.40}: expected a whole number from 1 on")
    return whole_number(name, int(text), 1)


def _on_gpu(backend: str, device: str, number: int) -> str:
    """The device of a session on that GPU, of those that this process sees."""
    if backend == "tensorrt":
        return f"cuda:{number}"
    # ONNX Runtime's sessions take the first GPU they see
    visible = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    os.environ["CUDA_VISIBLE_DEVICES"] = visible[number] if visible else str(number)
    return device
