"""TensorRT on :class:`fake_cuda.FakeCuda`: engines whose work is a checksum of their inputs.

Work reads and writes the bound addresses when the stream runs it, so a missing copy, a stale
CUDA graph or a wrong address gives wrong numbers.
"""

from __future__ import annotations

import ctypes
from collections.abc import Mapping
from dataclasses import replace
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
from fake_cuda import FakeCuda

from sam2rt.configs.bundle import Bundle, file_sha256
from sam2rt.configs.graphs import GraphSpec, engine_specs
from sam2rt.export.engines.profiles import Limits, graph_profiles
from sam2rt.runtime.backends.engine_record import (
    ENGINES,
    EngineRecord,
    EngineTarget,
    onnx_digest,
    write_record,
)

VERSION = "10.16.1.11"
#: bytes of activations by graph; 1000 for others
ACTIVATIONS = {"image_encoder": 5000, "memory_attention": 9000}
MACHINE = EngineTarget(VERSION, 90, "Fake GPU", (13, 0))


def compute(spec: GraphSpec, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """What an engine of that graph gives: a ramp plus a number that depends on every input."""
    symbols = {
        dim: size
        for t in spec.inputs
        for dim, size in zip(t.shape, inputs[t.name].shape, strict=True)
        if isinstance(dim, str)
    }
    mark = sum(
        (i + 1) * float(inputs[t.name].astype(np.float64).mean() if inputs[t.name].size else 0.25)
        for i, t in enumerate(spec.inputs)
    )
    outputs = {}
    for i, t in enumerate(spec.outputs):
        shape = tuple(symbols[d] if isinstance(d, str) else d for d in t.shape)
        ramp = np.arange(int(np.prod(shape)), dtype=np.float64).reshape(shape) / 1e3
        outputs[t.name] = (ramp + mark + i).astype(t.dtype)
        if t.name in ("mask_logits", "all_mask_logits"):
            # masks with holes and specks, others at every input
            outputs[t.name] = np.sin(1e4 * ramp + mark).astype(t.dtype) * 4 + np.float32(1)
    return outputs


class Strategy(IntEnum):
    """Names and values of ``ExecutionContextAllocationStrategy``."""

    STATIC, ON_PROFILE_CHANGE, USER_MANAGED = 0, 1, 2


class Context:
    def __init__(self, engine: Engine, strategy: Strategy) -> None:
        self._engine = engine
        #: where activations lie, and how many bytes there are
        self._scratch = (0, 0)
        self._own = 0
        if strategy is Strategy.STATIC:
            _, self._own = engine.cuda.cudaMalloc(engine.device_memory_size_v2)
            self._scratch = self._own, engine.device_memory_size_v2
        self._addresses: dict[str, int] = {}
        self._shapes: dict[str, tuple[int, ...]] = {}

    def __del__(self) -> None:
        if self._own in self._engine.cuda.allocated:
            self._engine.cuda.cudaFree(self._own)

    def set_device_memory(self, memory: int, size: int) -> None:
        assert memory % 256 == 0
        assert size >= self._engine.device_memory_size_v2
        self._scratch = memory, size

    def set_optimization_profile_async(self, profile_index: int, stream_handle: int) -> bool:
        return 0 <= profile_index < 3

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self._addresses[name] = memory
        return True

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self._shapes[name] = tuple(shape)
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        if self._engine.uncapturable and stream_handle in self._engine.cuda.capturing:
            return False
        # addresses and shapes are those of the call, also when a graph replays it later
        addresses, shapes, scratch = dict(self._addresses), dict(self._shapes), self._scratch
        self._engine.cuda.enqueue(stream_handle, lambda: self._work(addresses, shapes, scratch))
        return not self._engine.refuse

    def _work(
        self,
        addresses: dict[str, int],
        shapes: dict[str, tuple[int, ...]],
        scratch: tuple[int, int],
    ) -> None:
        spec = self._engine.spec
        inputs = {t.name: _at(addresses[t.name], shapes[t.name], t.dtype) for t in spec.inputs}
        self._engine.runs.append(addresses)
        # activations overwrite what lies there, and a block that was given back is nobody's
        memory, size = scratch
        assert self._engine.cuda.allocated[memory][1] >= size
        ctypes.memset(memory, len(self._engine.runs) % 256, size)
        for name, value in compute(spec, inputs).items():
            _at(addresses[name], value.shape, value.dtype)[...] = value


class Engine:
    device_memory_size_v2 = 1000

    def __init__(self, cuda: FakeCuda, spec: GraphSpec) -> None:
        self.device_memory_size_v2 = ACTIVATIONS.get(spec.name, 1000)
        self.cuda, self.spec, self.refuse = cuda, spec, False
        #: TensorRT has engines that run but cannot be recorded
        self.uncapturable = False
        #: the addresses of each run, in the order in which the runs happened
        self.runs: list[dict[str, int]] = []

    def create_execution_context(self, strategy: Strategy = Strategy.STATIC) -> Context:
        return Context(self, strategy)


class FakeTensorRT(ModuleType):
    """Stands in for the module ``tensorrt``; `loaded` lists the engines it deserialised."""

    def __init__(self, bundle: Bundle, cuda: FakeCuda) -> None:
        super().__init__("tensorrt")
        self.__version__ = VERSION
        self.loaded: list[Engine] = []
        fake = self

        class Severity:
            INTERNAL_ERROR, ERROR, WARNING = 0, 1, 2

        class ILogger:
            pass

        class Runtime:
            engine_host_code_allowed = False

            def __init__(self, logger: Any) -> None:
                assert isinstance(logger, ILogger)

            def deserialize_cuda_engine(self, serialized_engine: bytes) -> Engine | None:
                kind, _, graph = serialized_engine.partition(b":")
                # an engine for later TensorRT brings code of its own
                if kind != b"engine" and not (
                    kind == b"portable" and self.engine_host_code_allowed
                ):
                    return None
                fake.loaded.append(Engine(cuda, bundle.graphs[graph.decode()].spec))
                return fake.loaded[-1]

        ILogger.Severity = Severity  # type: ignore[attr-defined]
        self.ILogger, self.Runtime = ILogger, Runtime
        self.ExecutionContextAllocationStrategy = Strategy


def _at(address: int, shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    kind = np.dtype(dtype)
    count = int(np.prod(shape, dtype=np.int64))
    raw = (ctypes.c_char * (count * kind.itemsize)).from_address(address)
    return np.frombuffer(raw, kind).reshape(shape)


def write_engines(bundle: Bundle, **changed: Any) -> Path:
    """Engines with their records, as a build leaves them; `changed` fields in the records."""
    folder = bundle.path / ENGINES / MACHINE.folder
    folder.mkdir(parents=True, exist_ok=True)
    for name in engine_specs(bundle.model):
        entry = bundle.graphs[name]
        path = folder / f"{name}.engine"
        path.write_bytes(f"engine:{name}".encode())
        record = EngineRecord(
            graph=name, source=name, size=path.stat().st_size, sha256=file_sha256(path),
            onnx=onnx_digest(bundle, name), tensorrt=VERSION, arch=90, gpu="Fake GPU",
            driver=(13, 0), precision=bundle.precision, attention="folded",
            hardware_compatible=False, version_compatible=False, device_memory=1000,
            profiles=graph_profiles(entry.spec, bundle.model, Limits(objects=2, memories=8)),
        )  # fmt: skip
        write_record(path, replace(record, **changed))
    return folder
