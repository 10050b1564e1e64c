"""The command ``sam2rt train``."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import click

from ...configs.errors import InputError
from ...configs.models import model_config

#: steps over which the rate falls, unless said otherwise; a short run keeps to a third of it
_COOL_DOWN = 4000


@click.command("train", no_args_is_help=True)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
@click.option("--model", default="sam2rt_micro", show_default=True, help="When not fine-tuning.")
@click.option("--from", "checkpoint", help="Fine-tune this checkpoint (path, name or hub id).")
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Videos: JPEGImages/<video>/, Annotations/<video>/; without it synthetic clips.",
)
@click.option("--steps", default=13500, show_default=True, type=click.IntRange(1))
@click.option(
    "--rate",
    default=1e-3,
    show_default=True,
    type=click.FloatRange(0, 1, min_open=True),
    help="Highest learning rate.",
)
@click.option(
    "--cool-down", type=click.IntRange(0),
    help=f"Steps of falling rate.  [default: {_COOL_DOWN}, at most a third of --steps]",
)  # fmt: skip
@click.option(
    "--clips-from",
    default=640,
    show_default=True,
    type=click.IntRange(0),
    help="Step at which clips join.",
)
@click.option(
    "--plain-only",
    default=1100,
    show_default=True,
    type=click.IntRange(0),
    help="Steps of the plain level.",
)
@click.option(
    "--settle",
    default=4000,
    show_default=True,
    type=click.IntRange(0),
    help="Steps of class-balanced loss.",
)
@click.option(
    "--clips",
    default=0.5,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of steps on clips.",
)
@click.option(
    "--longest",
    default=5,
    show_default=True,
    type=click.IntRange(2),
    help="Frames of a clip, at most.",
)
@click.option(
    "--unjudged",
    default=12,
    show_default=True,
    type=click.IntRange(0),
    help="Frames tracked without a loss, at most.",
)
@click.option(
    "--departing",
    default=0.0,
    show_default=True,
    type=click.FloatRange(0, 1),
    help="Share of clips with an object that gives way.",
)
@click.option(
    "--pictures", default=6, show_default=True, type=click.IntRange(1), help="Pictures a step."
)
@click.option(
    "--objects",
    default=4,
    show_default=True,
    type=click.IntRange(1),
    help="Objects a picture, at most.",
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0))
@click.option(
    "--hours",
    type=click.FloatRange(0, min_open=True),
    help="Stop after this long; run again to resume.",
)
@click.option("--device", default="cpu", show_default=True)
@click.option(
    "--threads", default=0, type=click.IntRange(0, 1024), help="CPU threads; 0 leaves it to torch."
)
def train(
    folder: Path, model: str, checkpoint: str | None, data: Path | None, steps: int, rate: float,
    cool_down: int | None, clips_from: int, plain_only: int, settle: int, clips: float,
    longest: int, unjudged: int, departing: float, pictures: int, objects: int, seed: int,
    hours: float | None, device: str, threads: int,
) -> None:  # fmt: skip
    """Train in FOLDER, resuming what is there; writes weights.safetensors for 'sam2rt export'.

    The rate stays high until --cool-down steps before --steps: to end a run that was stopped,
    resume it with --steps a little above where it stands. --steps at or below that trains no
    more and writes the weights.
    """
    import torch

    from ...export.checkpoint.load import load_checkpoint
    from ...training.batches import FolderSource, synthetic_source
    from ...training.recipe import Job, Schedule
    from ...training.run import Trainer, describe, run, save_weights

    _check_device(device)
    if threads:
        torch.set_num_threads(threads)
    start = load_checkpoint(checkpoint) if checkpoint else None
    config = start.config if start else model_config(model)
    schedule = Schedule(
        steps, rate, cool_down=_cool_down(cool_down, steps), pictures_only=clips_from,
        plain_only=plain_only, settle=settle, clips=clips, longest=longest, unjudged=unjudged,
        departing=departing,
    )  # fmt: skip
    if start:
        # fine-tuning starts where the curriculum ends
        schedule = replace(
            schedule, pictures_only=0, plain_only=0, settle=0, longer_from=0, warm_up=min(50, steps)
        )
    source = FolderSource(data) if data else synthetic_source
    job = Job(config, schedule, source, seed, pictures, objects)
    trainer = Trainer(job, device)
    if start:
        trainer.load_weights(start.state)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "job.json").write_text(json.dumps(describe(job), indent=1) + "\n")
    run(trainer, folder, until=hours * 3600 if hours else None, report=click.echo)
    path = folder / "weights.safetensors"
    save_weights(trainer, path)
    click.echo(f"step {trainer.step}: wrote {path}; next: sam2rt export {path} -o BUNDLE")


def _cool_down(asked: int | None, steps: int) -> int:
    """A fall longer than the run would never let the rate reach what was asked for."""
    return min(_COOL_DOWN, steps // 3) if asked is None else asked


def _check_device(device: str) -> None:
    import torch

    try:
        torch.empty(0, device=device)
    # what torch raises for a device differs from build to build
    except (RuntimeError, AssertionError, ValueError) as error:
        why = (str(error).strip().splitlines() or ["no reason given"])[0][:100]
        raise InputError(f"--device {device} cannot be used here ({why}): try cpu") from None


COMMANDS: list[click.Command] = [train]
