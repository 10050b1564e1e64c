"""The commands ``sam2rt doctor`` and ``sam2rt plugins``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import click

from ...plugins.cpu import library
from ...plugins.kernel import ARCHITECTURES
from ...plugins.registry import LaunchInfo, PluginInfo, list_launches, list_plugins
from ...runtime.tasks.doctor import Finding, doctor
from ..completion import bundles
from ..console import Console
from ..options import console_options

_MARKS = {"ok": "ok", "missing": "--", "problem": "!!"}


@click.command("doctor")
@click.argument("bundle", required=False, type=click.Path(path_type=Path), shell_complete=bundles)
@console_options
def doctor_command(bundle: Path | None, console: Console) -> None:
    """Say what this machine can run, and what fixes the rest.

    With BUNDLE also which of its engines fit here, and why others do not. Ends with exit code 1
    when something is broken; what is only not installed does not count as broken.
    """
    findings = doctor(bundle)
    console.answer(_findings(findings), [dataclasses.asdict(f) for f in findings])
    if any(f.status == "problem" for f in findings):
        raise click.exceptions.Exit(1)


@click.command("plugins")
@click.option(
    "--arch",
    type=click.Choice([str(a) for a in ARCHITECTURES]),
    help="Compile for this compute capability and print what the code takes; needs Triton, no GPU.",
)
@click.option(
    "--cpu",
    is_flag=True,
    help="Compile the operators with which ONNX Runtime runs bf16 bundles on this processor.",
)
@console_options
def plugins_command(arch: str | None, cpu: bool, console: Console) -> None:
    """List custom operators and kernels.

    Each with its kind, its hash and the GPU architectures it is compiled for. With --arch each
    launch with its stages, registers, shared memory, spills and waits. With --cpu the operators
    for processors with bfloat16 units are compiled, which needs a C++ compiler.
    """
    if cpu:
        with console.progress() as progress:
            made = library.build(progress)
        console.answer(_cpu_library(made), [dataclasses.asdict(made) | {"path": str(made.path)}])
        return
    if arch is not None:
        launches = list(list_launches(int(arch)))
        console.answer(_launches(launches), [dataclasses.asdict(launch) for launch in launches])
        return
    infos = list_plugins()
    console.answer(_plugins(infos), [dataclasses.asdict(info) for info in infos])


def _findings(findings: Sequence[Finding]) -> Iterator[str]:
    width = max(len(f.topic) for f in findings)
    for found in findings:
        yield f"{_MARKS[found.status]}  {found.topic:<{width}}  {found.text}"
        if found.remedy:
            yield f"    {'':<{width}}  -> {found.remedy}"


def _plugins(infos: Sequence[PluginInfo]) -> Iterator[str]:
    width = max(len(info.name) for info in infos)
    for info in infos:
        architectures = " ".join(f"sm_{a}" for a in info.architectures)
        yield f"{info.name:<{width}}  {info.kind:<8}  {info.sha256[:12]}  {architectures}"
        yield f"{'':<{width}}  {info.summary}"


def _cpu_library(made: library.CpuLibrary) -> Iterator[str]:
    runs = f"run on {library.UNITS[made.units]}" if made.units else "do not run on this processor"
    yield f"operators {made.identity[:12]} {runs}: {made.path}"


def _launches(launches: Iterable[LaunchInfo]) -> Iterator[str]:
    for launch in launches:
        waits = "unknown" if launch.waits is None else launch.waits
        sizes = " ".join(f"{name} {size}" for name, size in launch.constants.items())
        yield (
            f"{launch.name}  {sizes}, {launch.warps} warps, {launch.stages} stages: "
            f"{launch.registers} registers, {launch.shared} bytes shared, {launch.spills} bytes "
            f"spilled, {waits} waits"
        )
        for warning in launch.warnings:
            yield f"    !!  {warning}"


COMMANDS: list[click.Command] = [doctor_command, plugins_command]
