"""The native TensorRT backend: engines of a bundle on one GPU, numpy or GPU arrays in and out.

Engines are shared; each thread has its own stream, execution contexts and buffers, since a
tracker belongs to one thread. All device memory is taken when a graph is first used by a
thread. A fixed shape runs once as usual and is then replayed as one CUDA graph.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from ...configs.bundle import Bundle
from ...configs.errors import InputError, SessionError
from ...configs.graphs import TRACK_STEP, GraphSpec, engine_specs, graph_specs, kept_outputs
from ..arrays import Array
from ..gpu import cuda
from ..gpu.graphs import Together
from ..gpu.ring import DeviceSlotBuffer
from ..gpu.tensor import DeviceTensor, Pool, on_device
from ..pixels.gpu_kernels import GpuPixels, has_kernels
from ..session import Into, Session, check_inputs
from .engine_record import (
    ENGINES,
    EngineRecord,
    EngineTarget,
    check_engine,
    engine_folder,
    engine_path,
)
from .tensorrt_library import Messages, make_logger, tensorrt_module
from .tensorrt_runner import Form, Runner
from .tensorrt_scratch import Scratch
from .tensorrt_track import TrackChain

#: forms of inputs that are remembered
_MOST_FORMS = 256


def current_target(trt: ModuleType, index: int | None = 0) -> EngineTarget:
    """TensorRT's version and GPU `index`, None for that of the caller's context.

    SessionError without a driver or GPU.
    """
    found = cuda.device(index)
    return EngineTarget(trt.__version__, found.arch, found.name, found.driver)


class TensorRTSession(Session):
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
        self.bundle, self.device = bundle, device
        self.stream = stream
        # selecting a GPU would leave the caller's context
        self._index = device_index(device) if stream is None else None
        self._closed = False
        self._folder = engines
        self.library = tensorrt_module()
        self._messages = Messages()
        self._runtime: Any = None
        self._engines: dict[str, tuple[Any, EngineRecord]] = {}
        self._threads = threading.local()
        self._workers: list[_Worker] = []
        #: of threads that left
        self._idle: list[_Worker] = []
        self._lock = threading.Lock()
        self._known_forms: set[Any] = set()

    def run(
        self, graph: str, inputs: Mapping[str, Array], into: Into | None = None
    ) -> dict[str, Array]:
        """Run one graph; see :class:`~sam2rt.runtime.session.Session`.

        `into` names outputs that are written into slots of this thread's ring, one per object.
        """
        if graph not in self.graphs and graph != TRACK_STEP:
            known = ", ".join(self.graphs)
            raise InputError(f"unknown graph '{graph}': expected one of {known}")
        worker = self._worker()
        stream, given = worker.stream, inputs
        for array in inputs.values():
            if not isinstance(array, np.ndarray) and not _ready_on(array, stream):
                given = {name: on_device(array, stream) for name, array in inputs.items()}
                break
        # names, shapes and dtypes that were found right once are right again
        form: Form = (graph, *[(n, a.shape, a.dtype, type(a)) for n, a in given.items()])
        if form not in self._known_forms:
            given = check_inputs(self.spec(graph), given)
            if len(self._known_forms) >= _MOST_FORMS:
                self._known_forms.clear()
            self._known_forms.add(form)
        return worker.run(graph, given, into or {}, form)

    @functools.cached_property
    def graphs(self) -> tuple[str, ...]:
        """The graphs that engines are built from; a bundle has others besides."""
        return tuple(engine_specs(self.bundle.model))

    def spec(self, graph: str) -> GraphSpec:
        """The contract of a graph that :meth:`run` takes."""
        return self._specs[graph]

    @functools.cached_property
    def _specs(self) -> dict[str, GraphSpec]:
        step = {TRACK_STEP: graph_specs(self.bundle.model)[TRACK_STEP]}
        return {**step, **{graph: self.bundle.graphs[graph].spec for graph in self.graphs}}

    @property
    def fused(self) -> bool:
        """True: the engines of a frame without prompts run as one CUDA graph."""
        return True

    @property
    def max_objects(self) -> int:
        """Objects one call takes at most; trackers and predictors split larger groups."""
        return self._largest("mask_decoder", "mask_input")

    @property
    def max_images(self) -> int:
        """Images one call of the encoder takes at most."""
        return self._largest("image_encoder", "image")

    def _largest(self, graph: str, tensor: str) -> int:
        _, record = self.engine(graph)
        return record.profiles[-1][tensor][2][0]

    @property
    def overlaps(self) -> bool:
        """Whether a thread has a stream of its own: not where all work is on the caller's."""
        return self.stream is None

    def together(self) -> Together:
        """Work of a frame on this thread's stream, replayed as one CUDA graph."""
        return self._worker().together

    def leave_thread(self) -> None:
        """Keep the calling thread's stream, contexts and buffers for the next new thread."""
        worker: _Worker | None = getattr(self._threads, "worker", None)
        if worker is None:
            return
        # whoever comes next writes where results of this thread are read
        worker.stream.synchronize()
        with self._lock:
            self._threads.worker = None
            if not self._closed:
                self._idle.append(worker)

    def pixels(self) -> GpuPixels | None:
        """Frames to inputs and logits to masks on the device, on this thread's stream.

        None when the engines were built where Triton was missing.
        """
        return self._worker().pixels()

    def kernel_folder(self) -> Path | None:
        """Where the kernels beside the engines are; None when they were not compiled."""
        target = current_target(self.library, self._index)
        folder = self.bundle.path / ENGINES / engine_folder(self.bundle, target, self._folder)
        return folder if has_kernels(folder) else None

    def slot_buffer(self) -> DeviceSlotBuffer:
        """A ring of memories on the device, for a tracker of this thread."""
        worker = self._worker()
        return DeviceSlotBuffer(self.bundle.model, worker.pool, worker.stream)

    def close(self) -> None:
        """Free contexts, memory and engines; running a graph again raises InputError."""
        self._closed = True
        self._free()

    def _free(self) -> None:
        with self._lock:
            for worker in self._workers:
                worker.close()
            self._workers.clear()
            self._idle.clear()
            self._engines.clear()
            self._threads = threading.local()
            self._runtime = None

    def _open_still(self) -> None:
        if self._closed:
            raise InputError("the session is closed: make another one")

    def __enter__(self) -> TensorRTSession:
        try:
            # a bundle may carry other variants of a graph: engines are of the contract's five
            for graph in self.graphs:
                self.engine(graph)
        except BaseException:
            self._free()
            raise
        return self

    def select(self) -> None:
        """Make this session's GPU the calling thread's; SessionError without a driver or GPU."""
        current_target(self.library, self._index)

    def engine(self, graph: str) -> tuple[Any, EngineRecord]:
        """TensorRT's engine of a graph and what it says about itself."""
        with self._lock:
            self._open_still()
            if graph not in self._engines:
                self._engines[graph] = self._load(graph)
            return self._engines[graph]

    def _load(self, graph: str) -> tuple[Any, EngineRecord]:
        # the device first: without one TensorRT hands out a null runtime and crashes
        target = current_target(self.library, self._index)
        folder = engine_folder(self.bundle, target, self._folder)
        record = check_engine(self.bundle, folder, graph, target)
        cuda.require_memory(record.size + record.device_memory, f"the engine of {graph}")
        return self._deserialized(engine_path(self.bundle, folder, graph), record), record

    def _deserialized(self, path: Path, record: EngineRecord) -> Any:
        if self._runtime is None:
            self._runtime = self.library.Runtime(make_logger(self.library, self._messages))
        # an engine for later TensorRT carries the runtime it was built with, and its hash was
        # checked; no other may bring code for the host
        self._runtime.engine_host_code_allowed = record.version_compatible
        engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if engine is None:
            raise SessionError(
                f"TensorRT {self.library.__version__} cannot load {path}: {self._messages.last()}: "
                f"build it again with 'sam2rt build {self.bundle.path} --graphs {record.graph}'"
            )
        return engine

    def _worker(self) -> _Worker:
        worker: _Worker | None = getattr(self._threads, "worker", None)
        if worker is None:
            with self._lock:
                self._open_still()
                if self.stream is not None and self._workers:
                    raise SessionError(
                        "a session on the caller's stream belongs to one thread: open another"
                    )
                if self._idle:
                    worker = self._idle.pop()
                    worker.stream.thread = threading.get_ident()
                else:
                    worker = _Worker(self)
                    self._workers.append(worker)
                self._threads.worker = worker
        if self._index is not None and not worker.busy:
            # the thread may have selected another GPU since
            cuda.select(self._index)
        return worker


def _ready_on(array: Any, stream: cuda.Stream) -> bool:
    return isinstance(array, DeviceTensor) and array.made_on(stream)


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
        self._scratch: Scratch | None = None
        self._together: Together | None = None
        self._runners: dict[str, Runner] = {}
        self._pixels: list[GpuPixels | None] = []
        self._chain: TrackChain | None = None
        self.pool = Pool()

    @property
    def stream(self) -> cuda.Stream:
        if self._stream is None:
            # the device first: a stream needs one
            self._session.select()
            self._stream = cuda.Stream(self._session.stream)
        return self._stream

    @property
    def busy(self) -> bool:
        """Whether it is in the middle of a frame's work."""
        return self._stream is not None and self._stream.collector is not None

    @property
    def together(self) -> Together:
        if self._together is None:
            self._together = Together(self.stream)
            self.scratch.watch(self._together.graphs)
        return self._together

    @property
    def scratch(self) -> Scratch:
        if self._scratch is None:
            self._scratch = Scratch(self._session.library, self.stream)
        return self._scratch

    def run(
        self, graph: str, inputs: Mapping[str, Array], into: Into, form: Form
    ) -> dict[str, Array]:
        if graph == TRACK_STEP and self._chain is not None:
            return self._chain.run(inputs, into, form)
        masks = self.pixels() is not None
        if graph == TRACK_STEP:
            if self._chain is None:
                spec = self._session.spec(graph)
                self._chain = TrackChain(
                    spec, self._runner, self.pool, self.stream, masks, self.scratch
                )
            return self._chain.run(inputs, into, form)
        runner = self._runner(graph)
        keep = kept_outputs(graph, masks=masks)
        # features live for a frame or two
        direct = graph == "image_encoder"
        return runner.run(inputs, self.pool, keep, into, form, direct=direct)

    def _runner(self, graph: str) -> Runner:
        runner = self._runners.get(graph)
        if runner is None:
            engine, record = self._session.engine(graph)
            spec = self._session.spec(graph)
            runner = Runner(engine, record, spec, self.stream, self.scratch)
            self._runners[graph] = runner
        return runner

    def pixels(self) -> GpuPixels | None:
        if not self._pixels:
            folder = self._session.kernel_folder()
            made = None if folder is None else GpuPixels(folder, self.stream, self.pool)
            self._pixels.append(made)
        return self._pixels[0]

    def close(self) -> None:
        if self._together is not None:
            self._together.graphs.close()
        if self._chain is not None:
            self._chain.close()
        for runner in self._runners.values():
            runner.close()
        self._runners.clear()
        for pixels in self._pixels:
            if pixels is not None:
                pixels.close()
        self._pixels.clear()
        if self._scratch is not None:
            self._scratch.close()
        self.pool.close()
        if self._stream is not None:
            self._stream.close()
