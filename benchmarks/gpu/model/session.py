"""A bundle's graphs on torch as a session of the runtime: trackers and proofs run on it unchanged.

Each graph is captured as a CUDA graph for each set of shapes and replayed from then on.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.utils.dlpack
from torch import Tensor

from ....configs.bundle import Bundle, Precision
from ....configs.graphs import graph_specs, kept_outputs
from ....configs.models import ModelConfig
from ....runtime.arrays import Array
from ....runtime.bank import SlotBuffer
from ....runtime.gpu import cuda
from ....runtime.gpu.interop import DeviceView
from ....runtime.gpu.ring import DeviceSlotBuffer
from ....runtime.gpu.tensor import DeviceTensor, Pool, on_device
from ....runtime.pixel_kernels import PixelKernels
from ....runtime.pixels.gpu_kernels import GpuPixels
from ....runtime.session import Into, Session, check_inputs
from ..stage import Stage, captured
from .executor import GraphExecutor


class Replay:
    """One graph for one set of shapes: inputs and outputs stay where they are."""

    def __init__(self, stage: Stage, run: GraphExecutor, inputs: Mapping[str, Tensor]) -> None:
        self.inputs = {name: tensor.clone() for name, tensor in inputs.items()}
        self.outputs: dict[str, Tensor] = {}

        def work() -> None:
            self.outputs = run(self.inputs)

        with torch.inference_mode():
            self._work = captured(stage, work)

    def __call__(self) -> None:
        with torch.inference_mode():
            self._work()


class TorchSession(Session):
    """Runs executors of graphs; host arrays in and out.

    With `kernels`, a folder of compiled pixel kernels, what the next graph takes and pixels stay
    on the GPU, as with engines; that needs cuda-bindings. `replaying` False leaves the graphs'
    own work out: what remains of a frame is the host's time.
    """

    def __init__(
        self,
        stage: Stage,
        bundle: Bundle,
        executors: Mapping[str, GraphExecutor],
        kernels: Path | None = None,
    ) -> None:
        self.bundle, self.device = bundle, stage.device
        self.replaying = True
        self._stage, self._executors = stage, executors
        self._replays: dict[Any, Replay] = {}
        self._stream: cuda.Stream | None = None
        self._pool = Pool()
        self._pixels: GpuPixels | None = None
        if kernels is not None:
            self._stream = cuda.Stream()
            self._pixels = GpuPixels(kernels, self._stream, self._pool)

    @property
    def graphs(self) -> tuple[str, ...]:
        return tuple(self._executors)

    @property
    def overlaps(self) -> bool:
        return False

    def pixels(self) -> PixelKernels | None:
        return self._pixels

    def slot_buffer(self) -> SlotBuffer:
        if self._stream is None:
            return super().slot_buffer()
        return DeviceSlotBuffer(self.bundle.model, self._pool, self._stream)

    def close(self) -> None:
        """Free graphs and what lies on the device."""
        self._replays.clear()
        if self._pixels is not None and self._stream is not None:
            self._pixels.close()
            self._pool.close()
            self._stream.close()
            self._pixels = self._stream = None

    def run(
        self, graph: str, inputs: Mapping[str, Array], into: Into | None = None
    ) -> dict[str, Array]:
        """Run one graph; see :class:`~sam2rt.runtime.session.Session`."""
        spec = graph_specs(self.bundle.model)[graph]
        if self._stream is not None:
            inputs = {name: on_device(array, self._stream) for name, array in inputs.items()}
        checked = check_inputs(spec, inputs)
        with self._current():
            given = {name: self._tensor(array) for name, array in checked.items()}
            replay = self._replay(graph, given)
            if self.replaying:
                replay()
            keep = kept_outputs(graph, masks=True) if self._stream is not None else ()
            return {
                t.name: self._given(
                    replay.outputs[t.name], t.name in keep, (into or {}).get(t.name)
                )
                for t in spec.outputs
            }

    def _replay(self, graph: str, given: Mapping[str, Tensor]) -> Replay:
        key = (graph, *(tuple(t.shape) for t in given.values()))
        found = self._replays.get(key)
        if found is None:
            made = Replay(self._stage, self._executors[graph], given)
            return self._replays.setdefault(key, made)
        for name, tensor in given.items():
            found.inputs[name].copy_(tensor, non_blocking=True)
        return found

    def _current(self) -> Any:
        if self._stream is None:
            return contextlib.nullcontext()
        return torch.cuda.stream(torch.cuda.ExternalStream(self._stream.handle))  # type: ignore[no-untyped-call]

    def _tensor(self, array: Any) -> Tensor:
        if isinstance(array, DeviceTensor):
            return as_torch(array)
        host = np.asarray(array)
        # torch takes arrays that may be written to
        return torch.from_numpy(host if host.flags.writeable else host.copy()).to(self.device)

    def _given(self, made: Tensor, keep: bool, places: Sequence[Any] | None) -> Any:
        if places is not None:
            for i, place in enumerate(places):
                as_torch(place).copy_(made[i])
            return places
        if not keep or self._stream is None:
            return made.cpu().numpy().copy()
        kept = DeviceTensor.pooled(self._pool, tuple(made.shape), np.float32, self._stream)
        as_torch(kept).copy_(made)
        return kept


def as_torch(tensor: DeviceTensor) -> Tensor:
    """The same memory as torch's, without waiting for anything; keep `tensor` meanwhile."""
    view = DeviceView(tensor.pointer, tensor.shape, tensor.dtype.name, tensor.owner)
    made: Tensor = torch.utils.dlpack.from_dlpack(view)
    return made


def graphs_bundle(folder: Path, config: ModelConfig, precision: Precision) -> Bundle:
    """A bundle without a manifest, for sessions that are given their graphs."""
    return Bundle(
        path=folder,
        model=config,
        precision=precision,
        opset=0,
        checkpoint_sha256="",
        generator="",
        graphs={},
        proof={},
        proof_files={},
    )
