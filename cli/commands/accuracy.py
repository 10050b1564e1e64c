"""The command ``sam2rt accuracy``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ...benchmarks.evaluation.accuracy import write_page
from ...benchmarks.evaluation.accuracy_runs import AccuracyPlan
from ..completion import checkpoints
from ..console import Console
from ..options import console_options

F = TypeVar("F", bound=Callable[..., Any])


def _setting(name: str, least: int, default: int, text: str) -> Callable[[F], F]:
    """An option that is a whole number."""
    return click.option(
        name, type=click.IntRange(least), default=default, show_default=True, help=text
    )


@click.command("accuracy")
@click.argument("checkpoint", shell_complete=checkpoints)
@click.option(
    "-o",
    "--output",
    "folder",
    default="docs",
    show_default=True,
    type=click.Path(path_type=Path),
    help="Folder of the page.",
)
@click.option(
    "--work",
    default="out/accuracy",
    type=click.Path(path_type=Path),
    show_default=True,
    help="Folder for bundles and records, which are used again.",
)
@click.option(
    "--size",
    "sizes",
    multiple=True,
    type=int,
    help="Side of the model's input in pixels; may be repeated.  [default: the model's own]",
)
@_setting("--clips", 1, 20, "Synthetic clips of each level.")
@_setting("--frames", 3, 30, "Frames of each clip.")
@_setting("--seed", 0, 0, "Fixes the clips.")
@_setting("--processes", 1, 2, "Clips worked on at a time.")
@console_options
def accuracy(
    checkpoint: str,
    folder: Path,
    work: Path,
    sizes: tuple[int, ...],
    clips: int,
    frames: int,
    seed: int,
    processes: int,
    console: Console,
) -> None:
    """Measure the accuracy of a checkpoint's exports.

    Writes accuracy.md into the folder. The first --size is the model's own, which is measured in
    every precision.
    """
    plan = AccuracyPlan(checkpoint, work, sizes, clips, frames, seed, processes)
    with console.progress() as progress:
        write_page(plan, folder, progress)
    page = folder / "accuracy.md"
    console.answer([f"written to {page}"], {"page": str(page)})


COMMANDS: list[click.Command] = [accuracy]
