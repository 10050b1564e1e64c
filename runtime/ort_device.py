"""ONNX Runtime on a GPU through I/O binding: inputs and outputs in memory of our own.

What one graph gives and the next takes stays on the device, as with native TensorRT. ONNX
Runtime runs on streams of its own and has finished when its call returns.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..configs.graphs import GraphSpec
from ..configs.models import ModelConfig
from . import cuda
from .gpu_tensor import DeviceSlotBuffer, DeviceTensor, Pool, on_device

#: graphs whose outputs the next graph takes: they stay on the device
KEPT = ("image_encoder", "memory_attention", "memory_encoder")


def bindings_present() -> bool:
    """Whether ``cuda.bindings`` is installed; without it inputs and outputs go over the host."""
    try:
        return importlib.util.find_spec("cuda.bindings.runtime") is not None
    except ModuleNotFoundError:
        return False


def output_shapes(
    spec: GraphSpec, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, tuple[int, ...]]:
    """Shapes of a graph's outputs for inputs of those shapes."""
    symbols = {
        dim: size
        for t in spec.inputs
        for dim, size in zip(t.shape, shapes[t.name], strict=True)
        if isinstance(dim, str)
    }
    return {
        t.name: tuple(symbols[d] if isinstance(d, str) else d for d in t.shape)
        for t in spec.outputs
    }


class BoundRunner:
    """Runs opened graphs for one thread; `location` is where ONNX Runtime is told memory lies."""

    def __init__(self, location: str = "cuda") -> None:
        self._location = location
        self.stream = cuda.Stream()
        self.pool = Pool()

    def run(
        self, opened: Any, spec: GraphSpec, inputs: Mapping[str, Any], *, keep: bool
    ) -> dict[str, Any]:
        """Outputs as device tensors when `keep`, else as host arrays."""
        binding = opened.io_binding()
        held = {name: self._tensor(array) for name, array in inputs.items()}
        outputs = {
            t.name: DeviceTensor.pooled(self.pool, shape, t.dtype, self.stream)
            for t, shape in zip(
                spec.outputs,
                output_shapes(spec, {n: a.shape for n, a in held.items()}).values(),
                strict=True,
            )
        }
        self.stream.synchronize()
        for name, tensor in held.items():
            binding.bind_input(name, *self._place(tensor))
        for name, tensor in outputs.items():
            binding.bind_output(name, *self._place(tensor))
        opened.run_with_iobinding(binding)
        if keep:
            return dict(outputs)
        return {name: np.array(tensor) for name, tensor in outputs.items()}

    def slot_buffer(self, config: ModelConfig) -> DeviceSlotBuffer:
        return DeviceSlotBuffer(config, self.pool, self.stream)

    def close(self) -> None:
        self.pool.close()
        self.stream.close()

    def _place(self, tensor: DeviceTensor) -> tuple[Any, ...]:
        return (self._location, 0, tensor.dtype.type, tensor.shape, tensor.pointer)

    def _tensor(self, array: Any) -> DeviceTensor:
        given = on_device(array, self.stream)
        if isinstance(given, DeviceTensor):
            return given
        host = np.ascontiguousarray(given)
        made = DeviceTensor.pooled(self.pool, host.shape, host.dtype, self.stream)
        cuda.copy(made.pointer, host.ctypes.data, host.nbytes, self.stream)
        return made
