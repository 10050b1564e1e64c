"""``sam2rt build``: every graph of a bundle to an engine of this machine, proved before kept.

Runs where the engines run: neither torch nor onnx. The proof itself is given by the caller
(``prove``), which is how the build stays below the layer that owns it.
"""

from __future__ import annotations

import dataclasses
import importlib
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import numpy as np

from ...configs.bundle import Bundle, Precision, file_sha256
from ...configs.errors import BundleError, InputError, ProofError, Sam2rtError, SessionError
from ...configs.graphs import engine_specs
from ...configs.progress import Progress, silent
from ...configs.staging import replaced_folder
from ...plugins import memory_cross_attention as op
from ...plugins.compiling import newest_ptx
from ...plugins.registry import digests, triton_present
from ...plugins.tensorrt_plugins import PLUGIN_ID, AttentionSettings, precompile, register_attention
from ...runtime.backends.engine_record import (
    ENGINES,
    EngineRecord,
    EngineTarget,
    incompatibilities,
    onnx_digest,
    read_record,
    write_record,
)
from ...runtime.backends.tensorrt_library import Messages, make_logger, tensorrt_module
from ...runtime.backends.tensorrt_session import TensorRTSession
from ...runtime.gpu.cuda import device
from ...runtime.pixels.gpu_kernels import write_kernels
from ...runtime.session import Session
from .builder import EngineOptions, engine_from_onnx
from .onnx_functions import function_names, without_functions
from .profiles import Limits, graph_profiles

ATTENTIONS = ("auto", "folded", "full", "plugin")
#: forms of a graph that a bundle may carry beside it, as ``<graph>.<form>``: attention in one
#: piece, with our node; and with values at full width
WHOLE, FULL = "whole", "full"
_ATTENTION = "memory_attention"
#: what the plugin's tensors are in a bundle of that precision
_HALF: dict[str, str] = {"fp16": "float16", "bf16": "bfloat16"}
_FORMS = "export it with --engine-forms"
#: (session over the new engines) -> what the proof measured; ProofError when out of bounds
Prove = Callable[[Session], Mapping[str, Any]]


@dataclass(frozen=True)
class BuildOptions:
    """What to build. graphs: None for all. precision: None, or what the bundle must have.

    attention: "folded" (values at memory width, plain operators), "full" (values at full
    width, for fused attention that wants equal widths), "plugin" (our kernel), or "auto": each
    is built, proved and timed, and the fastest that passed is kept.
    """

    graphs: tuple[str, ...] | None = None
    precision: Precision | None = None
    attention: str = "auto"
    limits: Limits = field(default_factory=Limits)
    engine: EngineOptions = field(default_factory=EngineOptions)

    def __post_init__(self) -> None:
        if self.attention not in ATTENTIONS:
            raise InputError(
                f"unknown attention '{self.attention}': expected one of {', '.join(ATTENTIONS)}"
            )
        if self.precision is not None and self.precision not in get_args(Precision):
            known = ", ".join(get_args(Precision))
            raise InputError(f"unknown precision '{self.precision}': expected one of {known}")


@dataclass(frozen=True)
class Candidate:
    """One way memory attention was tried; error None and milliseconds set when it passed."""

    attention: str
    milliseconds: float | None = None
    error: str | None = None


@dataclass(frozen=True)
class BuildReport:
    """folder: where the engines are. seconds: per graph. candidates: of memory attention."""

    folder: Path
    machine: EngineTarget
    seconds: Mapping[str, float]
    candidates: tuple[Candidate, ...]
    proof: Mapping[str, Any]


def build_engines(
    bundle: Bundle,
    options: BuildOptions,
    prove: Prove,
    progress: Progress = silent,
) -> BuildReport:
    """Build engines into ``bundle/engines/<machine>``; all of them or nothing is kept.

    Raises InputError for options that do not fit the bundle, SessionError when TensorRT or the
    GPU fails, ProofError when no engine of a graph is close enough to the reference.
    """
    graphs = _chosen(bundle, options)
    trt = tensorrt_module()
    found = device()
    machine = EngineTarget(trt.__version__, found.arch, found.name, found.driver)
    _require_others(bundle, machine, graphs)
    final = bundle.path / ENGINES / machine.folder
    with replaced_folder(final) as work:
        _keep_others(final, work, graphs)
        job = _Job(trt, bundle, options, machine, found.multiprocessors, work, progress)
        for graph in graphs:
            if graph != _ATTENTION:
                job.build(graph, "folded")
        candidates = job.build_attention(prove) if _ATTENTION in graphs else ()
        if triton_present():
            write_kernels(work, machine.arch)
        proof = job.proof(prove)
    return BuildReport(final, machine, dict(job.seconds), candidates, proof)


def _chosen(bundle: Bundle, options: BuildOptions) -> tuple[str, ...]:
    if options.precision not in (None, bundle.precision):
        raise InputError(
            f"bundle {bundle.path} is {bundle.precision}, asked for {options.precision}: precision "
            f"lies in the graph: sam2rt export CHECKPOINT -o BUNDLE --precision {options.precision}"
        )
    if bundle.precision == "int8":
        raise InputError(
            f"bundle {bundle.path} is int8, for CPUs: sam2rt export CHECKPOINT -o BUNDLE "
            "--precision bf16 makes one for engines"
        )
    known = tuple(engine_specs(bundle.model))
    for name in options.graphs or ():
        if name not in known:
            raise InputError(f"unknown graph '{name}': expected one of {', '.join(known)}")
    return options.graphs or known


def _require_others(bundle: Bundle, machine: EngineTarget, graphs: tuple[str, ...]) -> None:
    """Engines that are not built now must be there, since the proof runs them all."""
    for name in engine_specs(bundle.model):
        if name in graphs:
            continue
        if reasons := incompatibilities(bundle, machine.folder, name, machine):
            raise BundleError(
                f"the proof needs the engine of {name} too ({reasons[0]}): build all graphs"
            )


def _keep_others(final: Path, work: Path, graphs: tuple[str, ...]) -> None:
    for path in final.glob("*") if final.is_dir() else ():
        if path.is_file() and path.stem not in graphs:
            shutil.copy2(path, work / path.name)


@dataclass
class _Job:
    """One build into the folder `work`."""

    trt: ModuleType
    bundle: Bundle
    options: BuildOptions
    machine: EngineTarget
    multiprocessors: int
    work: Path
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    def build(self, graph: str, attention: str) -> EngineRecord:
        """Build one engine and its record into the work folder."""
        started = time.monotonic()
        source = self._source(graph, attention)
        path = self.bundle.graph_path(source)
        model = path.read_bytes()
        kernels: dict[str, str] = {}
        if attention == "plugin":
            model = without_functions(model, {op.NAME})
            kernels[PLUGIN_ID] = digests()[PLUGIN_ID]
            self._register()
        entry = self.bundle.graphs[graph]
        profiles = graph_profiles(entry.spec, self.bundle.model, self.options.limits)
        engine = engine_from_onnx(
            self.trt, model, path, profiles, self.options.engine, self.progress
        )
        target = self.work / f"{graph}.engine"
        target.write_bytes(engine)
        record = EngineRecord(
            graph=graph, size=len(engine), sha256=file_sha256(target),
            source=source, onnx=onnx_digest(self.bundle, source), tensorrt=self.machine.tensorrt,
            arch=self.machine.arch, gpu=self.machine.gpu, driver=self.machine.driver,
            precision=self.bundle.precision, attention=attention,
            hardware_compatible=self.options.engine.hardware_compatible,
            version_compatible=self.options.engine.version_compatible,
            device_memory=self._device_memory(engine, graph), profiles=profiles, kernels=kernels,
            splits=self._splits() if attention == "plugin" else 1,
        )  # fmt: skip
        write_record(target, record)
        # of memory attention several forms may be built
        self.seconds[graph] = self.seconds.get(graph, 0.0) + time.monotonic() - started
        return record

    def build_attention(self, prove: Prove) -> tuple[Candidate, ...]:
        """Build memory attention as asked; for "auto" keep the fastest that passed its proof."""
        if self.options.attention != "auto":
            self._require(self.options.attention)
            self.build(_ATTENTION, self.options.attention)
            return ()
        tried: list[Candidate] = []
        best: tuple[float, bytes, bytes] | None = None
        engine, record = (self.work / f"{_ATTENTION}{end}" for end in (".engine", ".json"))
        for attention in ATTENTIONS[1:]:
            candidate = self._try(attention, prove)
            tried.append(candidate)
            if candidate.milliseconds is not None and (
                best is None or candidate.milliseconds < best[0]
            ):
                best = (candidate.milliseconds, engine.read_bytes(), record.read_bytes())
        if best is None:
            reasons = "; ".join(f"{c.attention}: {c.error}" for c in tried)
            raise ProofError(f"no form of {_ATTENTION} can be used ({reasons})")
        engine.write_bytes(best[1])
        record.write_bytes(best[2])
        return tuple(tried)

    def _try(self, attention: str, prove: Prove) -> Candidate:
        try:
            self._require(attention)
            self.build(_ATTENTION, attention)
            with self._session() as session:
                prove(session)
                return Candidate(attention, milliseconds=_time(session, self.bundle))
        except Sam2rtError as error:
            return Candidate(attention, error=str(error))
        except Exception as error:
            # bindings raise kinds of their own; one form's must not cost the others
            return Candidate(attention, error=f"{type(error).__name__}: {error}")

    def _source(self, graph: str, attention: str) -> str:
        """The form of the graph that is built."""
        form = f"{graph}.{FULL if attention == 'full' else WHOLE}"
        return form if form in self.bundle.graphs else graph

    def _require(self, attention: str) -> None:
        source = self._source(_ATTENTION, attention)
        if attention == "full" and source == _ATTENTION:
            raise BundleError(f"the bundle has no graph '{_ATTENTION}.{FULL}': {_FORMS}")
        if attention == "plugin":
            if self.bundle.precision not in _HALF:
                raise BundleError(
                    f"{PLUGIN_ID} takes float16 or bfloat16, the bundle is "
                    f"{self.bundle.precision}: export it with --precision bf16"
                )
            if op.NAME not in function_names(self.bundle.graph_path(source).read_bytes()):
                raise BundleError(f"the graph has no node {PLUGIN_ID}: {_FORMS}")
            if not triton_present():
                raise SessionError("compiling the kernel needs triton: pip install 'triton>=3.6'")

    def proof(self, prove: Prove) -> Mapping[str, Any]:
        """Prove the engines in the work folder and write the result into their records."""
        with self._session() as session:
            measured = prove(session)
        for graph in self.seconds:
            path = self.work / f"{graph}.engine"
            write_record(path, dataclasses.replace(read_record(path), proof=measured))
        return measured

    def _session(self) -> TensorRTSession:
        # the work folder lies beside the final one, so it is named like another machine's
        return TensorRTSession(self.bundle, engines=self.work.name)

    def _splits(self) -> int:
        rows = self.bundle.model.embed_size**2
        return op.split_count(rows, 1, self.multiprocessors)

    def _register(self) -> None:
        model = self.bundle.model
        settings = AttentionSettings(
            self.machine.arch, model.hidden_dim, model.mem_dim, self._splits()
        )
        trtp = importlib.import_module("tensorrt.plugin")
        codes = precompile(settings, _HALF[self.bundle.precision])
        # PTX is what TensorRT documents; a driver refuses PTX that is newer than itself
        too_new = any(code.ptx_version > newest_ptx(self.machine.driver) for code in codes)
        register_attention(self.trt, trtp, dataclasses.replace(settings, cubin=too_new))

    def _device_memory(self, engine: bytes, graph: str) -> int:
        messages = Messages()
        runtime = self.trt.Runtime(make_logger(self.trt, messages))
        if self.options.engine.version_compatible:
            # such an engine carries the runtime it was built with
            runtime.engine_host_code_allowed = True
        loaded = runtime.deserialize_cuda_engine(engine)
        if loaded is None:
            raise SessionError(
                f"TensorRT cannot load the engine of {graph} it has just built: {messages.last()}"
            )
        return int(loaded.device_memory_size_v2)


def _time(session: Session, bundle: Bundle, runs: int = 20) -> float:
    """Median milliseconds of the steady state of memory attention, copies included."""
    model, spec = bundle.model, bundle.graphs[_ATTENTION].spec
    sizes = {"N": 1, "I": 1, "M": model.num_maskmem, "K": model.max_obj_ptrs}
    stream = np.random.default_rng(0)
    inputs: dict[str, Any] = {}
    for t in spec.inputs:
        shape = tuple(sizes[d] if isinstance(d, str) else d for d in t.shape)
        if t.dtype == "int64":
            inputs[t.name] = stream.integers(0, model.num_maskmem, shape)
        else:
            inputs[t.name] = stream.standard_normal(shape).astype(t.dtype)
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        session.run(_ATTENTION, inputs)
        taken.append(time.perf_counter() - started)
    return 1e3 * sorted(taken[3:])[len(taken[3:]) // 2]
