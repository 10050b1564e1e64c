"""The commands ``sam2rt doctor`` and ``sam2rt plugins``."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from pathlib import Path

import click

from ...plugins.registry import PluginInfo, list_plugins
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
@console_options
def plugins_command(console: Console) -> None:
    """List custom operators and kernels.

    Each with its kind, its hash and the GPU architectures it is compiled for.
    """
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


COMMANDS: list[click.Command] = [doctor_command, plugins_command]
