"""One build: engines of single graphs into a folder, each with its record, and their proof."""

from __future__ import annotations

import dataclasses
import hashlib
import importlib
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from ...configs.bundle import Bundle
from ...configs.errors import SessionError
from ...configs.graphs import FULL, OPERATOR, WHOLE, variant_name
from ...configs.progress import Progress
from ...plugins import memory_cross_attention as op
from ...plugins.compiling import newest_ptx
from ...plugins.registry import digests
from ...plugins.tensorrt_plugins import PLUGIN_ID, AttentionSettings, precompile, register_attention
from ...runtime.backends.engine_record import (
    EngineRecord,
    EngineTarget,
    Ranges,
    onnx_digest,
    read_record,
    write_record,
)
from ...runtime.backends.tensorrt_library import Messages, make_logger
from ...runtime.backends.tensorrt_session import TensorRTSession
from .engine_from_onnx import engine_from_onnx
from .onnx_functions import without_functions
from .options import BuildOptions
from .profiles import graph_profiles
from .proof import prove_session

#: what the plugin's tensors are in a bundle of that precision
PLUGIN_TYPES: Mapping[str, str] = {"fp16": "float16", "bf16": "bfloat16"}


#: variants of memory attention that are graphs of their own
_SOURCES = {"full": FULL, "operator": OPERATOR}


def source_graph(bundle: Bundle, graph: str, attention: str) -> str:
    """The variant of the graph that is built: the one for engines, where the bundle has it."""
    name = variant_name(graph, _SOURCES.get(attention, WHOLE))
    return name if name in bundle.graphs else graph


@dataclass
class BuildJob:
    """One build into the folder `work`; `seconds` it took so far, per graph."""

    trt: ModuleType
    bundle: Bundle
    options: BuildOptions
    machine: EngineTarget
    multiprocessors: int
    work: Path
    progress: Progress
    seconds: dict[str, float] = field(default_factory=dict)

    def build(self, graph: str, attention: str) -> None:
        """Build one engine and its record into the work folder."""
        started = time.monotonic()
        path = self.bundle.graph_path(source_graph(self.bundle, graph, attention))
        model = path.read_bytes()
        if attention == "plugin":
            model = without_functions(model, {op.NAME})
            self._register()
        options = dataclasses.replace(self.options.engine, precision=self.bundle.precision)
        engine = engine_from_onnx(
            self.trt, model, path, self._profiles(graph), options, self.progress
        )
        target = self.work / f"{graph}.engine"
        target.write_bytes(engine)
        write_record(target, self._record(graph, attention, engine))
        # of memory attention several variants may be built
        self.seconds[graph] = self.seconds.get(graph, 0.0) + time.monotonic() - started

    def _profiles(self, graph: str) -> tuple[Ranges, ...]:
        spec = self.bundle.graphs[graph].spec
        return graph_profiles(spec, self.bundle.model, self.options.limits)

    def _record(self, graph: str, attention: str, engine: bytes) -> EngineRecord:
        source = source_graph(self.bundle, graph, attention)
        plugin = attention == "plugin"
        return EngineRecord(
            graph=graph,
            size=len(engine),
            sha256=hashlib.sha256(engine).hexdigest(),
            source=source,
            onnx=onnx_digest(self.bundle, source),
            tensorrt=self.machine.tensorrt,
            arch=self.machine.arch,
            gpu=self.machine.gpu,
            driver=self.machine.driver,
            precision=self.bundle.precision,
            attention=attention,
            hardware_compatible=self.options.engine.hardware_compatible,
            version_compatible=self.options.engine.version_compatible,
            device_memory=self._device_memory(engine, graph),
            profiles=self._profiles(graph),
            kernels={PLUGIN_ID: digests()[PLUGIN_ID]} if plugin else {},
            splits=self._splits() if plugin else 1,
        )

    def session(self) -> TensorRTSession:
        """A session over the engines of the work folder, as users open one."""
        # the work folder lies beside the final one, so it is named like another machine's
        return TensorRTSession(self.bundle, engines=self.work.name)

    def prove(self) -> Mapping[str, Any]:
        """Prove the engines in the work folder and write the result into their records."""
        with self.session() as session:
            measured = prove_session(self.bundle, session, self.progress)
        for graph in self.seconds:
            path = self.work / f"{graph}.engine"
            write_record(path, dataclasses.replace(read_record(path), proof=measured))
        return measured

    def _splits(self) -> int:
        queries = self.bundle.model.embed_size**2
        return op.split_count(queries, 1, self.multiprocessors)

    def _register(self) -> None:
        """Register our attention kernel with TensorRT for this bundle and GPU."""
        model = self.bundle.model
        settings = AttentionSettings(
            self.machine.arch, model.hidden_dim, model.mem_dim, self._splits()
        )
        trtp = importlib.import_module("tensorrt.plugin")
        codes = precompile(settings, PLUGIN_TYPES[self.bundle.precision])
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
