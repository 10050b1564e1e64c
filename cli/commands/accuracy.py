"""The command ``sam2rt accuracy``."""

from __future__ import annotations

from pathlib import Path

import click

from ...benchmarks.evaluation.accuracy import write_page
from ...benchmarks.evaluation.accuracy_runs import AccuracyPlan
from ..completion import checkpoints
from ..progress_line import ProgressLine


@click.command("accuracy")
@click.argument("checkpoint", shell_complete=checkpoints)
@click.option("-o", "--output", "folder", default="docs", type=click.Path(path_type=Path))
@click.option("--work", default="out/accuracy", type=click.Path(path_type=Path), show_default=True)
@click.option("--size", "sizes", multiple=True, type=int, help="[default: the model's own]")
@click.option("--clips", type=click.IntRange(1), default=20, show_default=True)
@click.option("--frames", type=click.IntRange(3), default=30, show_default=True)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True)
@click.option("--processes", type=click.IntRange(1), default=2, show_default=True)
def accuracy(
    checkpoint: str,
    folder: Path,
    work: Path,
    sizes: tuple[int, ...],
    clips: int,
    frames: int,
    seed: int,
    processes: int,
) -> None:
    """Measure the accuracy of a checkpoint's exports and write docs/accuracy.md.

    The first --size is the model's own, which is measured in every precision.
    """
    plan = AccuracyPlan(checkpoint, work, sizes, clips, frames, seed, processes)
    with ProgressLine() as progress:
        write_page(plan, folder, progress)
    click.echo(f"written to {folder / 'accuracy.md'}")


COMMANDS: list[click.Command] = [accuracy]
