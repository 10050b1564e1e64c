"""The commands ``sam2rt doctor`` and ``sam2rt plugins``."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import click

from ...plugins.registry import list_plugins
from ...runtime.tasks.doctor import doctor
from ..completion import bundles

_MARKS = {"ok": "ok", "missing": "--", "problem": "!!"}


@click.command("doctor")
@click.argument("bundle", required=False, type=click.Path(path_type=Path), shell_complete=bundles)
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
def plugins_command(as_json: bool) -> None:
    """List custom operators and kernels.

    Each with its kind, its hash and the GPU architectures it is compiled for.
    """
    infos = list_plugins()
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(i) for i in infos], indent=1))
        return
    width = max(len(info.name) for info in infos)
    for info in infos:
        architectures = " ".join(f"sm_{a}" for a in info.architectures)
        click.echo(f"{info.name:<{width}}  {info.kind:<8}  {info.sha256[:12]}  {architectures}")
        click.echo(f"{'':<{width}}  {info.summary}")


COMMANDS: list[click.Command] = [doctor_command, plugins_command]
