"""What a model of Triton sees of its server, without one."""

from __future__ import annotations

import json
import threading
from pathlib import Path
from typing import Any

import numpy as np

from sam2rt.serving.triton.config_file import config_text
from sam2rt.serving.triton.settings import ModelSettings

TRITONSERVER_RESPONSE_COMPLETE_FINAL = 1
START, END = 1, 2


class Tensor:
    def __init__(self, name: str, values: np.ndarray) -> None:
        self.name, self._values = name, values

    def as_numpy(self) -> np.ndarray:
        return self._values

    def to_dlpack(self) -> np.ndarray:
        return self._values

    @classmethod
    def from_dlpack(cls, name: str, values: np.ndarray) -> Tensor:
        return cls(name, values)


class TritonModelException(Exception):
    pass


class TritonError:
    INVALID_ARG, UNAVAILABLE, INTERNAL = "invalid", "unavailable", "internal"

    def __init__(self, message: str, code: str) -> None:
        self.message, self.code = message, code


class InferenceResponse:
    def __init__(self, output_tensors: list[Tensor], error: TritonError | None = None) -> None:
        self.error = error
        self.outputs = {tensor.name: tensor.as_numpy() for tensor in output_tensors}


class Metric:
    def __init__(self) -> None:
        self.value = 0.0

    def set(self, value: float) -> None:
        self.value = value


class MetricFamily:
    GAUGE = "gauge"
    #: by name, the last one made
    made: dict[str, Metric] = {}  # noqa: RUF012

    def __init__(self, name: str, description: str, kind: str) -> None:
        self._name = name

    def Metric(self, labels: dict[str, str]) -> Metric:
        self.made[self._name] = Metric()
        return self.made[self._name]


class Sender:
    """Keeps what was sent; `leave_after` responses the client is gone."""

    def __init__(self, leave_after: int | None = None) -> None:
        self.sent: list[InferenceResponse] = []
        self.final = threading.Event()
        self._leave_after = leave_after

    def send(self, response: InferenceResponse | None = None, flags: int = 0) -> None:
        assert not self.final.is_set()
        if response is not None:
            self.sent.append(response)
        if flags:
            self.final.set()

    def is_cancelled(self) -> bool:
        return self._leave_after is not None and len(self.sent) >= self._leave_after


class Request:
    """A request; text becomes a tensor of one string, as the server gives it."""

    def __init__(
        self, sequence: int | str = 0, flags: int = 0, sender: Sender | None = None, **inputs: Any
    ) -> None:
        self._sequence, self._flags, self._sender = sequence, flags, sender
        self.inputs = {
            name: Tensor(name, value if isinstance(value, np.ndarray) else _string(value))
            for name, value in inputs.items()
            if value is not None
        }

    def correlation_id(self) -> int | str:
        return self._sequence

    def flags(self) -> int:
        return self._flags

    def get_response_sender(self) -> Sender:
        assert self._sender is not None
        return self._sender


def _string(value: Any) -> np.ndarray:
    content = value if isinstance(value, bytes) else json.dumps(value).encode()
    return np.array([content], np.object_)


def get_input_tensor_by_name(request: Request, name: str) -> Tensor | None:
    return request.inputs.get(name)


def arguments(task: str, bundle: Path, **changed: Any) -> dict[str, str]:
    """What the server tells an instance, of the configuration that the repository holds."""
    settings = ModelSettings(bundle, threads=1, **changed)
    assert config_text(task, settings, "KIND_CPU", ())
    config: dict[str, Any] = {
        "parameters": {k: {"string_value": v} for k, v in settings.parameters().items()}
    }
    if task == "stream":
        config["sequence_batching"] = {
            # protobuf's JSON gives 64 bits as text
            "max_sequence_idle_microseconds": str(settings.limits.idle_seconds * 10**6),
            "oldest": {"max_candidate_sequences": settings.limits.sessions},
        }
    return {
        "model_config": json.dumps(config),
        "model_name": f"sam2rt_{task}",
        "model_instance_name": f"sam2rt_{task}_0_0",
        "model_instance_kind": "CPU",
        "model_instance_device_id": "0",
    }
