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


COMMANDS: list[click.Command] = [build_command]
