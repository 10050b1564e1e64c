"""The half-precision proof of the model on torch, and what the host costs a frame on the driver."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ....configs.models import model_config
from ....export.proof.compare import compare
from ....export.proof.record import Record, record
from ....export.proof.report import BOUNDS, problems
from ....runtime.gpu import cuda
from ....runtime.pixels.gpu_kernels import write_kernels
from ....runtime.predictors.stream import StreamTracker
from ..stage import Stage
from .frames import attention_executor, executors, written_graphs
from .session import TorchSession, graphs_bundle

_GRAPHS = ("image_encoder", "mask_decoder", "mask_prompt", "memory_encoder")
#: frames of the proof's clip, enough for a bank of several memories
_FRAMES = 4


def half_precision_proof(stage: Stage) -> Iterator[dict[str, Any]]:
    """Each half precision against the float32 graphs on the same card, TF32 off; told one by one.

    The attention is our kernel. The float32 graphs run node by node; that they equal ONNX Runtime
    is shown on the CPU.
    """
    name = stage.models[0]
    wanted = _reference(stage, name)
    found: dict[str, Any] = {"model": name}
    for precision in stage.precisions:
        with _session(stage, name, precision) as session:
            report = compare(wanted, session, BOUNDS[precision])
        wrong = problems(report, BOUNDS[precision])
        found[precision] = {"passed": not wrong, "problems": wrong, **report.as_dict()}
        yield found


def _reference(stage: Stage, name: str) -> Record:
    config, folder = model_config(name), written_graphs(stage, name, "fp32")
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    run = executors(stage, folder, *_GRAPHS, "memory_attention", "track_step", fused=False)
    with TorchSession(stage, graphs_bundle(folder, config, "fp32"), run) as session:
        made = record(session, seed=0, frames=_FRAMES)
    torch.backends.cudnn.allow_tf32 = True
    return made


def _session(stage: Stage, name: str, precision: Any, kernels: Path | None = None) -> TorchSession:
    folder = written_graphs(stage, name, precision)
    run = executors(stage, folder, *_GRAPHS, fused=True)
    run["memory_attention"] = attention_executor(stage, folder, "plugin")
    bundle = graphs_bundle(folder, model_config(name), precision)
    return TorchSession(stage, bundle, run, kernels)


def host_time(stage: Stage) -> Iterator[dict[str, Any]]:
    """What live tracking of one object costs the host on the real driver.

    "frame_ms" is a whole frame of the runtime's tracker with its graphs on torch, pixels by our
    kernels; "host_ms" the same without the graphs' own work, "host_share" their ratio. "calls_us"
    are single calls.
    """
    found: dict[str, Any] = {"calls_us": _call_times(stage)}
    yield found
    kernels = stage.folder / "pixels"
    kernels.mkdir(exist_ok=True)
    write_kernels(kernels, stage.arch)
    frames = 4 if stage.rehearsal else 40
    with _session(stage, stage.models[0], "bf16", kernels) as session:
        found["frame_ms"] = _frame_ms(stage, session, frames)
        yield found
        session.replaying = False
        found["host_ms"] = _frame_ms(stage, session, frames)
        found["host_share"] = found["host_ms"] / found["frame_ms"]
        yield found


def _frame_ms(stage: Stage, session: TorchSession, frames: int) -> float:
    """Median of the second half, frames as host arrays in, masks as host arrays out."""
    height, width = stage.frame
    video = np.random.default_rng(0).integers(0, 256, (4, height, width, 3), dtype=np.uint8)
    taken = []
    with StreamTracker(session.bundle, session=session) as tracker:
        tracker.add_points(obj_id=1, points=[[width / 2, height / 2]], labels=[1])
        for index in range(frames):
            started = time.perf_counter()
            # masks are made when they are looked at
            np.asarray(tracker.step(video[index % len(video)]).masks)
            taken.append(1e3 * (time.perf_counter() - started))
    steady = sorted(taken[frames // 2 :])
    return steady[len(steady) // 2]


def _call_times(stage: Stage) -> dict[str, float]:
    """Microseconds of the host for single calls of the device layer, work itself next to none."""
    count = 3 if stage.rehearsal else 1000
    with cuda.Stream() as stream, cuda.Buffer(1 << 20) as a, cuda.Buffer(1 << 20) as b:
        host = np.zeros(64, np.uint8)

        def device_copy() -> None:
            cuda.copy(b.pointer, a.pointer, 64, stream)

        device_copy()
        with cuda.Graph(stream, device_copy) as graph, cuda.Event() as event:
            calls: dict[str, Callable[[], None]] = {
                "select": lambda: cuda.select(0),
                "copy_on_device": device_copy,
                "copy_up": lambda: cuda.copy(a.pointer, host.ctypes.data, 64, stream),
                "graph_launch": lambda: graph.replay(stream),
                "event_record": lambda: event.record(stream),
                "event_wait": lambda: stream.wait(event),
                "synchronize": stream.synchronize,
            }
            return {name: _microseconds(call, count, stream) for name, call in calls.items()}


def _microseconds(call: Callable[[], None], count: int, stream: cuda.Stream) -> float:
    stream.synchronize()
    started = time.perf_counter()
    for _ in range(count):
        call()
    taken = time.perf_counter() - started
    stream.synchronize()
    return 1e6 * taken / count
