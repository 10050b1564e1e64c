"""The one report from which text, JSON and plot are made.

A number stands in it together with the machine, the versions, precision, image size, objects and
memory depth, or it does not stand in it: a report that lacks one of them cannot be made.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.errors import InputError
from ...configs.staging import replaced_file
from .machine import Machine
from .systems.system import CPU, STAGES, TRACKING, Measured, Work, stage_seconds

SCHEMA = 2
#: rows of a system: its stages, what they are per object together, whole frames, processor time
ROWS = (*STAGES, "tracking", "total", "cpu")
#: other work that a comparison may go through: more and more memories, more and more objects
PHASES = ("growing", "objects")
#: keys of reports of the same schema that got other names
_NEW_NAMES = {
    "judged_frames": "scored_frames",
    "clip_frame_ahead_s": "clip_frame_prefetched_s",
}
#: rows that are compared between systems: what lies between graphs differs in meaning
COMPARED = (*STAGES[:-1], "tracking", "total")


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one stage over `count` frames, and its matrix operations where counted.

    cpu_ms: median processor time, all threads together; other programs do not add to it.
    """

    count: int
    median_ms: float
    p95_ms: float
    p99_ms: float
    gflop: float | None = None
    cpu_ms: float | None = None

    @classmethod
    def of(
        cls, seconds: Sequence[float], operations: float | None = None, cpu: Sequence[float] = ()
    ) -> Timing:
        p50, p95, p99 = (float(np.percentile(seconds, p)) * 1e3 for p in (50, 95, 99))
        gflop = None if operations is None else operations / 1e9
        return cls(len(seconds), p50, p95, p99, gflop, float(np.median(cpu)) * 1e3 if cpu else None)

    def share(self, gflops: float) -> float | None:
        """Of the machine's matrix rate, 0 to 1; None where operations were not counted."""
        if not self.gflop or not gflops:
            return None
        return self.gflop / (self.median_ms / 1e3) / gflops


@dataclass(frozen=True)
class Point:
    """A system at other work: so many objects, memories and pointers; phase: one of PHASES."""

    phase: str
    objects: int
    memories: int
    pointers: int
    peak_memory_mib: float
    stages: Mapping[str, Timing]


@dataclass(frozen=True)
class SystemReport:
    """One system: its precision, whose weights it has, and everything measured on it.

    weights: "same" as the first system's, or "other". facts: seconds of its start and memory.
    accuracy: against `against`, or the reason why masks were not compared. A system that could
    not run has `not_run` and no numbers.
    """

    name: str
    precision: str
    weights: str
    facts: Mapping[str, float] = field(default_factory=dict)
    stages: Mapping[str, Timing] = field(default_factory=dict)
    accuracy: Mapping[str, Any] = field(default_factory=dict)
    points: tuple[Point, ...] = ()
    not_run: str = ""

    @property
    def label(self) -> str:
        """Name and precision, which most names hold already."""
        named = self.precision in self.name.split()
        return self.name if named else f"{self.name}, {self.precision}"


@dataclass(frozen=True)
class BenchReport:
    """A comparison. Raises InputError when what its numbers were measured on is missing."""

    machine: Machine
    model: str
    image_size: int
    work: Work
    systems: tuple[SystemReport, ...]

    def __post_init__(self) -> None:
        missing = [
            what
            for what, there in (
                ("the processor", self.machine.processor),
                ("versions", self.machine.versions),
                ("the model", self.model),
                ("the image size", self.image_size > 0),
                ("objects", self.work.objects > 0),
                ("the memory depth", self.work.memories > 0),
                ("the precision of each system", all(s.precision for s in self.systems)),
            )
            if not there
        ]
        if missing:
            raise InputError(
                f"a report cannot be made without {', '.join(missing)}: a number alone says nothing"
            )

    @property
    def frames(self) -> str:
        """What was fed."""
        height, width = self.work.frame_size
        source = "noise" if self.work.video is None else Path(self.work.video).name
        return f"{source} {width} x {height}"

    def conditions(self) -> str:
        """Model and work in a line."""
        w = self.work
        return (
            f"{self.model} at {self.image_size}, {_count(w.objects, 'object')}, "
            f"{_count(w.memories, 'memory', 'memories')}, {_count(w.pointers, 'pointer')}, "
            f"{_count(w.threads, 'thread')}, frames: {self.frames}"
        )

    def times_faster(self, system: SystemReport, row: str) -> float | None:
        """How much longer `system` takes than the first; None where either lacks the row."""
        first = self.systems[0].stages.get(row)
        other = system.stages.get(row)
        if first is None or other is None or system is self.systems[0]:
            return None
        return other.median_ms / first.median_ms

    def as_dict(self) -> dict[str, Any]:
        data = {"schema": SCHEMA, **asdict(self)}
        for made, system in zip(data["systems"], self.systems, strict=True):
            for row, timing in made["stages"].items():
                timing["share_of_matrix_rate"] = system.stages[row].share(
                    self.machine.matrix_gflops
                )
            made["times_faster"] = {
                row: factor for row in COMPARED if (factor := self.times_faster(system, row))
            }
        return data

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> BenchReport:
        """The report of what :meth:`as_dict` gave.

        Raises ValueError, KeyError or TypeError for anything else.
        """
        if data["schema"] != SCHEMA:
            raise ValueError(f"schema {data['schema']}")
        work = _renamed(data["work"])
        work["frame_size"] = tuple(work["frame_size"])
        systems = tuple(_system(s) for s in data["systems"])
        return cls(
            Machine(**data["machine"]), data["model"], data["image_size"], Work(**work), systems
        )


def system_report(
    measured: Measured,
    precision: str,
    weights: str,
    accuracy: Mapping[str, Any],
    points: Sequence[Point] = (),
) -> SystemReport:
    """What a worker measured, as a row of the report."""
    facts = dict(measured.facts)
    operations: Mapping[str, float] = facts.pop("operations", {})
    stages = timings(measured.frames, operations)
    return SystemReport(measured.name, precision, weights, facts, stages, accuracy, tuple(points))


def timings(
    frames: Sequence[Mapping[str, float]], operations: Mapping[str, float] | None = None
) -> dict[str, Timing]:
    """Each row that the frames have; operations are those of one frame."""
    counted = operations or {}
    sums = dict(counted)
    if counted:
        sums["total"] = sum(counted.values())
        sums["tracking"] = sum(counted.get(s, 0.0) for s in TRACKING)
    return {
        row: Timing.of(seconds, sums.get(row), stage_seconds(frames, row, CPU))
        for row in ROWS
        if (seconds := stage_seconds(frames, row))
    }


def write_json(data: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a report whole or not at all: a write that failed leaves the old file alone."""
    with replaced_file(path) as part:
        part.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def read_report(path: str | os.PathLike[str]) -> BenchReport:
    """Read a report; InputError when it is none."""
    try:
        return BenchReport.from_dict(json.loads(Path(path).read_text(encoding="utf-8")))
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"{path} is no benchmark report ({error}): make one with --json") from None


def _system(data: Mapping[str, Any]) -> SystemReport:
    points = tuple(Point(**{**p, "stages": _timings(p["stages"])}) for p in data["points"])
    kept = {k: data[k] for k in ("name", "precision", "weights", "accuracy", "not_run")}
    facts, stages = _renamed(data["facts"]), _timings(data["stages"])
    return SystemReport(**kept, facts=facts, stages=stages, points=points)


def _renamed(data: Mapping[str, Any]) -> dict[str, Any]:
    """The same under the names that reports have today: those that were kept stay readable."""
    return {_NEW_NAMES.get(key, key): value for key, value in data.items()}


def _timings(data: Mapping[str, Mapping[str, Any]]) -> dict[str, Timing]:
    known = {f.name for f in fields(Timing)}
    return {
        row: Timing(**{k: v for k, v in values.items() if k in known})
        for row, values in data.items()
        if values["count"]
    }


def _count(number: int, one: str, many: str | None = None) -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
