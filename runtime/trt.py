"""The native TensorRT backend: engines of a bundle on one GPU, numpy in and out.

Engines are shared; each thread has its own stream, execution contexts and buffers, since a
tracker belongs to one thread. All device memory is taken when a graph is first used by a
thread. A fixed shape runs once as usual and is then replayed as one CUDA graph.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any

import numpy as np

from ..configs.bundle import Bundle
from ..configs.errors import BundleError, InputError, SessionError
from ..configs.graphs import GraphSpec, TensorSpec, graph_specs
from . import cuda
from .build_engine import Messages, make_logger, tensorrt_module
from .build_profiles import choose_profile, is_fixed
from .engine_sidecar import ENGINES, EngineRecord, Machine, check_engine, engine_path
from .session import Array, check_inputs

#: outputs large enough to be worth keeping on the device for the next graph
_KEPT = ("image_encoder", "memory_attention")


def current_machine(trt: ModuleType, index: int = 0) -> Machine:
    """TensorRT's version and GPU `index`; SessionError without a driver or GPU."""
    found = cuda.device(index)
    return Machine(trt.__version__, found.arch, found.name, found.driver)


class TensorRTSession:
    """Runs the engines that ``sam2rt build`` made on this machine.

    `device` is "cuda" or "cuda:1" ... Entering opens all engines; without entering, each opens
    when it is first run. Whatever does not fit this machine is refused before TensorRT sees it
    (SessionError, BundleError). `engines` names another folder of engines than this machine's.
    """

    def __init__(self, bundle: Bundle, device: str = "cuda", engines: str | None = None) -> None:
        self.bundle = bundle
        self._index = device_index(device)
        self._folder = engines
        self._trt = tensorrt_module()
        self._messages = Messages()
        self._runtime: Any = None
        self._engines: dict[str, tuple[Any, EngineRecord]] = {}
        self._threads = threading.local()
        self._workers: list[_Worker] = []
        self._lock = threading.Lock()

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one graph; see :class:`~sam2rt.runtime.session.Session`."""
        if graph not in self.bundle.graphs:
            known = ", ".join(self.bundle.graphs)
            raise InputError(f"unknown graph '{graph}': expected one of {known}")
        checked = check_inputs(self.bundle.graphs[graph].spec, inputs)
        return self._worker().run(graph, checked)

    def close(self) -> None:
        """Free contexts, memory and engines; a later run opens them again."""
        with self._lock:
            for worker in self._workers:
                worker.close()
            self._workers.clear()
            self._engines.clear()
            self._threads = threading.local()
            self._runtime = None

    def __enter__(self) -> TensorRTSession:
        try:
            # a bundle may carry other forms of a graph; the contract's five are what runs
            for graph in graph_specs(self.bundle.model):
                self.engine(graph)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def engine(self, graph: str) -> tuple[Any, EngineRecord]:
        """TensorRT's engine of a graph and what it says about itself."""
        with self._lock:
            if graph not in self._engines:
                self._engines[graph] = self._load(graph)
            return self._engines[graph]

    def _load(self, graph: str) -> tuple[Any, EngineRecord]:
        # the device first: without one TensorRT hands out a null runtime and crashes
        machine = current_machine(self._trt, self._index)
        folder = self._folder or machine.folder
        if not (self.bundle.path / ENGINES / folder).is_dir():
            have = sorted(p.name for p in (self.bundle.path / ENGINES).glob("*") if p.is_dir())
            raise BundleError(
                f"expected engines for {folder} in {self.bundle.path}, found "
                f"{', '.join(have) or 'none'}: build them with 'sam2rt build {self.bundle.path}'"
            )
        record = check_engine(self.bundle, folder, graph, machine)
        cuda.require_memory(record.size + record.device_memory, f"the engine of {graph}")
        return self._deserialized(engine_path(self.bundle, folder, graph), record), record

    def _deserialized(self, path: Path, record: EngineRecord) -> Any:
        if self._runtime is None:
            self._runtime = self._trt.Runtime(make_logger(self._trt, self._messages))
        if record.version_compatible:
            # such an engine carries the runtime it was built with; its hash was checked
            self._runtime.engine_host_code_allowed = True
        engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise SessionError(
                f"TensorRT {self._trt.__version__} cannot load {path}: {self._messages.last()}: "
                f"build it again with 'sam2rt build {self.bundle.path} --graphs {record.graph}'"
            )
        return engine

    def _worker(self) -> _Worker:
        worker: _Worker | None = getattr(self._threads, "worker", None)
        if worker is None:
            worker = self._threads.worker = _Worker(self)
            with self._lock:
                self._workers.append(worker)
        return worker


def device_index(device: str) -> int:
    """GPU number of "cuda" or "cuda:N"; InputError for another device."""
    name, _, number = device.partition(":")
    if name != "cuda" or (number and not number.isdigit()):
        raise InputError(
            f"unknown device '{device}' of tensorrt: expected 'cuda', or 'cuda:1' for the second"
        )
    return int(number or 0)


class _Worker:
    """What one thread needs: a stream, and a runner per graph."""

    def __init__(self, session: TensorRTSession) -> None:
        self._session = session
        self._stream: cuda.Stream | None = None
        self._runners: dict[str, _Runner] = {}
        self._resident = _Resident()

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        runner = self._runners.get(graph)
        if runner is None:
            engine, record = self._session.engine(graph)
            self._stream = self._stream or cuda.Stream()
            spec = self._session.bundle.graphs[graph].spec
            runner = self._runners[graph] = _Runner(engine, record, spec, self._stream)
        outputs = runner.run(inputs, self._resident)
        if graph in _KEPT:
            for name, array in outputs.items():
                array.flags.writeable = False
                self._resident.keep(array, runner, name)
        return outputs

    def close(self) -> None:
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()
        if self._stream is not None:
            self._stream.close()


class _Resident:
    """Which host arrays still lie on the device, so that the next graph need not upload them.

    Only read-only outputs are kept: the host copy cannot have changed.
    """

    def __init__(self) -> None:
        self._kept: dict[int, tuple[weakref.ref[Array], _Runner, str, int]] = {}

    def keep(self, array: Array, runner: _Runner, name: str) -> None:
        key = id(array)
        gone = weakref.ref(array, lambda _: self._kept.pop(key, None) and None)
        self._kept[key] = (gone, runner, name, runner.generation)

    def pointer(self, array: Array) -> int | None:
        kept = self._kept.get(id(array))
        if kept is None or kept[0]() is not array:
            return None
        _, runner, name, generation = kept
        return runner.outputs[name].device.pointer if runner.generation == generation else None


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


class _Runner:
    """One graph on one stream; contexts and buffers for every profile."""

    def __init__(
        self, engine: Any, record: EngineRecord, spec: GraphSpec, stream: cuda.Stream
    ) -> None:
        self.generation = 0
        self._engine, self._record, self._spec, self._stream = engine, record, spec, stream
        self._contexts: dict[int, Any] = {}
        self._graphs: dict[int, cuda.Graph] = {}
        self._ran: set[int] = set()
        symbols = self._largest_symbols()
        sizes = {
            t.name: tuple(symbols[d] if isinstance(d, str) else d for d in t.shape)
            for t in (*spec.inputs, *spec.outputs)
        }
        needed = sum(_nbytes(t, sizes[t.name]) for t in (*spec.inputs, *spec.outputs))
        cuda.require_memory(needed, f"inputs and outputs of {spec.name}")
        self.inputs = {t.name: _port(t, sizes[t.name]) for t in spec.inputs}
        self.outputs = {t.name: _port(t, sizes[t.name]) for t in spec.outputs}

    def run(self, inputs: Mapping[str, Array], resident: _Resident) -> dict[str, Array]:
        shapes = {name: array.shape for name, array in inputs.items()}
        index = choose_profile(self._record.profiles, shapes, self._spec.name)
        outputs = self._output_shapes(shapes)
        self.generation += 1
        staged = [self._stage(name, array, resident) for name, array in inputs.items()]
        for target, source, nbytes in staged:
            cuda.copy(target, source, nbytes, self._stream)
        self._enqueue(index, shapes)
        for name, shape in outputs.items():
            port = self.outputs[name]
            nbytes = port.view(shape).nbytes
            address = port.host.array.ctypes.data
            cuda.copy(address, port.device.pointer, nbytes, self._stream)
        self._stream.synchronize()
        return {name: self.outputs[name].view(shape).copy() for name, shape in outputs.items()}

    def close(self) -> None:
        for graph in self._graphs.values():
            graph.close()
        for port in (*self.inputs.values(), *self.outputs.values()):
            port.close()
        self._contexts.clear()

    def _largest_symbols(self) -> dict[str, int]:
        most = {name: shape for name, (_, _, shape) in self._record.profiles[-1].items()}
        return {
            dim: size
            for t in self._spec.inputs
            for dim, size in zip(t.shape, most[t.name], strict=True)
            if isinstance(dim, str)
        }

    def _output_shapes(self, shapes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        symbols = {
            dim: size
            for t in self._spec.inputs
            for dim, size in zip(t.shape, shapes[t.name], strict=True)
            if isinstance(dim, str)
        }
        return {
            t.name: tuple(symbols[d] if isinstance(d, str) else d for d in t.shape)
            for t in self._spec.outputs
        }

    def _stage(self, name: str, array: Array, resident: _Resident) -> tuple[int, int, int]:
        """(device address, source address, bytes) of the copy that brings an input in."""
        port = self.inputs[name]
        if (source := resident.pointer(array)) is not None:
            return port.device.pointer, source, array.nbytes
        port.view(array.shape)[...] = array
        return port.device.pointer, port.host.array.ctypes.data, array.nbytes

    def _enqueue(self, index: int, shapes: Mapping[str, tuple[int, ...]]) -> None:
        if index in self._graphs:
            self._graphs[index].replay(self._stream)
            return
        context = self._context(index)
        fixed = is_fixed(self._record.profiles[index])
        if not fixed or index not in self._ran:
            self._set_shapes(context, shapes)
            self._execute(context)
            self._ran.add(index)
        else:
            # the second run of a fixed shape is recorded; everything was set up by the first
            self._graphs[index] = cuda.Graph(self._stream, lambda: self._execute(context))
            self._graphs[index].replay(self._stream)

    def _context(self, index: int) -> Any:
        if index in self._contexts:
            return self._contexts[index]
        cuda.require_memory(self._record.device_memory, f"running {self._spec.name}")
        context = self._engine.create_execution_context()
        if context is None:
            raise SessionError(f"TensorRT gives no context for {self._spec.name}: free GPU memory")
        if not context.set_optimization_profile_async(index, self._stream.handle):
            raise self._failed("its profile was refused")
        for name, port in {**self.inputs, **self.outputs}.items():
            if not context.set_tensor_address(name, port.device.pointer):
                raise self._failed(f"it has no tensor '{name}'")
        self._contexts[index] = context
        return context

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
