"""The training run: schedule, optimiser, checkpoints, log. Resumes where it was interrupted."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..configs.errors import CheckpointError
from ..configs.staging import replaced_file
from ..export.model.sam2 import build_model
from .batches import Ahead, Batch, make_batch
from .episodes import Episode, Kind, clip_episode, picture_episode
from .initial import initialised
from .recipe import Job

Report = Callable[[str], None]


class Trainer:
    """Model, optimiser and averaged weights at one step of a job."""

    def __init__(self, job: Job, device: str = "cpu") -> None:
        torch.manual_seed(job.seed)
        self.job, self.step = job, 0
        self.model = initialised(build_model(job.config)).to(device).train()
        self.optimiser = torch.optim.AdamW(
            _groups(self.model), lr=job.schedule.rate, betas=(0.9, 0.98), fused=True
        )
        self.averaged = _copy(self.model)

    def train_step(self, batch: Batch) -> Episode:
        """One step of the job on its batch."""
        job, step = self.job, self.step
        rng = np.random.default_rng([job.seed, step, 2])
        rate = job.schedule.rate_at(step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        weights, rounds = job.weights_at(step), int(rng.integers(0, 3))
        if job.is_clip(step):
            kinds: list[Kind] = ["click", "box", "box", "mask"]
            kind = kinds[int(rng.integers(len(kinds)))]
            # what the score says of presence is worth nothing before it is learned
            own = step >= job.schedule.settle
            episode = clip_episode(self.model, batch, rng, kind, rounds // 2, weights, own)
        else:
            # boxes take longest to be heeded among many objects
            kinds = ["click", "box", "box", "clicks"]
            kind = kinds[int(rng.integers(len(kinds)))]
            episode = picture_episode(self.model, batch, rng, kind, rounds, weights)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(episode.mean_loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self._average()
        self.step += 1
        return episode

    def _average(self) -> None:
        decay = min(self.job.average, (self.step + 1) / (self.step + 10))
        with torch.no_grad():
            for key, value in self.model.state_dict().items():
                self.averaged[key].lerp_(value, 1 - decay)

    def load_weights(self, state: dict[str, Tensor]) -> None:
        """Start from a checkpoint's weights instead of random ones."""
        self.model.load_state_dict(state, strict=True)
        self.averaged = _copy(self.model)

    def save(self, path: Path) -> None:
        """Write everything a resumed run needs; an interrupted write leaves the old file."""
        data = {
            "step": self.step,
            "model": self.model.state_dict(),
            "optimiser": self.optimiser.state_dict(),
            "averaged": self.averaged,
        }
        # torch writes the name of a file into it, which of a temporary one is random
        with replaced_file(path) as part, part.open("wb") as file:
            torch.save(data, file)

    def load(self, path: Path) -> None:
        """Go on where `path` was saved. CheckpointError for another model's, or a broken file."""
        try:
            data = cast("dict[str, Any]", torch.load(path, weights_only=True))
            self.model.load_state_dict(data["model"])
            self.optimiser.load_state_dict(data["optimiser"])
            self.step, self.averaged = data["step"], data["averaged"]
        except OSError:
            raise
        # a broken file can raise anything
        except Exception as error:
            raise CheckpointError(
                f"{path} is no state of this model's training ({type(error).__name__}): expected "
                "that of the same command; remove it to start anew, or name another folder"
            ) from None


def _groups(model: nn.Module) -> list[dict[str, Any]]:
    """Weight decay on matrices alone."""
    matrices = [p for p in model.parameters() if p.ndim >= 2]
    vectors = [p for p in model.parameters() if p.ndim < 2]
    return [
        {"params": matrices, "weight_decay": 0.05},
        {"params": vectors, "weight_decay": 0.0},
    ]


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return {k: v.detach().clone() for k, v in model.state_dict().items()}


def run(
    trainer: Trainer, folder: Path, *, save_every: float = 300.0, log_every: int = 20,
    until: float | None = None, report: Report = print,
) -> None:  # fmt: skip
    """Train to the schedule's end, or for `until` seconds; state and log go to `folder`.

    Resumes from ``state.pt`` there. Ctrl-C saves before it ends.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state, log = folder / "state.pt", folder / "log.jsonl"
    if state.is_file():
        trainer.load(state)
    job = trainer.job
    start = saved = time.monotonic()
    ahead = Ahead(job.seed, job.plan, job.source, trainer.step)
    window: list[tuple[float, Episode]] = []
    try:
        with ahead as batches:
            while trainer.step < job.schedule.steps:
                episode = trainer.train_step(next(batches))
                window.append((float(episode.mean_loss.detach()), episode))
                now = time.monotonic()
                if trainer.step % log_every == 0:
                    line = _line(trainer, window, now - start)
                    window.clear()
                    with log.open("a", encoding="utf-8") as file:
                        file.write(json.dumps(line) + "\n")
                    report(_shown(line))
                if now - saved > save_every:
                    trainer.save(state)
                    saved = now
                if until is not None and now - start > until:
                    break
    finally:
        trainer.save(state)


def _line(trainer: Trainer, window: list[tuple[float, Episode]], seconds: float) -> dict[str, Any]:
    ious: dict[str, list[float]] = {}
    for _, episode in window:
        for name, values in episode.ious.items():
            ious.setdefault(name, []).extend(values)
    return {
        "step": trainer.step,
        "seconds": round(seconds, 1),
        "rate": trainer.job.schedule.rate_at(trainer.step - 1),
        "loss": float(np.mean([loss for loss, _ in window])),
        "iou": {name: round(float(np.mean(v)), 4) for name, v in sorted(ious.items())},
    }


def _shown(line: dict[str, Any]) -> str:
    ious = " ".join(f"{k} {v:.2f}" for k, v in line["iou"].items())
    return f"{line['step']:6d} {line['seconds']:7.0f} s  loss {line['loss']:.3f}  {ious}"


def batches_of(job: Job, first: int = 0) -> Iterator[Batch]:
    """The job's batches in this process, from step `first` on."""
    step = first
    while True:
        yield make_batch(np.random.default_rng([job.seed, step]), job.plan(step), job.source)
        step += 1


def save_weights(trainer: Trainer, path: Path, dtype: torch.dtype = torch.float16) -> None:
    """The averaged weights under the original's names, at 16 bits."""
    from safetensors.torch import save_file

    state = {k: v.detach().cpu().to(dtype).contiguous() for k, v in trainer.averaged.items()}
    with replaced_file(path) as part:
        save_file(state, part)


def describe(job: Job) -> dict[str, Any]:
    """The job as JSON data, for the log and for the weights' own record."""
    return {
        "model": job.config.name, "seed": job.seed, "pictures": job.pictures,
        "objects": job.objects, "schedule": asdict(job.schedule), "weights": asdict(job.weights),
    }  # fmt: skip
