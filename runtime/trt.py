"""The native TensorRT backend: engines of a bundle on one GPU, numpy or GPU arrays in and out.

Engines are shared; each thread has its own stream, execution contexts and buffers, since a
tracker belongs to one thread. All device memory is taken when a graph is first used by a
thread. A fixed shape runs once as usual and is then replayed as one CUDA graph.
"""

from __future__ import annotations

import threading
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
from .gpu_arrays import is_device_array
from .gpu_pixels import GpuPixels, has_kernels
from .gpu_tensor import DeviceSlotBuffer, DeviceTensor, Pool, on_device
from .ort_device import KEPT, output_shapes
from .session import Array, check_inputs


def current_machine(trt: ModuleType, index: int | None = 0) -> Machine:
    """TensorRT's version and GPU `index`, None for that of the caller's context.

    SessionError without a driver or GPU.
    """
    found = cuda.device(index)
    return Machine(trt.__version__, found.arch, found.name, found.driver)


class TensorRTSession:
    """Runs the engines that ``sam2rt build`` made on this machine.

    `device` is "cuda" or "cuda:1" ... Entering opens all engines; without entering, each opens
    when it is first run. Whatever does not fit this machine is refused before TensorRT sees it
    (SessionError, BundleError). `engines` names another folder of engines than this machine's.
    `stream` is the caller's CUDA stream as a handle: all work goes there, in the context that is
    current, and one thread may use the session.

    Embeddings and memories come as tensors that stay on the GPU until numpy asks for them.
    Inputs may be arrays on the GPU (``__cuda_array_interface__``, DLPack).
    """

    def __init__(
        self,
        bundle: Bundle,
        device: str = "cuda",
        engines: str | None = None,
        stream: int | None = None,
    ) -> None:
        self.bundle = bundle
        self.stream = stream
        # selecting a GPU would leave the caller's context
        self._index = device_index(device) if stream is None else None
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
        worker = self._worker()
        given = {
            name: on_device(array, worker.stream) if is_device_array(array) else array
            for name, array in inputs.items()
        }
        return worker.run(graph, check_inputs(self.bundle.graphs[graph].spec, given))

    @property
    def max_objects(self) -> int:
        """Objects one call takes at most; trackers split larger groups."""
        _, record = self.engine("mask_decoder")
        return record.profiles[-1]["mask_input"][2][0]

    def pixels(self) -> GpuPixels | None:
        """Frames to inputs and logits to masks on the device, on this thread's stream.

        None when the engines were built where Triton was missing.
        """
        machine = current_machine(self._trt, self._index)
        folder = self.bundle.path / ENGINES / (self._folder or machine.folder)
        if not has_kernels(folder):
            return None
        worker = self._worker()
        return GpuPixels(folder, worker.stream, worker.pool)

    def slot_buffer(self) -> DeviceSlotBuffer:
        """A ring of memories on the device, for a tracker of this thread."""
        worker = self._worker()
        return DeviceSlotBuffer(self.bundle.model, worker.pool, worker.stream)

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
            with self._lock:
                if self.stream is not None and self._workers:
                    raise SessionError(
                        "a session on the caller's stream belongs to one thread: open another"
                    )
                worker = self._threads.worker = _Worker(self)
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
        self.pool = Pool()

    @property
    def stream(self) -> cuda.Stream:
        if self._stream is None:
            # the device first: a stream needs one
            self._session.engine(next(iter(self._session.bundle.graphs)))
            self._stream = cuda.Stream(self._session.stream)
        return self._stream

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        runner = self._runners.get(graph)
        if runner is None:
            engine, record = self._session.engine(graph)
            spec = self._session.bundle.graphs[graph].spec
            runner = self._runners[graph] = _Runner(engine, record, spec, self.stream)
        return runner.run(inputs, self.pool if graph in KEPT else None)

    def close(self) -> None:
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()
        self.pool.close()
        if self._stream is not None:
            self._stream.close()


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

    def run(self, inputs: Mapping[str, Any], pool: Pool | None) -> dict[str, Any]:
        """Outputs as host arrays, or as device tensors in memory of `pool`."""
        shapes = {name: array.shape for name, array in inputs.items()}
        index = choose_profile(self._record.profiles, shapes, self._spec.name)
        for name, array in inputs.items():
            self._bring(name, array)
        self._enqueue(index, shapes)
        results = {
            name: self._take(self.outputs[name], shape, pool)
            for name, shape in output_shapes(self._spec, shapes).items()
        }
        self._stream.synchronize()
        return {n: r.copy() if isinstance(r, np.ndarray) else r for n, r in results.items()}

    def _take(self, port: _Port, shape: tuple[int, ...], pool: Pool | None) -> Any:
        """Enqueue the copy of an output to where it goes."""
        if pool is not None:
            made = DeviceTensor.pooled(pool, shape, port.spec.dtype, self._stream)
            cuda.copy(made.pointer, port.device.pointer, made.nbytes, self._stream)
            return made
        host = port.view(shape)
        cuda.copy(host.ctypes.data, port.device.pointer, host.nbytes, self._stream)
        return host

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

    def _bring(self, name: str, array: Any) -> None:
        """Enqueue the copy of an input into its fixed place, which a CUDA graph needs."""
        port = self.inputs[name]
        if isinstance(array, DeviceTensor):
            source = array.pointer
        else:
            port.view(array.shape)[...] = array
            source = port.host.array.ctypes.data
        cuda.copy(port.device.pointer, source, array.nbytes, self._stream)

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
