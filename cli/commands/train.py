"""The command ``sam2rt train``: options to a recipe, whose defaults are the options' own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ...configs.extras import extras_of
from ...configs.models import model_config
from ...training.recipe import COOL_DOWN, Recipe
from ..completion import checkpoints, models, one_of
from ..console import Console
from ..options import console_options

F = TypeVar("F", bound=Callable[..., Any])
_COUNT, _FROM_ZERO = click.IntRange(1), click.IntRange(0)
_SHARE = click.FloatRange(0, 1)
#: options named after fields of the recipe: the field, its range, the help
_FIELDS: tuple[tuple[str, Any, str], ...] = (
    ("steps", _COUNT, "Steps of the whole run."),
    ("rate", click.FloatRange(0, 1, min_open=True), "Highest learning rate."),
    (
        "cool_down",
        _FROM_ZERO,
        f"Steps of falling rate.  [default: {COOL_DOWN}, at most a third of --steps]",
    ),
    ("clips_from", _FROM_ZERO, "Step at which clips join."),
    ("plain_only", _FROM_ZERO, "Steps of the plain level."),
    ("balanced_until", _FROM_ZERO, "Steps of class-balanced loss."),
    ("clips", _SHARE, "Share of steps on clips."),
    ("longest", click.IntRange(2), "Frames of a clip, at most."),
    ("burn_in", _FROM_ZERO, "Frames tracked without a loss, at most."),
    ("swaps", _SHARE, "Share of clips with an object that gives way."),
    ("images", _COUNT, "Images a step."),
    ("objects", _COUNT, "Objects an image, at most."),
    ("seed", _FROM_ZERO, "Fixes what is drawn at random."),
)


def _recipe_options(command: F) -> F:
    """Adds the options whose defaults are the recipe's."""
    for name, kind, text in reversed(_FIELDS):
        default = getattr(Recipe, name)
        option = f"--{name.replace('_', '-')}"
        shown = default is not None
        command = click.option(
            option, name, type=kind, help=text, default=default, show_default=shown
        )(command)
    return command


@click.command("train", no_args_is_help=True)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option(
    "--model",
    default=Recipe.model.name,
    show_default=True,
    shell_complete=models,
    help="Model that is trained when no checkpoint is fine-tuned.",
)
@click.option(
    "--from",
    "start",
    shell_complete=checkpoints,
    help="Fine-tune this checkpoint (path, name or hub id).",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Videos: JPEGImages/<video>/, Annotations/<video>/; without it synthetic clips.",
)
@_recipe_options
@click.option(
    "--hours",
    type=click.FloatRange(0, min_open=True),
    help="Stop after this long; run again to resume.",
)
@click.option(
    "--device",
    default="cpu",
    show_default=True,
    shell_complete=one_of("cpu", "cuda"),
    help="Where torch trains, such as cpu or cuda.",
)
@click.option(
    "--threads", default=0, type=click.IntRange(0, 1024), help="CPU threads; 0 leaves it to torch."
)
@console_options
def train(
    folder: Path,
    model: str,
    hours: float | None,
    device: str,
    threads: int,
    console: Console,
    **chosen: Any,
) -> None:
    """Train in FOLDER, resuming what is there.

    Writes weights.safetensors for 'sam2rt export'. The rate stays high until --cool-down steps
    before --steps: to end a run that was stopped, resume it with --steps a little above where it
    stands. --steps at or below that trains no more and writes the weights.
    """
    with extras_of("training"):
        from ...training import run
    done = run.train(
        Recipe(model=model_config(model), **chosen),
        folder,
        device=device,
        threads=threads,
        seconds=hours * 3600 if hours else None,
        log=console.note,
    )
    path = done.weights
    line = f"step {done.step}: wrote {path}; next: sam2rt export {path} -o BUNDLE"
    console.answer([line], {"step": done.step, "weights": str(path)})


COMMANDS: list[click.Command] = [train]
