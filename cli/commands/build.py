"""The command ``sam2rt build``: engines of this machine, proved against the bundle's record.

Neither torch nor onnx is imported, so that it runs on the machine the engines are for.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from pathlib import Path
from typing import get_args

import click

from ...configs.bundle import Bundle, Precision
from ...export.engines.build import build_engines
from ...export.engines.dry_run import DryRun
from ...export.engines.dry_run import dry_run as engines_dry_run
from ...export.engines.options import ATTENTIONS, BuildOptions, BuildReport, EngineOptions
from ...export.engines.profiles import Limits
from ..completion import bundles
from ..console import Console
from ..options import console_options

_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def _bytes(ctx: click.Context, param: click.Parameter, value: str | None) -> int | None:
    if value is None:
        return None
    match = re.fullmatch(r"(\d+)\s*([KMG]?)(?:i?B)?", value.strip(), re.IGNORECASE)
    if match is None:
        raise click.BadParameter(f"{value!r}: expected a number of bytes such as 4G or 512M")
    return int(match[1]) * _UNITS[match[2].upper()]


@click.command("build")
@click.argument("bundle", type=click.Path(path_type=Path), shell_complete=bundles)
@click.option("--graphs", help="Comma-separated graphs to build. Default: all.")
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    help="Refuse a bundle of another precision; it lies in the graphs.",
)
@click.option(
    "--max-objects",
    default=Limits.objects,
    show_default=True,
    type=click.IntRange(1),
    help="Objects in one call.",
)
@click.option(
    "--max-memories",
    default=Limits.memories,
    show_default=True,
    type=click.IntRange(1),
    help="Memories one object attends to: prompted frames and the 6 newest.",
)
@click.option("--workspace", callback=_bytes, help="Scratch memory of a kernel, such as 4G.")
@click.option(
    "--timing-cache",
    type=click.Path(path_type=Path, dir_okay=False),
    help="File of kernel timings to use and to update.",
)
@click.option(
    "--hardware-compat", is_flag=True, help="Also for other GPUs of this compute capability."
)
@click.option(
    "--version-compat", is_flag=True, help="Also for later TensorRT of this major version."
)
@click.option("--opt-level", type=click.IntRange(0, 5), help="Builder effort.")
@click.option(
    "--attention",
    default="auto",
    show_default=True,
    type=click.Choice(ATTENTIONS),
    help="Variant of memory attention; auto keeps the fastest that passes its proof.",
)
@click.option(
    "--dry-run",
    is_flag=True,
    help="Only tell what the builder makes of each graph; TensorRT-RTX needs no GPU for it.",
)
@console_options
def build_command(
    bundle: Path,
    graphs: str | None,
    precision: Precision | None,
    max_objects: int,
    max_memories: int,
    workspace: int | None,
    timing_cache: Path | None,
    hardware_compat: bool,
    version_compat: bool,
    opt_level: int | None,
    attention: str,
    dry_run: bool,
    console: Console,
) -> None:
    """Build TensorRT engines for this machine, and prove them."""
    loaded = Bundle.load(bundle)
    options = BuildOptions(
        graphs=tuple(graphs.split(",")) if graphs else None,
        precision=precision,
        attention=attention,
        limits=Limits(objects=max_objects, memories=max_memories),
        engine=EngineOptions(workspace, opt_level, hardware_compat, version_compat, timing_cache),
    )
    if dry_run:
        _dry_run(loaded, options, console)
        return
    with console.progress() as progress:
        report = build_engines(loaded, options, progress)
    document = {**dataclasses.asdict(report), "folder": str(report.folder)}
    console.answer(_lines(report), document)


def _lines(report: BuildReport) -> Iterator[str]:
    yield f"{report.folder}: {report.machine.gpu}, TensorRT {report.machine.tensorrt}"
    for graph, seconds in report.seconds.items():
        yield f"  {graph}: built in {seconds:.0f} s"
    for tried in report.candidates:
        said = tried.error or f"{tried.milliseconds:.2f} ms"
        yield f"  memory attention, {tried.attention}: {said}"
    yield f"  proof: lowest mask IoU {report.proof['clip']['lowest_iou']:.4f}"


def _dry_run(bundle: Bundle, options: BuildOptions, console: Console) -> None:
    """Tell what the builder makes of each graph; exit code 1 where it refuses one."""
    with console.progress() as progress:
        found = engines_dry_run(bundle, options, progress)
    console.answer(_dry_lines(found), dataclasses.asdict(found))
    if any(graph.error for graph in found.graphs):
        raise click.exceptions.Exit(1)


def _dry_lines(found: DryRun) -> Iterator[str]:
    """A table, a line a graph; numbers of several profiles are parted by strokes."""
    yield f"{found.library}, {found.precision}: built, not run; nothing was kept"
    yield f"{'graph':34} {'layers':>14} {'fused':>8} {'activations MB':>18} {'engine MB':>9}"
    for graph in found.graphs:
        if graph.size is None:
            refused = f" (unsupported: {', '.join(graph.unsupported)})" if graph.unsupported else ""
            yield f"{graph.source:34} not built{refused}: {graph.error}"
            continue
        memory = tuple(size >> 20 for size in graph.memory)
        numbers = ("/".join(map(str, n)) or "-" for n in (graph.layers, graph.fused, memory))
        layers, fused, activations = numbers
        size = graph.size >> 20
        yield f"{graph.source:34} {layers:>14} {fused:>8} {activations:>18} {size:>9}"
    yield "profiles: one object / as many as --max-objects / dynamic"


COMMANDS: list[click.Command] = [build_command]
