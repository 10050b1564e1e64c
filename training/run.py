"""The training run: batches, state and log in a folder. Resumes where it was interrupted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..configs.errors import InputError
from ..configs.staging import replaced_file
from ..export.checkpoint.load import load_checkpoint
from .batches import PrefetchedBatches, Source, source_of
from .episodes import Episode
from .recipe import Recipe
from .trainer import Trainer

#: takes each line of the log
Log = Callable[[str], None]


@dataclass(frozen=True)
class Trained:
    """Where a run stands, and the weights file that it wrote."""

    step: int
    weights: Path


def train(
    recipe: Recipe,
    folder: Path,
    *,
    device: str = "cpu",
    threads: int = 0,
    seconds: float | None = None,
    log: Log = print,
) -> Trained:
    """Follow a recipe to its end, or for `seconds`; state, log and weights go to `folder`.

    Resumes what is in `folder`. threads: of the CPU, 0 leaves their number to torch. Raises
    InputError for a device that cannot be used, CheckpointError for a checkpoint or a state that
    does not fit, FrameError for a folder without annotated videos.
    """
    _check_device(device)
    if threads:
        torch.set_num_threads(threads)
    start = load_checkpoint(recipe.start) if recipe.start else None
    if start:
        recipe = recipe.fine_tuned(start.config)
    source = source_of(recipe.data)
    trainer = Trainer(recipe, device)
    if start:
        trainer.load_weights(start.state)
    folder.mkdir(parents=True, exist_ok=True)
    with replaced_file(folder / "recipe.json") as part:
        part.write_text(json.dumps(recipe.describe(), indent=1) + "\n", encoding="utf-8")
    run(trainer, source, folder, seconds=seconds, log=log)
    weights = folder / "weights.safetensors"
    trainer.save_weights(weights)
    return Trained(trainer.step, weights)


def run(
    trainer: Trainer,
    source: Source,
    folder: Path,
    *,
    save_every: float = 300.0,
    log_every: int = 20,
    seconds: float | None = None,
    log: Log = print,
) -> None:
    """Train to the recipe's end, or for `seconds`; state and log go to `folder`.

    Resumes from ``state.pt`` there. Ctrl-C saves before it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = folder / "state.pt"
    if state.is_file():
        trainer.load(state)
    _forget_later(folder / "log.jsonl", trainer.step)
    recipe, window = trainer.recipe, _Window(trainer, folder / "log.jsonl")
    start = saved = time.monotonic()
    drawn = PrefetchedBatches(recipe.seed, recipe.batch_plan, source, trainer.step)
    try:
        with drawn as batches:
            while trainer.step < recipe.steps:
                window.add(trainer.train_step(next(batches)))
                now = time.monotonic()
                if trainer.step % log_every == 0:
                    log(window.written(now - start))
                if now - saved > save_every:
                    trainer.save(state)
                    saved = now
                if seconds is not None and now - start > seconds:
                    break
    finally:
        trainer.save(state)


def _forget_later(log: Path, step: int) -> None:
    """Keep whole lines up to that step: a killed run may have logged more than it saved."""
    text = log.read_text(encoding="utf-8", errors="replace") if log.exists() else ""
    kept = "".join(f"{line}\n" for line in text.splitlines() if 0 < _step_of(line) <= step)
    if kept != text:
        with replaced_file(log) as part:
            part.write_text(kept, encoding="utf-8")


def _step_of(line: str) -> int:
    """The step that a line of the log tells of; 0 for half a line."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, TypeError, KeyError):
        return 0


class _Window:
    """The steps since the last line of the log."""

    def __init__(self, trainer: Trainer, path: Path) -> None:
        self._trainer, self._path = trainer, path
        self._losses: list[float] = []
        self._ious: dict[str, list[float]] = {}

    def add(self, episode: Episode) -> None:
        self._losses.append(float(episode.mean_loss.detach()))
        for name, values in episode.ious.items():
            self._ious.setdefault(name, []).extend(values)

    def written(self, seconds: float) -> str:
        """Write a line of the log and start anew; gives the line as text."""
        line = self._line(seconds)
        self._losses.clear()
        self._ious.clear()
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(line) + "\n")
        ious = " ".join(f"{k} {v:.2f}" for k, v in line["iou"].items())
        return f"{line['step']:6d} {line['seconds']:7.0f} s  loss {line['loss']:.3f}  {ious}"

    def _line(self, seconds: float) -> dict[str, Any]:
        step = self._trainer.step
        return {
            "step": step,
            "seconds": round(seconds, 1),
            "rate": self._trainer.recipe.rate_at(step - 1),
            "loss": float(np.mean(self._losses)),
            "iou": {k: round(float(np.mean(v)), 4) for k, v in sorted(self._ious.items())},
        }


def _check_device(device: str) -> None:
    try:
        torch.empty(0, device=device)
    # what torch raises for a device differs from build to build
    except (RuntimeError, AssertionError, ValueError) as error:
        why = (str(error).strip().splitlines() or ["no reason given"])[0][:100]
        raise InputError(f"--device {device} cannot be used here ({why}): try cpu") from None
