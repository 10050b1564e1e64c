"""ONNX Runtime on a GPU through I/O binding: inputs and outputs in memory of our own.

What one graph gives and the next takes stays on the device, as with native TensorRT. ONNX
Runtime runs on streams of its own and has finished when its call returns.
"""

from __future__ import annotations

import importlib
import importlib.util
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from ...configs.graphs import GraphSpec, output_shapes
from ...configs.models import ModelConfig
from ..gpu import cuda
from ..gpu.ring import DeviceSlotBuffer
from ..gpu.tensor import DeviceTensor, Pool, on_device
from ..stopping import Stoppable


def bindings_present() -> bool:
    """Whether ``cuda.bindings`` is installed; without it inputs and outputs go over the host."""
    try:
        return importlib.util.find_spec("cuda.bindings.runtime") is not None
    except ModuleNotFoundError:
        return False


@contextmanager
def stoppable_run() -> Iterator[Any]:
    """Options of one call that :func:`~sam2rt.runtime.stopping.stop_running` can end."""
    options = importlib.import_module("onnxruntime").RunOptions()
    # looked at between two operators, and between two rounds of a loop
    with Stoppable(lambda: setattr(options, "terminate", True)):
        yield options


class BoundRunner:
    """Runs opened graphs for one thread; `location` is where ONNX Runtime is told memory lies."""

    def __init__(self, location: str = "cuda") -> None:
        self._location = location
        # the provider's own; the thread may have selected another
        cuda.select(0)
        self.stream = cuda.Stream()
        self.pool = Pool()

    def run(
        self,
        opened: Any,
        spec: GraphSpec,
        inputs: Mapping[str, Any],
        keep: Collection[str],
        into: Mapping[str, Sequence[DeviceTensor]],
    ) -> dict[str, Any]:
        """Outputs as host arrays; those in `keep` as device tensors, those of `into` as given."""
        binding = opened.io_binding()
        held = {name: self._tensor(array) for name, array in inputs.items()}
        shapes = output_shapes(spec, {n: a.shape for n, a in held.items()})
        outputs = {
            t.name: self._output(shapes[t.name], t.dtype, into.get(t.name, ()))
            for t in spec.outputs
        }
        self.stream.synchronize()
        for name, tensor in held.items():
            binding.bind_input(name, *self._place(tensor))
        for name, tensor in outputs.items():
            binding.bind_output(name, *self._place(tensor))
        with stoppable_run() as options:
            opened.run_with_iobinding(binding, options)
        for name, slots in into.items():
            self._deal(outputs[name], slots)
        return {
            name: into[name] if name in into else tensor if name in keep else tensor.download()
            for name, tensor in outputs.items()
        }

    def slot_buffer(self, config: ModelConfig) -> DeviceSlotBuffer:
        return DeviceSlotBuffer(config, self.pool, self.stream)

    def close(self) -> None:
        self.pool.close()
        self.stream.close()

    def _place(self, tensor: DeviceTensor) -> tuple[Any, ...]:
        return (self._location, 0, tensor.dtype.type, tensor.shape, tensor.pointer)

    def _output(
        self, shape: tuple[int, ...], dtype: str, slots: Sequence[DeviceTensor]
    ) -> DeviceTensor:
        # the slots of several objects are apart: theirs are written together, then dealt out
        if len(slots) == 1:
            return slots[0].reshape(*shape)
        return DeviceTensor.pooled(self.pool, shape, dtype, self.stream)

    def _deal(self, made: DeviceTensor, slots: Sequence[DeviceTensor]) -> None:
        for i, slot in enumerate(slots):
            if len(slots) > 1:
                cuda.copy(slot.pointer, made.pointer + i * slot.nbytes, slot.nbytes, self.stream)

    def _tensor(self, array: Any) -> DeviceTensor:
        given = on_device(array, self.stream)
        if isinstance(given, DeviceTensor):
            return given
        host = np.ascontiguousarray(given)
        made = DeviceTensor.pooled(self.pool, host.shape, host.dtype, self.stream)
        cuda.copy(made.pointer, host.ctypes.data, host.nbytes, self.stream)
        return made
