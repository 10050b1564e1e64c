"""The commands ``sam2rt doctor`` and ``sam2rt plugins``."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable
from pathlib import Path

import click

from ...plugins.kernel import ARCHITECTURES
from ...plugins.registry import LaunchInfo, list_launches, list_plugins
from ...runtime.tasks.doctor import doctor

_MARKS = {"ok": "ok", "missing": "--", "problem": "!!"}


@click.command("doctor")
@click.argument("bundle", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def doctor_command(bundle: Path | None, as_json: bool) -> None:
    """Say what this machine can run, and what fixes the rest.

    With BUNDLE also which of its engines fit here, and why others do not. Ends with exit code 1
    when something is broken; what is only not installed does not count as broken.
    """
    findings = doctor(bundle)
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(f) for f in findings], indent=1))
    else:
        width = max(len(f.topic) for f in findings)
        for found in findings:
            click.echo(f"{_MARKS[found.status]}  {found.topic:<{width}}  {found.text}")
            if found.remedy:
                click.echo(f"    {'':<{width}}  -> {found.remedy}")
    if any(f.status == "problem" for f in findings):
        raise click.exceptions.Exit(1)


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--arch",
    type=click.Choice([str(a) for a in ARCHITECTURES]),
    help="Compile for this compute capability and print what the code takes; needs Triton, no GPU.",
)
def plugins_command(as_json: bool, arch: str | None) -> None:
    """List custom operators and kernels.

    Each with its kind, its hash and the GPU architectures it is compiled for. With --arch each
    launch with its stages, registers, shared memory, spills and waits.
    """
    if arch is not None:
        _print_launches(list_launches(int(arch)), as_json)
        return
    infos = list_plugins()
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(i) for i in infos], indent=1))
        return
    width = max(len(info.name) for info in infos)
    for info in infos:
        architectures = " ".join(f"sm_{a}" for a in info.architectures)
        click.echo(f"{info.name:<{width}}  {info.kind:<8}  {info.sha256[:12]}  {architectures}")
        click.echo(f"{'':<{width}}  {info.summary}")


def _print_launches(launches: Iterable[LaunchInfo], as_json: bool) -> None:
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(x) for x in launches], indent=1))
        return
    for x in launches:
        waits = "unknown" if x.waits is None else x.waits
        sizes = " ".join(f"{name} {size}" for name, size in x.constants.items())
        click.echo(
            f"{x.name}  {sizes}, {x.warps} warps, {x.stages} stages: {x.registers} registers, "
            f"{x.shared} bytes shared, {x.spills} bytes spilled, {waits} waits"
        )
        for warning in x.warnings:
            click.echo(f"    !!  {warning}")


COMMANDS: list[click.Command] = [doctor_command, plugins_command]
