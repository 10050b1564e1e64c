"""A report as a plot: time per stage of each system, and cost against objects and memories."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any

from ...configs.errors import InputError, MissingExtraError, Sam2rtError
from ...configs.staging import check_file_target, replaced_file
from .report import PHASES, BenchReport, SystemReport, read_report
from .systems.system import STAGES

#: one colour per stage, told apart by colour-blind readers too (Okabe and Ito)
_COLOURS = dict(
    zip(STAGES, ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#BBBBBB"), strict=True)
)
_LINES = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_SUFFIXES = (".png", ".svg", ".pdf")
_AXES = {"objects": "objects", "growing": "memories attended to"}


def check_plot(path: Path) -> None:
    """Refuse a plot that could not be drawn, before anything is measured."""
    if path.suffix.lower() not in _SUFFIXES:
        raise InputError(f"{path}: expected a file ending in {', '.join(_SUFFIXES)}")
    _figure_class()


def draw(report: BenchReport, path: Path) -> None:
    """Draw `report` into `path`, whole or not at all. MissingExtraError without matplotlib."""
    check_plot(path)
    figure = make_figure(report)
    with replaced_file(path) as part:
        figure.savefig(part, format=path.suffix[1:].lower(), dpi=150)


def _figure_class() -> Any:
    try:
        return importlib.import_module("matplotlib.figure").Figure
    except ImportError:
        raise MissingExtraError("the plot of a benchmark", "matplotlib", "dev") from None


def make_figure(report: BenchReport) -> Any:
    """A matplotlib figure of `report`: bars above, a panel for each phase that was measured."""
    shown = [s for s in report.systems if s.stages]
    phases = [p for p in PHASES if any(q.phase == p for s in shown for q in s.points)]
    bars = 1.1 + 0.42 * len(shown)
    below = 3.4 + 0.12 * len(shown)
    height = bars + (below if phases else 0) + 1.5
    figure = _figure_class()(figsize=(11, height), layout="constrained")
    figure.suptitle(f"{report.conditions()}\n{_machine(report)}", fontsize=9, x=0.01, ha="left")
    parts = figure.subfigures(2, 1, height_ratios=[bars, below]) if phases else [figure]
    axes = parts[0].subplots()
    _bars(axes, report, shown)
    entries = axes.get_legend_handles_labels()
    parts[0].legend(
        *entries, loc="outside lower center", ncols=len(STAGES), fontsize=8, frameon=False
    )
    if phases:
        panels = parts[1].subplots(1, len(phases), squeeze=False)[0]
        for panel, phase in zip(panels, phases, strict=True):
            _lines(panel, phase, shown)
        entries = panels[0].get_legend_handles_labels()
        parts[1].legend(*entries, loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    return figure


def _machine(report: BenchReport) -> str:
    """The line of the machine, broken where it is long."""
    machine = report.machine.line()
    hardware, _, rest = machine.partition("; ")
    return f"{hardware}\n{rest}"


def _bars(axes: Any, report: BenchReport, shown: list[SystemReport]) -> None:
    names = [s.label for s in shown]
    left = [0.0] * len(shown)
    for stage in STAGES:
        widths = [_width(s, stage) for s in shown]
        if any(widths):
            axes.barh(names, widths, left=left, color=_COLOURS[stage], label=stage, height=0.7)
        left = [a + b for a, b in zip(left, widths, strict=True)]
    for index, (system, end) in enumerate(zip(shown, left, strict=True)):
        axes.text(end, index, "  " + _bar_text(report, system), va="center", fontsize=8)
    axes.invert_yaxis()
    axes.set_xlim(0, max(left) * 1.42)
    axes.set_xlabel("median ms of a frame", fontsize=9)
    axes.set_title("time per stage", fontsize=10, loc="left")
    axes.tick_params(labelsize=8)
    axes.spines[["top", "right"]].set_visible(False)


def _width(system: SystemReport, stage: str) -> float:
    """Its part of the frame's median: medians of stages do not add up to it."""
    medians = {s: system.stages[s].median_ms for s in STAGES if s in system.stages}
    share = medians.get(stage, 0.0) / sum(medians.values())
    return share * system.stages["total"].median_ms


def _bar_text(report: BenchReport, system: SystemReport) -> str:
    total = system.stages["total"].median_ms
    text = f"{total:.4g} ms"
    factor = report.times_faster(system, "total")
    if factor is not None:
        text += f", x {factor:.2f}"
    share = system.stages["total"].share(report.machine.matrix_gflops)
    if share is not None:
        text += f", {share:.0%} of rate"
    if "lowest_iou" in system.accuracy:
        text += f", IoU {system.accuracy['lowest_iou']:.3f}"
    return text


def _lines(axes: Any, phase: str, shown: list[SystemReport]) -> None:
    """The part of a frame that is paid per object."""
    for colour, system in zip(_LINES * len(shown), shown, strict=False):
        points = [p for p in system.points if p.phase == phase]
        if not points:
            continue
        x = [p.objects if phase == "objects" else p.memories for p in points]
        rows = [p.stages.get("tracking") or p.stages["total"] for p in points]
        y = [row.median_ms for row in rows]
        axes.plot(x, y, marker="o", markersize=4, color=colour, label=system.label)
        axes.set_xticks(sorted({*axes.get_xticks(), *x} & set(x)) or x)
    axes.set_xlabel(_AXES[phase], fontsize=9)
    axes.set_ylabel("median ms", fontsize=9)
    axes.set_ylim(bottom=0)
    axes.set_title(f"tracking alone against {_AXES[phase]}", fontsize=10, loc="left")
    axes.tick_params(labelsize=8)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)


if __name__ == "__main__":
    try:
        check_file_target(Path(sys.argv[2]))
        draw(read_report(sys.argv[1]), Path(sys.argv[2]))
    except IndexError:
        sys.exit(f"usage: python -m {__spec__.name} REPORT.json PLOT.png")
    except Sam2rtError as error:
        sys.exit(str(error))
