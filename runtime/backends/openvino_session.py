"""The OpenVINO backend: processors with 16-bit units, and the other devices it opens.

Precision lives in the graphs, and nothing else changes it: those of a bf16 bundle run their
products in bfloat16 and keep float32 where the exporter left it, those of an fp32 bundle are
float32 throughout. Each graph is compiled for the sizes of a clip's steady state, one image or
object with all memories and pointers, when these first come; every other size takes a model
with dynamic sizes. Which of the two runs depends on the sizes alone, so that results do not
depend on what ran before. Compiled graphs are kept in the user's cache (compiled_models.py).

Frames take the three separate graphs. In ``track_step`` at fixed sizes and bfloat16, OpenVINO
2026.4 fuses the decoder's attentions of narrow heads into code with wrong results; the decoder by
itself, whose number of points varies, is not fused that way.
"""

from __future__ import annotations

import importlib
import os
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.bundle import Bundle, Precision
from ...configs.checks import whole_number
from ...configs.errors import InputError, SessionError
from ...configs.extras import extras_of
from ...configs.graphs import GraphSpec, engine_specs
from ...configs.models import ModelConfig
from ...configs.staging import temporary_folder
from ..arrays import Array
from ..compiled_models import keep_model, kept_model, model_key
from ..session import Into, Session, check_inputs
from ..stopping import Stoppable
from .engine_record import onnx_digest

#: what OpenVINO calls the units that a bundle of that precision needs
UNITS: dict[Precision, str] = {"fp16": "FP16", "bf16": "BF16"}
ATTENTION = "memory_attention"
#: sizes of the dynamic dimensions of a call, by the contract's symbols
Sizes = Mapping[str, int]


class OpenVinoSession(Session):
    """Runs a bundle's graphs with OpenVINO.

    device: "cpu", or another that OpenVINO finds, such as "gpu", "gpu.1" or "npu". `threads`
    is the number of CPU threads of a call (None: OpenVINO's choice). Entering compiles the graphs;
    without entering, each is compiled when it is first run. Safe to share between threads.

    Raises MissingExtraError without the package, SessionError for a device that OpenVINO does
    not find and for a half-precision bundle where the device lacks units for it: it would run in
    float32 without a word.
    """

    def __init__(self, bundle: Bundle, device: str = "cpu", threads: int | None = None) -> None:
        if threads is not None:
            threads = whole_number("threads", threads, 1, ", or None for all cores")
        self.bundle = bundle
        self.device = device
        self.threads = threads
        self._core = openvino_module().Core()
        self._name = _present(self._core, device)
        _check_units(self._core, self._name, bundle.precision)
        self._steady = steady_sizes(bundle.model)
        self._closed = False
        self._compiled: dict[tuple[str, bool], Any] = {}
        self._lock = threading.Lock()
        #: one request a thread and model: a request serves one call at a time
        self._threads = threading.local()

    def run(
        self, graph: str, inputs: Mapping[str, Array], into: Into | None = None
    ) -> dict[str, Array]:
        """Run one graph; see :class:`~sam2rt.runtime.session.Session`."""
        self._open_still()
        if graph not in self.graphs:
            known = ", ".join(self.graphs)
            raise InputError(f"unknown graph '{graph}': expected one of {known}")
        spec = self.bundle.graphs[graph].spec
        checked = check_inputs(spec, inputs)
        if graph == ATTENTION and len(checked["memory"]) > 1:
            return self._per_object(spec, checked)
        return self._run(spec, checked)

    def _per_object(self, spec: GraphSpec, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Objects one after another: at sizes that a graph is compiled for, in bounded memory."""
        made = []
        for i in range(len(inputs["memory"])):
            own = {name: a if len(a) == 1 else a[i : i + 1] for name, a in inputs.items()}
            made.append(self._run(spec, own))
        return {name: np.concatenate([one[name] for one in made]) for name in made[0]}

    def _run(self, spec: GraphSpec, checked: dict[str, Array]) -> dict[str, Array]:
        graph = spec.name
        request = self._request(graph, self._is_steady(spec, checked))
        try:
            with Stoppable(request.cancel):
                # the outputs are copies: a request's own are overwritten by its next call
                found = request.infer(checked, share_inputs=True)
            return {tensor.name: found[tensor.name] for tensor in spec.outputs}
        except Exception as error:
            raise SessionError(
                f"graph {graph} failed on OpenVINO's {self._name} ({_line(error)}): fewer objects "
                "per call or a smaller image size need less memory"
            ) from None

    @property
    def graphs(self) -> tuple[str, ...]:
        """The separate graphs; what ``track_step`` does, they do in three calls."""
        return tuple(engine_specs(self.bundle.model))

    @property
    def max_images(self) -> int | None:
        """One image a call: the size that the encoder is compiled for."""
        return 1

    def check_graphs(self) -> None:
        """Read each graph and ask whether the device has its operators; nothing is compiled."""
        for graph in self.graphs:
            model = self._read(graph)
            known = self._core.query_model(model, self._name)
            lacking = {o.get_type_name() for o in model.get_ops()} - {
                o.get_type_name() for o in model.get_ops() if o.get_friendly_name() in known
            }
            if lacking:
                raise SessionError(
                    f"OpenVINO's {self._name} lacks {', '.join(sorted(lacking))} of {graph}: use "
                    "the backend onnxruntime"
                )

    def close(self) -> None:
        """Free the graphs; running one again raises InputError."""
        self._closed = True
        self._free()

    def _free(self) -> None:
        with self._lock:
            self._compiled.clear()
            self._threads = threading.local()

    def __enter__(self) -> OpenVinoSession:
        self._open_still()
        try:
            for graph, spec in engine_specs(self.bundle.model).items():
                # as it is first needed: memories, pointers and points grow
                self._model(graph, steady={"M", "K", "P"}.isdisjoint(spec.dynamic))
        except BaseException:
            self._free()
            raise
        return self

    def _open_still(self) -> None:
        if self._closed:
            raise InputError("the session is closed: make another one")

    def _is_steady(self, spec: GraphSpec, inputs: Mapping[str, Array]) -> bool:
        """Whether all sizes of a call are those that a graph is compiled for."""
        return all(
            size == self._steady.get(dim, dim)
            for tensor in spec.inputs
            for dim, size in zip(tensor.shape, inputs[tensor.name].shape, strict=True)
            if isinstance(dim, str)
        )

    def _request(self, graph: str, steady: bool) -> Any:
        made = self._threads.__dict__.setdefault("requests", {})
        if (graph, steady) not in made:
            made[graph, steady] = self._model(graph, steady).create_infer_request()
        return made[graph, steady]

    def _model(self, graph: str, steady: bool) -> Any:
        with self._lock:
            self._open_still()
            if (graph, steady) not in self._compiled:
                self._compiled[graph, steady] = self._compile(graph, steady)
            return self._compiled[graph, steady]

    def _compile(self, graph: str, steady: bool) -> Any:
        shapes = _shapes(self.bundle.graphs[graph].spec, self._steady if steady else {})
        options, key = self._options(), self._key(graph, shapes)
        if key and (kept := kept_model(self._core, key, self._name, options)):
            return kept
        model = self._read(graph)
        try:
            model.reshape(shapes)
            compiled = self._core.compile_model(model, self._name, options)
        except Exception as error:
            raise self._not_opened(graph, error) from None
        if key:
            keep_model(compiled, key)
        return compiled

    def _key(self, graph: str, shapes: dict[str, list[int]]) -> str:
        """What a compiled graph is kept under; "" where the device keeps none, or the graph's
        files are not there: what is missing must not be answered for."""
        files = self.bundle.graphs[graph].external
        path = self.bundle.graph_path(graph)
        units = capabilities(self._core, self._name)
        there = all(one.is_file() for one in (path, *(path.parent / file.path for file in files)))
        if "EXPORT_IMPORT" not in units or not there:
            return ""
        return model_key(
            {
                "graph": onnx_digest(self.bundle, graph),
                "shapes": shapes,
                "openvino": openvino_module().__version__,
                "device": [self._name, self._core.get_property(self._name, "FULL_DEVICE_NAME")],
                "units": sorted(units),
                "precision": self.bundle.precision,
                "options": self._options(),
            }
        )

    def _read(self, graph: str) -> Any:
        path, external = self.bundle.graph_path(graph), self.bundle.graphs[graph].external
        try:
            with _side_by_side(path, [file.path for file in external]) as readable:
                return self._core.read_model(readable)
        except Exception as error:
            raise self._not_opened(graph, error) from None

    def _not_opened(self, graph: str, error: Exception) -> SessionError:
        path = self.bundle.graph_path(graph)
        what = _line(error) if path.is_file() else "it is missing"
        version = openvino_module().__version__.partition("-")[0]
        return SessionError(
            f"cannot open graph {path} with OpenVINO {version} on {self._name} ({what}): check "
            "it with 'sam2rt inspect', or use the backend onnxruntime"
        )

    def _options(self) -> dict[str, Any]:
        # what is float32 in the graph stays float32; OpenVINO would lower it where it can
        half = self._name != "CPU" and self.bundle.precision == "fp16"
        options: dict[str, Any] = {
            "INFERENCE_PRECISION_HINT": "f16" if half else "f32",
            "PERFORMANCE_HINT": "LATENCY",
        }
        if self.threads is not None and self._name == "CPU":
            options["INFERENCE_NUM_THREADS"] = self.threads
        return options


@contextmanager
def _side_by_side(path: Path, weights: Sequence[str]) -> Iterator[Path]:
    """The path of a graph whose weights lie in its folder when links are resolved.

    OpenVINO reads no others; a folder of links gets a temporary one of the files themselves.
    """
    real = {name: (path.parent / name).resolve() for name in (path.name, *weights)}
    if all(file.is_relative_to(path.parent.resolve()) for file in real.values()):
        yield path
        return
    with temporary_folder() as folder:
        for name, file in real.items():
            copy = folder / name
            copy.parent.mkdir(parents=True, exist_ok=True)
            try:
                os.link(file, copy)
            except OSError:
                # another file system
                shutil.copyfile(file, copy)
        yield folder / path.name


def steady_sizes(config: ModelConfig) -> dict[str, int]:
    """Sizes of a frame once memories have grown: one image, one object, all that it remembers."""
    singles = dict.fromkeys(("B", "N", "I", "G"), 1)
    return {**singles, "M": config.num_maskmem, "K": config.max_obj_ptrs}


def _shapes(spec: GraphSpec, sizes: Sizes) -> dict[str, list[int]]:
    """Shapes of a graph's inputs for these sizes; -1 where a size stays dynamic."""
    return {
        tensor.name: [sizes.get(dim, -1) if isinstance(dim, str) else dim for dim in tensor.shape]
        for tensor in spec.inputs
    }


def openvino_module() -> Any:
    """The module ``openvino``; MissingExtraError without it."""
    with extras_of("the openvino backend"):
        return importlib.import_module("openvino")


def _present(core: Any, device: str) -> str:
    """OpenVINO's name of a device, which must be there."""
    name, found = device.upper(), list(core.available_devices)
    # "GPU" is the first of several
    if name not in found and f"{name}.0" not in found:
        known = ", ".join(one.lower() for one in found)
        raise SessionError(
            f"OpenVINO finds no device '{device}' on this machine: expected one of {known}"
        )
    return name


def capabilities(core: Any, name: str) -> list[str]:
    """What OpenVINO says of a device's units, such as "FP32", "BF16", "INT8"."""
    return list(core.get_property(name, "OPTIMIZATION_CAPABILITIES"))


def _check_units(core: Any, name: str, precision: Precision) -> None:
    unit = UNITS.get(precision)
    if unit and unit not in capabilities(core, name):
        raise SessionError(
            f"OpenVINO's {name} has no units for {precision} on this machine and would run the "
            f"{precision} bundle in float32: export with --precision fp32, which is as fast here"
        )


def _line(error: BaseException) -> str:
    """The last line of an error, which names the cause: OpenVINO's first ones name its files."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    text = lines[-1] if lines else type(error).__name__
    return text if len(text) <= 300 else text[:297] + "..."
