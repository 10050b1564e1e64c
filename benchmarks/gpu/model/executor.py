"""Run an ONNX graph of a bundle with torch, on a GPU or the CPU.

What a machine with torch but neither TensorRT nor ONNX Runtime for CUDA needs to run the very
graphs that engines are built from. Model-local functions are run by their bodies unless a kernel
is given for them. With shapes fixed nothing synchronises after the first run, so that a CUDA graph
can capture the whole (:class:`.graph_replay.Replay`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper
from torch import Tensor

from .operators import DTYPES, HOST_INPUTS, OPERATORS, broadcast

#: softmax(query key^T) value, put in the place of the three nodes
_ATTENTION = "FusedAttention"
#: (tensors of a custom operator) -> its outputs
Custom = Callable[..., Sequence[Tensor]]


@dataclass(frozen=True)
class _Step:
    """One node, ready to run; `body` for a model-local function, `dead` are read here last."""

    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: Mapping[str, Any]
    body: _Body | None
    dead: tuple[str, ...]


@dataclass(frozen=True)
class _Body:
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    steps: tuple[_Step, ...]


class GraphExecutor:
    """One ONNX model on a torch device.

    custom: what runs a node of ours by operator name, in the place of its plain body. fused:
    attentions run as one call of torch's ``scaled_dot_product_attention``, values padded to the
    width of keys; otherwise as the three nodes they are. Raises NotImplementedError naming
    operators that no exporter of ours writes.
    """

    def __init__(
        self,
        model: ModelProto,
        device: str = "cpu",
        *,
        custom: Mapping[str, Custom] | None = None,
        fused: bool = False,
    ) -> None:
        self._device = torch.device(device)
        self._custom = dict(custom or {})
        #: integers of the graph stay on the host, where shapes are computed
        self._host: dict[str, Tensor] = {}
        self._constants: dict[str, Tensor] = {}
        self._uploaded: dict[Any, Tensor] = {}
        self._functions = {(f.domain, f.name): f for f in model.functions}
        for tensor in model.graph.initializer:
            self._keep(tensor.name, tensor_from_proto(tensor))
        nodes = list(model.graph.node)
        kept = {value.name for value in model.graph.output}
        self.outputs = tuple(value.name for value in model.graph.output)
        self.inputs = tuple(value.name for value in model.graph.input)
        self._steps = self._prepared(_with_attention(nodes, kept) if fused else nodes, kept)
        self._refuse_unknown(self._steps)

    def __call__(self, inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Outputs by name, on the device; `inputs` lie there too. Shapes may change every time."""
        values: dict[str, Tensor] = {**self._constants, **inputs}
        self._run(self._steps, values, dict(self._host))
        return {name: self._on_device(values.get(name), name) for name in self.outputs}

    def _keep(self, name: str, tensor: Tensor) -> None:
        if tensor.is_floating_point():
            self._constants[name] = tensor.to(self._device)
        # sizes, and what scales a Resize
        if not tensor.is_floating_point() or tensor.numel() <= 8:
            self._host[name] = tensor

    def _prepared(self, nodes: Iterable[NodeProto], kept: Iterable[str]) -> tuple[_Step, ...]:
        steps: list[_Step] = []
        last: dict[str, int] = {}
        listed = list(nodes)
        for index, node in enumerate(listed):
            last.update(dict.fromkeys(node.input, index))
        alive = {*kept, *self._constants, *self._host, ""}
        for index, node in enumerate(listed):
            dead = tuple(n for n in node.input if last[n] == index and n not in alive)
            steps.append(self._step(node, dead))
        return tuple(steps)

    def _step(self, node: NodeProto, dead: tuple[str, ...]) -> _Step:
        function = self._functions.get((node.domain, node.op_type))
        body = None
        if function is not None and node.op_type not in self._custom:
            steps = self._prepared(function.node, function.output)
            body = _Body(tuple(function.input), tuple(function.output), steps)
        given = {a.name: _attribute(a) for a in node.attribute}
        return _Step(node.op_type, tuple(node.input), tuple(node.output), given, body, dead)

    def _refuse_unknown(self, steps: Iterable[_Step]) -> None:
        known = {*OPERATORS, *self._custom, _ATTENTION}
        plain = {s.kind for s in steps if s.body is None}
        if unknown := sorted(plain - known):
            raise NotImplementedError(f"operators {', '.join(unknown)}: no exporter of ours")
        for step in steps:
            if step.body is not None:
                self._refuse_unknown(step.body.steps)

    def _run(
        self, steps: Iterable[_Step], values: dict[str, Tensor], host: dict[str, Tensor]
    ) -> None:
        for step in steps:
            made = self._called(step, values, host)
            for name, tensor in zip(step.outputs, made, strict=False):
                # integers made of integers on the host alone are sizes
                if self._is_host(step, tensor, host):
                    host[name] = tensor
                else:
                    elsewhere = tensor.device.type != self._device.type
                    values[name] = self._upload(tensor) if elsewhere else tensor
            for name in step.dead:
                values.pop(name, None)

    def _is_host(self, step: _Step, made: Tensor, host: Mapping[str, Tensor]) -> bool:
        if step.kind in ("Shape", "Constant"):
            return True
        named = [n for n in step.inputs if n]
        return bool(named) and not made.is_floating_point() and all(n in host for n in named)

    def _called(
        self, step: _Step, values: dict[str, Tensor], host: dict[str, Tensor]
    ) -> Sequence[Tensor]:
        if step.body is not None:
            return self._function(step.body, [self._value(n, values, host) for n in step.inputs])
        numbers = HOST_INPUTS.get(step.kind, ())
        sizes = all(n in host and n not in values for n in step.inputs if n)
        given: list[Any] = [None] * len(step.inputs)
        for i, name in enumerate(step.inputs):
            if name:
                on_host = i in numbers or sizes
                given[i] = host[name] if on_host else self._value(name, values, host)
        if step.kind in self._custom:
            return self._custom[step.kind](*given)
        if step.kind == _ATTENTION:
            return (fused_attention(*given),)
        made = OPERATORS[step.kind](step.attributes, *given)
        return made if isinstance(made, tuple) else (made,)

    def _function(self, body: _Body, given: Sequence[Tensor]) -> Sequence[Tensor]:
        values = dict(zip(body.inputs, given, strict=False))
        host: dict[str, Tensor] = {}
        self._run(body.steps, values, host)
        return [self._value(name, values, host) for name in body.outputs]

    def _value(self, name: str, values: Mapping[str, Tensor], host: Mapping[str, Tensor]) -> Tensor:
        found = values.get(name)
        return self._upload(host[name]) if found is None else found

    def _on_device(self, value: Tensor | None, name: str) -> Tensor:
        return self._upload(self._host[name]) if value is None else value

    def _upload(self, tensor: Tensor) -> Tensor:
        """The tensor on the device; each content goes there once, before any capture."""
        if self._device.type == "cpu":
            return tensor
        key = (tensor.dtype, tuple(tensor.shape), tensor.numpy().tobytes())
        if key not in self._uploaded:
            self._uploaded[key] = tensor.to(self._device)
        return self._uploaded[key]


def load_graph(path: Any, device: str = "cpu", **options: Any) -> GraphExecutor:
    """The executor of an ONNX file of a bundle, its weights from the common file."""
    return GraphExecutor(onnx.load(path), device, **options)


def tensor_from_proto(tensor: TensorProto) -> Tensor:
    """A torch tensor on the host with the same values."""
    dtype = DTYPES[tensor.data_type]
    if tensor.HasField("raw_data"):
        raw = bytearray(tensor.raw_data)
        flat = torch.frombuffer(raw, dtype=dtype) if raw else torch.empty(0, dtype=dtype)
        return flat.reshape(tuple(tensor.dims))
    array = numpy_helper.to_array(tensor)
    return torch.from_numpy(np.array(array, order="C"))


def fused_attention(query: Tensor, key_columns: Tensor, value: Tensor) -> Tensor:
    """softmax(query key_columns) value in one call; queries are scaled already."""
    key = key_columns.transpose(-1, -2)
    flat = query.ndim == 3
    if flat:
        # fused kernels take [B, heads, S, width]
        query, key, value = (t.unsqueeze(1) for t in (query, key, value))
    width = value.shape[-1]
    if width < key.shape[-1] and query.dtype != torch.float32:
        value = F.pad(value, (0, key.shape[-1] - width))
    batch = broadcast(query.shape[:-2], key.shape[:-2])
    query = query.expand(*batch, *query.shape[-2:])
    made = F.scaled_dot_product_attention(query, key, value, scale=1.0)[..., :width]
    return made.squeeze(1) if flat else made


def _with_attention(nodes: list[NodeProto], kept: set[str]) -> list[NodeProto]:
    """The nodes with each MatMul, Softmax, MatMul in a row as one, where nobody else reads."""
    makers = {out: node for node in nodes for out in node.output}
    readers: dict[str, int] = {}
    for name in (name for node in nodes for name in node.input):
        readers[name] = readers.get(name, 0) + 1

    def alone(name: str, kind: str) -> NodeProto | None:
        node = makers.get(name)
        only = readers.get(name) == 1 and name not in kept
        return node if only and node is not None and node.op_type == kind else None

    made: dict[str, NodeProto] = {}
    gone: set[str] = set()
    for node in nodes:
        weights = alone(node.input[0], "Softmax") if node.op_type == "MatMul" else None
        scores = alone(weights.input[0], "MatMul") if weights is not None else None
        if weights is not None and scores is not None:
            gone |= {weights.output[0], scores.output[0]}
            inputs = [*scores.input, node.input[1]]
            made[node.output[0]] = helper.make_node(_ATTENTION, inputs, [node.output[0]])
    return [made.get(n.output[0], n) for n in nodes if n.output[0] not in gone]


def _attribute(attribute: AttributeProto) -> Any:
    value = helper.get_attribute_value(attribute)
    if isinstance(value, TensorProto):
        return tensor_from_proto(value)
    return value.decode() if isinstance(value, bytes) else value
