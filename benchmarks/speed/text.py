"""A report as text, and two reports as ratios."""

from __future__ import annotations

from collections.abc import Iterator

from .report import COMPARED, PHASES, ROWS, BenchReport, Point, SystemReport, Timing

#: new / old above which a ratio is marked
REGRESSION = 1.05
_NAMES = {"total": "whole frame", "cpu": "processor time", "tracking": "tracking alone"}


_LEGEND = (
    "CPU ms: processor time of all threads; of rate: share of the matrix rate; times: longer than "
    "the first"
)


def table(report: BenchReport) -> str:
    """The report as text: machine and work first, then the rows of each system."""
    lines = [report.machine.line(), report.conditions(), _LEGEND, "", _HEAD]
    for system in report.systems:
        lines += _system(report, system)
    for phase in PHASES:
        lines += _points(report, phase)
    return "\n".join(lines)


_HEAD = (
    f"{'':18}{'median ms':>11}{'p95 ms':>10}{'p99 ms':>10}{'CPU ms':>10}{'GFLOP':>9}{'of rate':>9}"
    f"{'times':>8}"
)


def _system(report: BenchReport, system: SystemReport) -> Iterator[str]:
    yield system.label
    if system.not_run:
        yield f"  not run: {system.not_run}"
        return
    yield f"  {_facts(system)}"
    for row, timing in system.stages.items():
        cells = _numbers(timing, report.machine.matrix_gflops)
        factor = report.times_faster(system, row) if row in COMPARED else None
        yield f"  {_NAMES.get(row, row):16}{cells}{_cell(factor, '.2f', 8)}".rstrip()
    if cpu := system.stages.get("cpu"):
        yield f"  processor time, p99 over p50: {cpu.p99_ms / cpu.median_ms:.2f}"
    yield f"  {accuracy_line(system)}"


def _facts(system: SystemReport) -> str:
    names = {
        "export_s": "export {:.1f} s",
        "load_s": "load {:.2f} s",
        "import_s": "import {:.2f} s",
        "first_frame_s": "first frame {:.2f} s",
        "warm_up_s": "warm-up {:.1f} s",
        "peak_memory_mib": "peak memory {:.0f} MiB",
        "clip_frame_s": "in a clip {:.3f} s a frame",
        "clip_frame_prefetched_s": "prefetched {:.3f}",
    }
    parts = [text.format(system.facts[k]) for k, text in names.items() if k in system.facts]
    if whole := system.stages.get("total"):
        parts.insert(0, f"{1e3 / whole.median_ms:.3g} frames/s")
    return ", ".join(parts)


def _numbers(timing: Timing, rate: float) -> str:
    return (
        f"{timing.median_ms:11.1f}{timing.p95_ms:10.1f}{timing.p99_ms:10.1f}"
        f"{_cell(timing.cpu_ms, '.1f', 10)}{_cell(timing.gflop, '.1f', 9)}"
        f"{_cell(timing.share(rate), '.0%', 9)}"
    )


def _cell(value: float | None, spec: str, width: int) -> str:
    return f"{'' if value is None else format(value, spec):>{width}}"


def accuracy_line(system: SystemReport) -> str:
    """How the system's masks compare, in a line."""
    found = system.accuracy
    if "lowest_iou" not in found:
        return f"masks not compared: {found.get('why', 'not asked for')}"
    flips = "flips not seen" if found["flips"] is None else f"{found['flips']} flips"
    return (
        f"masks: lowest IoU {found['lowest_iou']:.4f}, mean {found['mean_iou']:.4f}, {flips} "
        f"in {found['results']} results, against {found['against']}"
    )


def _points(report: BenchReport, phase: str) -> Iterator[str]:
    for system in report.systems:
        chosen = [p for p in system.points if p.phase == phase]
        if not chosen:
            continue
        yield ""
        yield f"{phase}: {system.label}; median ms, peak MiB"
        yield f"{'':18}" + "".join(f"{point_label(p):>9}" for p in chosen)
        for row in ROWS:
            if all(row in p.stages for p in chosen):
                cells = "".join(f"{p.stages[row].median_ms:9.1f}" for p in chosen)
                yield f"  {_NAMES.get(row, row):16}{cells}"
        yield f"  {'peak memory':16}" + "".join(f"{p.peak_memory_mib:9.0f}" for p in chosen)
        if first := chosen[0].stages.get("tracking"):
            costs = [p.stages["tracking"].median_ms / first.median_ms for p in chosen]
            yield f"  {'tracking / first':16}" + "".join(f"{cost:9.2f}" for cost in costs)


def point_label(point: Point) -> str:
    """What differs between the points of a phase."""
    return f"{point.objects} obj" if point.phase == "objects" else f"{point.memories} mem"


def compare(new: BenchReport, old: BenchReport) -> str:
    """Medians of two reports as ratios new / old, per system and stage present in both.

    Ratios above REGRESSION are marked; what was measured on something else is said first.
    """
    lines = []
    if new.conditions() != old.conditions():
        lines += [f"new: {new.conditions()}", f"old: {old.conditions()}"]
    if new.machine.place() != old.machine.place():
        lines += [f"new: {new.machine.line()}", f"old: {old.machine.line()}"]
    before = {s.name: s.stages for s in old.systems}
    rows = [
        (f"{system.name} {_NAMES.get(row, row)}", timing.median_ms / earlier.median_ms)
        for system in new.systems
        for row, timing in system.stages.items()
        if (earlier := before.get(system.name, {}).get(row))
    ]
    if not rows:
        return "\n".join([*lines, f"nothing to compare: the old report has {', '.join(before)}"])
    width = max(len(name) for name, _ in rows) + 2
    lines.append(f"{'new / old':{width}}{'ratio':>8}")
    for name, ratio in rows:
        mark = "  slower" if ratio > REGRESSION else ""
        lines.append(f"{name:{width}}{ratio:8.2f}{mark}")
    return "\n".join(lines)
