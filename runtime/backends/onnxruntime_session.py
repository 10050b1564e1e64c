"""The ONNX Runtime backend: CPU, or its CUDA and TensorRT execution providers."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import importlib.util
import io
import os
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.bundle import HALF_PRECISIONS, Bundle, BundleFile
from ...configs.checks import whole_number
from ...configs.errors import (
    InputError,
    LowMemoryError,
    MissingExtraError,
    SessionError,
    means_low_memory,
)
from ...configs.graphs import (
    TRACK_FRAME,
    TRACK_OBJECT,
    TRACK_STEP,
    graph_specs,
    kept_outputs,
    per_object_specs,
)
from ...configs.remedies import line_of, machine_failed, opening_error, remedy_of
from ..arrays import Array
from ..bank import SlotBuffer
from ..gpu.tensor import on_device
from ..session import Into, Session, check_inputs
from .engine_record import onnx_digest
from .onnxruntime_binding import BoundRunner, bindings_present, stoppable_run

#: device -> the execution provider that must be active, then those that may take what it leaves
PROVIDERS = {
    "cpu": ("CPUExecutionProvider",),
    "cuda": ("CUDAExecutionProvider", "CPUExecutionProvider"),
    "tensorrt": ("TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"),
}


#: a graph that every bundle has, of few weights, in the bundle's precision
_SMALL = "memory_encoder"


class OnnxRuntimeSession(Session):
    """Runs a bundle's graphs with ONNX Runtime.

    Entering opens all graphs; without entering, each opens when it is first run. `threads` is
    the number of CPU threads one call uses (None: one per core). Safe to share between threads
    of the program. A device that was asked for and is not active is a SessionError, never
    another device; :meth:`check_device` tells early. Matrix products on "cuda" keep full float32
    precision (no TF32); "tensorrt" has no such option, there NVIDIA_TF32_OVERRIDE=0 in the
    environment does it.
    """

    def __init__(self, bundle: Bundle, device: str = "cpu", threads: int | None = None) -> None:
        if device not in PROVIDERS:
            known = ", ".join(PROVIDERS)
            raise InputError(f"unknown device '{device}' of onnxruntime: expected one of {known}")
        if threads is not None:
            threads = whole_number("threads", threads, 1, ", or None for all cores")
        if importlib.util.find_spec("onnxruntime") is None:
            extra, package = (
                ("cpu", "onnxruntime") if device == "cpu" else ("gpu", "onnxruntime-gpu")
            )
            raise MissingExtraError("the onnxruntime backend", package, extra)
        self.bundle = bundle
        self.device = device
        self.threads = threads
        self._closed = False
        self._graphs: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._threads = threading.local()
        self._runners: list[BoundRunner] = []
        #: what onnxruntime says of CUDA's libraries
        self._unloaded = ""

    def check_device(self) -> None:
        """Refuse, with SessionError, a device that cannot run the bundle here.

        Providers are listed where their libraries do not load, and half precision has no kernels
        on some: one small graph is opened, and kept, where that may be so.
        """
        if self.device != "cpu" or self.bundle.precision in HALF_PRECISIONS:
            # without the provider no graph has to be looked for
            self._onnxruntime()
            self._open(_SMALL)

    def _named(self, graph: str) -> str:
        """Name in the bundle of what is run for a graph of the contract."""
        return graph

    def check_graphs(self) -> None:
        """Refuse, with SessionError, a bundle of which a graph does not open here.

        Each is opened as it stands, without optimisation, and freed before the next.
        """
        for graph in self.graphs:
            if entry := self.bundle.graphs.get(name := self._named(graph)):
                self._opened(self.bundle.graph_path(name), entry.external, optimised=False)

    def run(
        self, graph: str, inputs: Mapping[str, Array], into: Into | None = None
    ) -> dict[str, Array]:
        """Run one graph; see :class:`~sam2rt.runtime.session.Session`.

        `into` names outputs that are written into slots of this thread's ring on the GPU.
        """
        self._open_still()
        if graph not in self.bundle.graphs:
            known = ", ".join(self.bundle.graphs)
            raise InputError(f"unknown graph '{graph}': expected one of {known}")
        spec = self.bundle.graphs[graph].spec
        opened = self._graphs.get(graph) or self._open(graph)
        bound = self._bound()
        if bound is not None:
            # arrays of other libraries become tensors with numpy's shape and dtype
            inputs = {name: on_device(array, bound.stream) for name, array in inputs.items()}
        checked = check_inputs(spec, inputs)
        if graph == TRACK_STEP and self.per_object and len(checked["memory"]) > 1:
            return self._sequentially(checked)
        names = [tensor.name for tensor in spec.outputs]
        try:
            if bound is not None:
                keep = kept_outputs(graph, masks=False)
                return bound.run(opened, spec, checked, keep, into or {})
            with stoppable_run() as options:
                outputs = opened.run(names, checked, options)
        except SessionError:
            raise
        except Exception as error:
            if means_low_memory(error):
                raise LowMemoryError(f"to run graph {graph} on {self.device}") from None
            raise SessionError(
                f"graph {graph} failed on {self.device} ({_line(error)}): fewer objects per call "
                "or a smaller image size need less memory"
            ) from None
        return dict(zip(names, outputs, strict=True))

    @property
    def fused(self) -> bool:
        """Whether a frame without prompts takes the one graph ``track_step``.

        On a GPU the separate graphs write a memory straight into its slot.
        """
        return self.device == "cpu" and TRACK_STEP in self.bundle.graphs

    @property
    def per_object(self) -> bool:
        """Whether ``track_step`` takes its objects sequentially, in the memory of one.

        What they share is then done once, by a graph of its own.
        """
        # a bundle's variants have no contract that loading checks
        specs = per_object_specs(self.bundle.model)
        found = self.bundle.graphs
        return self.fused and all(n in found and found[n].spec == s for n, s in specs.items())

    def _sequentially(self, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """What the objects share once, then each object by itself."""
        shared = self.run(TRACK_FRAME, {"image_embed": inputs["image_embed"]})
        given = {**inputs, **shared}
        made = []
        for i in range(len(inputs["memory"])):
            own = {name: a if len(a) == 1 else a[i : i + 1] for name, a in given.items()}
            made.append(self.run(TRACK_OBJECT, own))
        return {name: np.concatenate([one[name] for one in made]) for name in made[0]}

    def _opened_first(self) -> list[str]:
        # variants for engines, which a bundle may carry too, are not run here; memory attention
        # on its own is for corrections alone where frames are tracked by one graph
        rare = "memory_attention" if self.fused else TRACK_STEP
        return [graph for graph in graph_specs(self.bundle.model) if graph != rare]

    @property
    def overlaps(self) -> bool:
        """Whether calls of two threads run at the same time; not where a GPU is bound."""
        return not self._binds()

    def slot_buffer(self) -> SlotBuffer:
        """A ring of memories on the GPU for a tracker of this thread; host memory on the CPU."""
        bound = self._bound()
        return super().slot_buffer() if bound is None else bound.slot_buffer(self.bundle.model)

    def _binds(self) -> bool:
        """Whether inputs and outputs lie on the GPU."""
        return self.device != "cpu" and bindings_present()

    def _bound(self) -> BoundRunner | None:
        if not self._binds():
            return None
        self._open_still()
        runner: BoundRunner | None = getattr(self._threads, "runner", None)
        if runner is None:
            # after a graph was opened: whether its provider works is known by then
            with self._lock:
                self._open_still()
                runner = self._threads.runner = BoundRunner()
                self._runners.append(runner)
        return runner

    def close(self) -> None:
        """Free graphs and device; running a graph again raises InputError."""
        self._closed = True
        self._free()

    def _free(self) -> None:
        with self._lock:
            self._graphs.clear()
            for runner in self._runners:
                runner.close()
            self._runners.clear()
            self._threads = threading.local()

    def _open_still(self) -> None:
        if self._closed:
            raise InputError("the session is closed: make another one")

    def __enter__(self) -> OnnxRuntimeSession:
        self._open_still()
        try:
            # variants for engines, which a bundle may carry too, are not run here
            for graph in self._opened_first():
                self._open(graph)
        except BaseException:
            self._free()
            raise
        return self

    def _open(self, graph: str) -> Any:
        with self._lock:
            self._open_still()
            if graph not in self._graphs:
                name = self._named(graph)
                self._graphs[graph] = self._opened(
                    self.bundle.graph_path(name), self.bundle.graphs[name].external
                )
            return self._graphs[graph]

    def _opened(
        self, path: Path, external: tuple[BundleFile, ...], *, optimised: bool = True
    ) -> Any:
        ort = self._onnxruntime()
        self._preload(ort)
        try:
            options = self._options(ort)
            if not optimised:
                options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
            weights = _given_weights(options, path, external)
            session = ort.InferenceSession(
                str(path), sess_options=options, providers=self._providers()
            )
            del weights
        except Exception as error:
            if means_low_memory(error):
                raise LowMemoryError(f"to open graph {path}") from None
            if _NO_KERNEL in str(error):
                raise self._without_kernels(ort, _line(error)) from None
            raise SessionError(
                f"cannot open graph {path} with onnxruntime {ort.__version__} on {self.device} "
                f"{_not_opened(path, error)}"
            ) from None
        wanted, active = PROVIDERS[self.device][0], session.get_providers()
        if wanted not in active:
            why = f"({self._unloaded})" if self._unloaded else "(see 'sam2rt doctor')"
            raise SessionError(
                f"onnxruntime {ort.__version__} runs {path.name} on {', '.join(active)} instead "
                f"of {wanted}, whose libraries did not load {why}: pip install "
                "'onnxruntime-gpu[cuda,cudnn]', or use device='cpu'"
            )
        return session

    def _without_kernels(self, ort: Any, what: str) -> SessionError:
        """Says which bundle runs here: this one is whole, and making it again changes nothing."""
        places = "CPU" if self.device == "cpu" else f"device '{self.device}'"
        other = (
            ""
            if self.device != "cpu"
            else ", run it with backend='openvino' where the processor has units for it, or on an "
            "NVIDIA GPU with device='cuda'"
        )
        return SessionError(
            f"onnxruntime {ort.__version__} cannot run the {self.bundle.precision} bundle "
            f"{self.bundle.path} on the {places}, where it has no kernels for it "
            f"({what.partition(_NO_KERNEL)[2].strip(' :')}): export the checkpoint with "
            f"--precision fp32{other}"
        )

    def _onnxruntime(self) -> Any:
        try:
            ort = importlib.import_module("onnxruntime")
        except ImportError as error:
            if means_low_memory(error):
                raise LowMemoryError("to load onnxruntime") from None
            raise SessionError(
                f"onnxruntime is installed but does not load ({_line(error)}): install it again"
            ) from None
        wanted = PROVIDERS[self.device][0]
        if wanted not in ort.get_available_providers():
            raise SessionError(
                f"device '{self.device}' needs {wanted}, the installed onnxruntime "
                f"{ort.__version__} lacks it: pip uninstall onnxruntime, then "
                "pip install 'sam2rt[gpu]'"
            )
        return ort

    def _preload(self, ort: Any) -> None:
        if self.device != "cpu" and hasattr(ort, "preload_dlls"):
            # CUDA libraries that came as pip packages are on no search path; those that are not
            # found are printed
            with contextlib.redirect_stdout(io.StringIO()) as said:
                ort.preload_dlls()
            self._unloaded = next(iter(said.getvalue().splitlines()), "")

    def _options(self, ort: Any) -> Any:
        options = ort.SessionOptions()
        # errors arrive as exceptions: the log would only repeat them on stderr
        options.log_severity_level = 4
        if self.threads is not None:
            options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        # several graphs, each with threads of its own: idle ones must not spin beside the others
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # patterns keep a block for every shape seen: half as much memory again, and no faster
        options.enable_mem_pattern = False
        return options

    def _providers(self) -> list[tuple[str, dict[str, str]]]:
        options: dict[str, dict[str, str]] = {
            "CUDAExecutionProvider": {"use_tf32": "0"},
            "TensorrtExecutionProvider": {
                # this provider reads "True" and "False", and makes one level of folders itself
                "trt_engine_cache_enable": "True",
                "trt_engine_cache_path": str(_engine_cache(self.bundle)),
            },
        }
        if self.device == "tensorrt":
            _engine_cache(self.bundle).mkdir(parents=True, exist_ok=True)
        return [(name, options.get(name, {})) for name in PROVIDERS[self.device]]


def _given_weights(options: Any, path: Path, external: tuple[BundleFile, ...]) -> list[bytes]:
    """Hand over weights that ONNX Runtime would not open; they must live until it has read them.

    It refuses files that lie, links resolved, outside the folder of the graph's link and that of
    the graph itself. Stores such as git-annex and DVC keep each file in a folder of its own.
    """
    homes = (path.parent.resolve(), path.resolve().parent)
    files = [path.parent / file.path for file in external]
    if all(any(f.resolve().is_relative_to(home) for home in homes) for f in files):
        return []
    contents = [file.read_bytes() for file in files]
    options.add_external_initializers_from_files_in_memory(
        [file.path for file in external], contents, [len(content) for content in contents]
    )
    return contents


def _engine_cache(bundle: Bundle) -> Path:
    """Where the TensorRT provider keeps engines: building one takes minutes.

    By the hash of the graphs: another export of the same checkpoint has other engines.
    """
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    hashes = "".join(onnx_digest(bundle, graph) for graph in sorted(bundle.graphs))
    key = hashlib.sha256(hashes.encode()).hexdigest()[:16]
    return Path(root) / "sam2rt" / "onnxruntime-tensorrt" / key


#: how ONNX Runtime begins when no provider of the session has an operator in some type
_NO_KERNEL = "NOT_IMPLEMENTED"


def _not_opened(path: Path, error: Exception) -> str:
    """Why a graph was not opened, and what helps."""
    remedy = "check it with 'sam2rt inspect', or make the bundle again"
    closed = opening_error(path)
    if closed is not None and machine_failed(closed):
        return f"({line_of(closed)}): {remedy_of(closed, remedy)}"
    return f"({_line(error) if path.is_file() else 'it is missing'}): {remedy}"


def _line(error: BaseException) -> str:
    """The error's message as one line of reasonable length."""
    text = " ".join(str(error).split()) or type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
