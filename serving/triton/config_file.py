"""The configuration of a model, ``config.pbtxt``: protobuf's text format."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ...configs.errors import InputError
from .settings import ModelSettings
from .stream_model import READY
from .tensors import FRAME_INPUTS, IMAGE_INPUTS, IMAGE_OUTPUTS, STREAM_OUTPUTS, VIDEO_INPUTS

Inputs = Mapping[str, tuple[str, tuple[int, ...], bool]]
Outputs = Mapping[str, tuple[str, tuple[int, ...]]]
_TENSORS: dict[str, tuple[Inputs, Outputs]] = {
    "image": (IMAGE_INPUTS, IMAGE_OUTPUTS),
    "stream": (FRAME_INPUTS, STREAM_OUTPUTS),
    "video": (VIDEO_INPUTS, STREAM_OUTPUTS),
}


def config_text(task: str, settings: ModelSettings, kind: str, gpus: Sequence[int]) -> str:
    """The configuration of a task's model. kind: of its instances, one each on `gpus` or on all.

    Raises InputError for a setting that the format cannot hold.
    """
    inputs, outputs = _TENSORS[task]
    lines = [f'name: "sam2rt_{task}"', 'backend: "python"', "max_batch_size: 0"]
    if task == "video":
        lines.append("model_transaction_policy { decoupled: true }")
    for name, (kind_of, dims, optional) in inputs.items():
        mark = " optional: true" if optional else ""
        lines.append(f"input {{ {_tensor(name, kind_of, dims)}{mark} }}")
    for name, (kind_of, dims) in outputs.items():
        lines.append(f"output {{ {_tensor(name, kind_of, dims)} }}")
    chosen = f" gpus: {list(gpus)}" if gpus else ""
    lines.append(f"instance_group {{ count: 1 kind: {kind}{chosen} }}")
    if task == "stream":
        lines += _sequences(settings)
    for key, value in settings.parameters().items():
        lines.append(f'parameters {{ key: "{key}" value {{ string_value: {_quoted(value)} }} }}')
    return "\n".join(lines) + "\n"


def _sequences(settings: ModelSettings) -> Iterator[str]:
    """Strategy oldest: direct would run unused slots, and take no more sessions than slots."""
    limits = settings.limits
    yield "sequence_batching {"
    yield f"  max_sequence_idle_microseconds: {limits.idle_seconds * 10**6}"
    yield f"  oldest {{ max_candidate_sequences: {limits.sessions} }}"
    yield f'  control_input {{ name: "{READY}" control {{'
    yield "    kind: CONTROL_SEQUENCE_READY int32_false_true: [ 0, 1 ]"
    yield "  } }"
    yield "}"


def _tensor(name: str, kind: str, dims: tuple[int, ...]) -> str:
    return f'name: "{name}" data_type: {kind} dims: {list(dims)}'


def _quoted(text: str) -> str:
    if not text.isprintable():
        raise InputError(f"{text!r:.80} cannot stand in a configuration: name a plain path")
    escaped = text.replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'
