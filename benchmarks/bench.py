"""Compare systems on the same work, frame by frame in turn, and report."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from ..configs.bundle import Bundle
from ..configs.errors import InputError
from .machine import Machine, this_machine
from .systems import STAGES, Measured, Work, Worker

SCHEMA = 1
PEERS = {"transformers": f"{__package__}.peers:TransformersSystem"}
Progress = Callable[[str], None]


def bench_bundle(
    bundle: Bundle,
    work: Work,
    *,
    backend: str = "onnxruntime",
    device: str = "cpu",
    frames: int = 10,
    peers: Sequence[str] = (),
    progress: Progress = lambda text: None,
) -> dict[str, Any]:
    """Measure a bundle, and peers on the same work in the same run; gives the report as JSON data.

    One frame is not counted, then `frames` of each system are taken in turn. Times are wall
    seconds. Raises InputError for an unknown peer, SessionError when a system fails.
    """
    if unknown := [p for p in peers if p not in PEERS]:
        raise InputError(f"unknown peer {unknown[0]!r}: known are {', '.join(PEERS)}")
    machine = this_machine()
    ours = f"sam2rt {backend} {device} {bundle.precision}"
    with ExitStack() as stack:
        options = {"bundle": str(bundle.path), "backend": backend, "device": device}
        workers = [Worker(ours, f"{__package__}.ours:OurSystem", work, **options)]
        workers += [Worker(p, PEERS[p], work, model=bundle.model) for p in peers]
        for worker in workers:
            stack.enter_context(worker)
            progress(f"preparing {worker.measured.name}")
            worker.prepare()
            worker.frame()
            worker.measured.frames.clear()
        for index in range(frames):
            progress(f"frame {index + 1} of {frames}")
            for worker in workers:
                worker.frame()
        for worker in workers:
            worker.finish()
    return report(machine, bundle, work, [w.measured for w in workers])


def report(
    machine: Machine, bundle: Bundle, work: Work, systems: Sequence[Measured]
) -> dict[str, Any]:
    """Everything measured, as JSON data; the first system is what others are compared with."""
    base = systems[0]
    return {
        "schema": SCHEMA,
        "machine": machine.as_dict(),
        "model": bundle.model.name,
        "image_size": bundle.model.image_size,
        "work": asdict(work),
        "systems": [
            {
                "name": s.name,
                **s.facts,
                "stages": {name: _summary(s.stage(name)) for name in (*STAGES, "total")},
                "times_faster": {
                    name: float(np.median(s.stage(name)) / np.median(base.stage(name)))
                    for name in (*STAGES[:-1], "total")
                    if s is not base and s.stage(name) and base.stage(name)
                },
                "frames_per_second": float(1 / np.median(s.stage("total"))),
            }
            for s in systems
        ],
    }


def _summary(seconds: Sequence[float]) -> dict[str, float | int]:
    if not seconds:
        return {"count": 0}
    return {
        "count": len(seconds),
        "median_ms": float(np.median(seconds)) * 1e3,
        "p95_ms": float(np.percentile(seconds, 95)) * 1e3,
        "p99_ms": float(np.percentile(seconds, 99)) * 1e3,
    }


def table(data: dict[str, Any]) -> str:
    """The report as text: machine and work first, then a row per system and stage."""
    work = data["work"]
    versions = ", ".join(f"{k} {v}" for k, v in data["machine"]["versions"].items())
    m = data["machine"]
    lines = [
        f"{m['processor']}, {m['cores']} cores, {m['memory_gib']:.0f} GiB, {m['system']}, "
        f"Python {m['python']}, {m['matrix_gflops']:.0f} GFLOP/s float32 matrix rate",
        versions,
        f"{data['model']} at {data['image_size']}, {work['objects']} objects, "
        f"{work['memories']} memories, {work['pointers']} pointers, {work['threads']} threads, "
        f"frames {work['frame_size'][1]} x {work['frame_size'][0]}",
        "",
        f"{'stage':18}{'median ms':>11}{'p95 ms':>10}",
    ]
    for system in data["systems"]:
        lines.append(
            f"{system['name']}: {system['frames_per_second']:.3g} frames/s, "
            f"load {system['load_s']:.1f} s, first frame {system['first_frame_s']:.1f} s, "
            f"peak memory {system['peak_memory_mib']:.0f} MiB"
        )
        for name, s in system["stages"].items():
            if s["count"]:
                lines.append(f"  {name:16}{s['median_ms']:11.1f}{s['p95_ms']:10.1f}")
        for name, factor in system["times_faster"].items():
            lines.append(f"  sam2rt is {factor:.2f} times faster in {name}")
    return "\n".join(lines)


def compare(new: dict[str, Any], old: dict[str, Any]) -> str:
    """Medians of two reports as ratios new / old, per system and stage present in both."""
    before = {s["name"]: s["stages"] for s in old["systems"]}
    lines = [f"{'new / old':30}{'ratio':>8}"]
    for system in new["systems"]:
        for name, s in system["stages"].items():
            earlier = before.get(system["name"], {}).get(name, {"count": 0})
            if s["count"] and earlier["count"]:
                ratio = s["median_ms"] / earlier["median_ms"]
                lines.append(f"{system['name'] + ' ' + name:30}{ratio:8.2f}")
    return "\n".join(lines)


def write_json(data: dict[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a report; an interrupted write leaves the old file."""
    target = Path(path)
    part = target.with_name(target.name + ".part")
    part.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    part.replace(target)


def read_json(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a report; InputError when it is none."""
    try:
        data = json.loads(Path(path).read_text(encoding="utf-8"))
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{path} is no benchmark report ({error}): make one with --json") from None
    return data  # type: ignore[no-any-return]
