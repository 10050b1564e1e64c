"""The recipe of a training run: all that decides its outcome, with the defaults of the command.

Imports neither torch nor OpenCV, so that the command line can read the defaults.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..configs.models import MODELS, ModelConfig

if TYPE_CHECKING:
    from ..benchmarks.synthetic.clips import Level

#: steps over which the rate falls, unless said otherwise; a short run keeps to a third of it
COOL_DOWN = 4000


@dataclass(frozen=True)
class LossWeights:
    """The weight of each part of the loss."""

    focal: float = 20.0
    balanced: float = 0.0
    dice: float = 1.0
    iou: float = 2.0
    score: float = 4.0
    #: masks other than the one that counts
    others: float = 0.25


@dataclass(frozen=True)
class BatchPlan:
    """What to draw: clips, frames a clip, objects a clip at most, and the mix of levels."""

    clips: int
    frames: int
    objects: int
    levels: tuple[Level, ...]
    size: int = 256
    #: clips with fewer objects on their first frame are passed over
    fewest: int = 1
    #: frames after the first that are tracked through without a loss
    burn_in: int = 0
    #: share of clips in which an object gives its place to others and stays away
    swaps: float = 0.0


@dataclass(frozen=True)
class Recipe:
    """One run. The defaults train the built-in model from nothing, as ``sam2rt train`` does."""

    model: ModelConfig = MODELS["sam2rt_micro"]
    #: checkpoint to start from (path, name or hub id); None: untrained weights
    start: str | None = None
    #: folder of annotated videos; None: synthetic clips
    data: Path | None = None
    steps: int = 13500
    #: highest learning rate
    rate: float = 1e-3
    #: steps of rising rate
    warm_up: int = 200
    #: steps of falling rate; None: COOL_DOWN, or a third of the steps if that is less
    cool_down: int | None = None
    #: step at which clips join; before it, images alone
    clips_from: int = 640
    #: steps of the plain level alone; the standard level joins then
    plain_only: int = 1100
    #: steps under the class-balanced loss; the hard level joins then
    balanced_until: int = 4000
    #: share of steps on clips, once they have joined
    clips: float = 0.5
    #: longer clips from this step on
    longer_from: int = 4000
    #: frames of a clip from then on
    longest: int = 5
    #: half of those clips have 2 to so many frames more, tracked through without a loss
    burn_in: int = 12
    #: share of the longer clips in which an object gives its place to others and stays away
    swaps: float = 0.0
    #: images a step, and prompted objects an image at most
    images: int = 6
    objects: int = 4
    seed: int = 0
    weights: LossWeights = field(default_factory=LossWeights)
    #: decay of the averaged weights
    average: float = 0.998

    def fine_tuned(self, model: ModelConfig) -> Recipe:
        """The same for a trained checkpoint of `model`: it starts where the curriculum ends."""
        return replace(
            self,
            model=model,
            warm_up=min(50, self.steps),
            clips_from=0,
            plain_only=0,
            balanced_until=0,
            longer_from=0,
        )

    @property
    def falling_steps(self) -> int:
        """Steps at the end over which the rate falls.

        A fall longer than the run would never let the rate reach what was asked for.
        """
        return min(COOL_DOWN, self.steps // 3) if self.cool_down is None else self.cool_down

    def rate_at(self, step: int) -> float:
        """The learning rate: it rises, stays, and falls linearly over the last steps."""
        rise = min(1.0, (step + 1) / self.warm_up)
        fall = min(1.0, max(self.steps - step, 1) / max(self.falling_steps, 1))
        return self.rate * min(rise, fall)

    def is_clip(self, step: int) -> bool:
        """Whether the step is one on clips, not on single images."""
        rng = np.random.default_rng([self.seed, step, 1])
        return bool(step >= self.clips_from and rng.random() < self.clips)

    def weights_at(self, step: int) -> LossWeights:
        """The class-balanced loss at first, then the recipe's own weights."""
        if step < self.balanced_until:
            return replace(self.weights, focal=0.0, balanced=3.0)
        return self.weights

    def levels_at(self, step: int) -> tuple[Level, ...]:
        """The levels of synthetic clips, each as often as it stands here."""
        if step < self.plain_only:
            return ("plain",)
        if step < self.balanced_until:
            return ("plain", "standard")
        return ("plain", "standard", "standard", "standard", "hard")

    def burn_in_at(self, step: int) -> int:
        """Frames of the step's clips that are tracked through without a loss."""
        rng = np.random.default_rng([self.seed, step, 3])
        if step < max(self.longer_from, self.balanced_until) or self.burn_in < 2:
            return 0
        return int(rng.integers(2, self.burn_in + 1)) if rng.random() < 0.5 else 0

    def batch_plan(self, step: int) -> BatchPlan:
        """What the step's batch is drawn from."""
        levels, size = self.levels_at(step), self.model.image_size
        if not self.is_clip(step):
            fewest = min(2, self.objects) if step < self.clips_from else 1
            return BatchPlan(self.images, 1, self.objects, levels, size, fewest)
        longer = step >= self.longer_from
        frames, burn_in = self.longest if longer else 3, self.burn_in_at(step)
        return BatchPlan(
            max(self.images // frames, 1),
            frames + burn_in,
            self.objects,
            levels,
            size,
            burn_in=burn_in,
            swaps=self.swaps if longer else 0.0,
        )

    def describe(self) -> dict[str, Any]:
        """The recipe as JSON data, for the record beside the weights."""
        data = None if self.data is None else str(self.data)
        return {
            **asdict(self),
            "model": self.model.name,
            "data": data,
            "cool_down": self.falling_steps,
        }
