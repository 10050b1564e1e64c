"""The trainer: model, optimiser and averaged weights at one step of a recipe."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import save as serialized
from torch import Tensor, nn

from ..configs.errors import CheckpointError
from ..configs.staging import replaced_file
from ..export.model.sam2 import build_model
from .batches import Batch
from .episodes import Episode, PromptKind, clip_episode, image_episode
from .initial import initialised
from .recipe import Recipe


class Trainer:
    """Model, optimiser and averaged weights at one step of a recipe."""

    def __init__(self, recipe: Recipe, device: str = "cpu") -> None:
        torch.manual_seed(recipe.seed)
        self.recipe, self.step = recipe, 0
        self.model = initialised(build_model(recipe.model)).to(device).train()
        self.optimiser = torch.optim.AdamW(
            _groups(self.model), lr=recipe.rate, betas=(0.9, 0.98), fused=True
        )
        self.averaged = _copy(self.model)

    def train_step(self, batch: Batch) -> Episode:
        """One step of the recipe on its batch."""
        rate = self.recipe.rate_at(self.step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        episode = self._episode(batch)
        self.optimiser.zero_grad(set_to_none=True)
        torch.autograd.backward(episode.mean_loss)
        nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimiser.step()
        self._average()
        self.step += 1
        return episode

    def _episode(self, batch: Batch) -> Episode:
        """The step's prompts on the batch, and their loss."""
        recipe, step = self.recipe, self.step
        rng = np.random.default_rng([recipe.seed, step, 2])
        weights, rounds = recipe.weights_at(step), int(rng.integers(0, 3))
        if recipe.is_clip(step):
            kinds: list[PromptKind] = ["click", "box", "box", "mask"]
            kind = kinds[int(rng.integers(len(kinds)))]
            # what the score says of presence is worth nothing before it is learned
            own = step >= recipe.balanced_until
            return clip_episode(self.model, batch, rng, kind, rounds // 2, weights, own)
        # boxes take longest to be heeded among many objects
        kinds = ["click", "box", "box", "clicks"]
        kind = kinds[int(rng.integers(len(kinds)))]
        return image_episode(self.model, batch, rng, kind, rounds, weights)

    def _average(self) -> None:
        decay = min(self.recipe.average, (self.step + 1) / (self.step + 10))
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
        with replaced_file(path) as part, _Writer(io.FileIO(part, "w"), 1 << 20) as file:
            try:
                torch.save(data, file)
            except RuntimeError:
                if file.failed is None:
                    raise
                raise file.failed from None

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

    def save_weights(self, path: Path, dtype: torch.dtype = torch.float16) -> None:
        """Write the averaged weights under the original's names, at 16 bits."""
        state = {k: v.detach().cpu().to(dtype).contiguous() for k, v in self.averaged.items()}
        with replaced_file(path) as part:
            part.write_bytes(serialized(state))


class _Writer(io.BufferedWriter):
    """A file that keeps why it could not be written: torch says no more than that it was not."""

    failed: OSError | None = None

    def write(self, data: Any) -> int:
        try:
            return super().write(data)
        except OSError as error:
            self.failed = error
            raise


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
