"""One graph on one stream: contexts, buffers and CUDA graphs of an engine.

A CUDA graph holds addresses, so inputs and outputs have fixed places; what lies at an address
that stays, such as the ring of memories, is bound where it is, and each such address has a
graph of its own.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...configs.errors import SessionError
from ...configs.graphs import GraphSpec, TensorSpec, output_shapes
from ..arrays import Array
from ..gpu import cuda
from ..gpu.tensor import DeviceTensor, Pool
from ..session import Into
from .engine_profiles import choose_profile, is_fixed
from .engine_record import EngineRecord

#: CUDA graphs kept per engine and thread: a ring has one per slot, a tracker has few rings
_MOST_GRAPHS = 64
#: what TensorRT asks of addresses
_ALIGNED = 256


@dataclass
class _Port:
    """One tensor of a graph: its place on the device and in pinned host memory, largest size."""

    spec: TensorSpec
    device: cuda.Buffer
    host: cuda.PinnedArray

    def view(self, shape: tuple[int, ...]) -> Array:
        count = int(np.prod(shape, dtype=np.int64))
        return self.host.array[:count].reshape(shape)

    def close(self) -> None:
        self.device.close()
        self.host.close()


class Runner:
    """One graph on one stream; contexts and buffers for every profile."""

    def __init__(
        self, engine: Any, record: EngineRecord, spec: GraphSpec, stream: cuda.Stream
    ) -> None:
        self._engine, self._record, self._spec, self._stream = engine, record, spec, stream
        self._contexts: dict[int, Any] = {}
        #: per profile, where its context's tensors are
        self._addresses: dict[int, dict[str, int]] = {}
        #: fixed shapes that ran, by profile and places, least recently used first: None after
        #: the first run, then its graph
        self._graphs: dict[Any, cuda.Graph | None] = {}
        self._records = True
        symbols = self._largest_symbols()
        sizes = {
            t.name: tuple(symbols[d] if isinstance(d, str) else d for d in t.shape)
            for t in (*spec.inputs, *spec.outputs)
        }
        needed = sum(_nbytes(t, sizes[t.name]) for t in (*spec.inputs, *spec.outputs))
        cuda.require_memory(needed, f"inputs and outputs of {spec.name}")
        self.inputs = {t.name: _port(t, sizes[t.name]) for t in spec.inputs}
        self.outputs = {t.name: _port(t, sizes[t.name]) for t in spec.outputs}

    def run(
        self, inputs: Mapping[str, Any], pool: Pool, keep: Collection[str], into: Into
    ) -> dict[str, Any]:
        """Outputs as host arrays; those in `keep` as device tensors, those of `into` as given."""
        shapes = {name: array.shape for name, array in inputs.items()}
        index = choose_profile(self._record.profiles, shapes, self._spec.name)
        bound = {n: a.pointer for n, a in inputs.items() if _stays(a)}
        # the slots of several objects are apart: theirs are written together, then dealt out
        bound |= {n: s[0].pointer for n, s in into.items() if len(s) == 1 and _fits(s[0])}
        for name, array in inputs.items():
            if name not in bound:
                self._bring(name, array)
        self._enqueue(index, shapes, bound)
        results: dict[str, Any] = {}
        for name, shape in output_shapes(self._spec, shapes).items():
            if name in into:
                results[name] = into[name]
                if name not in bound:
                    self._deal(self.outputs[name], into[name])
            else:
                results[name] = self._take(self.outputs[name], shape, pool, name in keep)
        self._stream.synchronize()
        return {n: r.copy() if isinstance(r, np.ndarray) else r for n, r in results.items()}

    def _deal(self, port: _Port, slots: Sequence[DeviceTensor]) -> None:
        for i, slot in enumerate(slots):
            source = port.device.pointer + i * slot.nbytes
            cuda.copy(slot.pointer, source, slot.nbytes, self._stream)

    def _take(self, port: _Port, shape: tuple[int, ...], pool: Pool, keep: bool) -> Any:
        """Enqueue the copy of an output to where it goes."""
        if keep:
            made = DeviceTensor.pooled(pool, shape, port.spec.dtype, self._stream)
            cuda.copy(made.pointer, port.device.pointer, made.nbytes, self._stream)
            return made
        host = port.view(shape)
        cuda.copy(host.ctypes.data, port.device.pointer, host.nbytes, self._stream)
        return host

    def close(self) -> None:
        for graph in self._graphs.values():
            if graph is not None:
                graph.close()
        for port in (*self.inputs.values(), *self.outputs.values()):
            port.close()
        self._graphs.clear()
        self._contexts.clear()

    def _largest_symbols(self) -> dict[str, int]:
        most = {name: shape for name, (_, _, shape) in self._record.profiles[-1].items()}
        return {
            dim: size
            for t in self._spec.inputs
            for dim, size in zip(t.shape, most[t.name], strict=True)
            if isinstance(dim, str)
        }

    def _bring(self, name: str, array: Any) -> None:
        """Enqueue the copy of an input into its fixed place, which a CUDA graph needs."""
        port = self.inputs[name]
        if isinstance(array, DeviceTensor):
            source = array.pointer
        else:
            port.view(array.shape)[...] = array
            source = port.host.array.ctypes.data
        cuda.copy(port.device.pointer, source, array.nbytes, self._stream)

    def _enqueue(
        self, index: int, shapes: Mapping[str, tuple[int, ...]], bound: Mapping[str, int]
    ) -> None:
        key = (index, tuple(bound.items()))
        if (graph := self._graphs.get(key)) is not None:
            self._graphs[key] = self._graphs.pop(key)
            graph.replay(self._stream)
            return
        context = self._context(index)
        self._place(context, index, bound)
        fixed = is_fixed(self._record.profiles[index])
        if not fixed or key not in self._graphs:
            self._set_shapes(context, shapes)
            self._execute(context)
            if fixed:
                self._remember(key, None)
            return
        # the second run of a fixed shape is recorded; everything was set up by the first
        graph = self._recorded(context)
        if graph is None:
            self._execute(context)
            return
        self._remember(key, graph)
        graph.replay(self._stream)

    def _recorded(self, context: Any) -> cuda.Graph | None:
        """The engine's work as a CUDA graph; None for an engine that cannot be recorded."""
        if not self._records:
            return None
        try:
            return cuda.Graph(self._stream, lambda: self._execute(context))
        except SessionError:
            self._records = False
            return None

    def _remember(self, key: Any, graph: cuda.Graph | None) -> None:
        self._graphs[key] = graph
        while len(self._graphs) > _MOST_GRAPHS:
            oldest = self._graphs.pop(next(iter(self._graphs)))
            if oldest is not None:
                oldest.close()

    def _context(self, index: int) -> Any:
        if index in self._contexts:
            return self._contexts[index]
        cuda.require_memory(self._record.device_memory, f"running {self._spec.name}")
        context = self._engine.create_execution_context()
        if context is None:
            raise SessionError(f"TensorRT gives no context for {self._spec.name}: free GPU memory")
        if not context.set_optimization_profile_async(index, self._stream.handle):
            raise self._failed("its profile was refused")
        self._addresses[index] = {}
        self._contexts[index] = context
        return context

    def _place(self, context: Any, index: int, bound: Mapping[str, int]) -> None:
        """Tell the context where its tensors are: in `bound`, else in their own places."""
        known = self._addresses[index]
        for name, port in {**self.inputs, **self.outputs}.items():
            address = bound.get(name, port.device.pointer)
            if known.get(name) != address:
                if not context.set_tensor_address(name, address):
                    raise self._failed(f"it has no tensor '{name}'")
                known[name] = address

    def _set_shapes(self, context: Any, shapes: Mapping[str, tuple[int, ...]]) -> None:
        for name, shape in shapes.items():
            if not context.set_input_shape(name, shape):
                raise self._failed(f"shape {list(shape)} of '{name}' was refused")

    def _execute(self, context: Any) -> None:
        # unchecked, a refused enqueue inside a capture would replay stale buffers
        if not context.execute_async_v3(self._stream.handle):
            raise self._failed("the work could not be enqueued")

    def _failed(self, why: str) -> SessionError:
        return SessionError(
            f"the engine of {self._spec.name} failed ({why}): build it again with 'sam2rt build'"
        )


def _port(tensor: TensorSpec, shape: tuple[int, ...]) -> _Port:
    count = int(np.prod(shape, dtype=np.int64))
    host = cuda.PinnedArray((count,), tensor.dtype)
    return _Port(tensor, cuda.Buffer(_nbytes(tensor, shape)), host)


def _nbytes(tensor: TensorSpec, shape: tuple[int, ...]) -> int:
    return int(np.prod(shape, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize


def _stays(array: Any) -> bool:
    return isinstance(array, DeviceTensor) and array.stays and _fits(array)


def _fits(tensor: DeviceTensor) -> bool:
    return tensor.pointer % _ALIGNED == 0
