"""The recipe of a training run: what is learned when, and everything that decides its outcome."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import numpy as np

from ..benchmarks.synthetic.clips import Level
from ..configs.models import ModelConfig
from .batches import Plan, Source
from .losses import Weights


@dataclass(frozen=True)
class Schedule:
    """What is learned when. The rate rises, stays, and falls linearly over the last steps."""

    steps: int
    rate: float = 1e-3
    warm_up: int = 200
    cool_down: int = 1000
    #: steps of pictures only, before clips join
    pictures_only: int = 650
    #: steps of plain pictures and clips; the standard level joins then
    plain_only: int = 1500
    #: steps under the class-balanced loss; the hard level joins then
    settle: int = 4000
    #: share of clip steps after that
    clips: float = 0.5
    #: longer clips from this step on
    longer_from: int = 4000
    #: frames of a clip from then on
    longest: int = 5
    #: half of those clips have 2 to so many frames more, tracked through without a loss
    unjudged: int = 12
    #: share of the longer clips in which an object gives its place to others and stays away
    departing: float = 0.0

    def rate_at(self, step: int) -> float:
        rise = min(1.0, (step + 1) / self.warm_up)
        fall = min(1.0, max(self.steps - step, 1) / max(self.cool_down, 1))
        return self.rate * min(rise, fall)


@dataclass(frozen=True)
class Job:
    """One run. Everything that decides its outcome is here."""

    config: ModelConfig
    schedule: Schedule
    source: Source
    seed: int = 0
    #: pictures a step, and prompted objects a picture
    pictures: int = 12
    objects: int = 4
    weights: Weights = field(default_factory=Weights)
    average: float = 0.998

    def is_clip(self, step: int) -> bool:
        rng = np.random.default_rng([self.seed, step, 1])
        after = step >= self.schedule.pictures_only
        return bool(after and rng.random() < self.schedule.clips)

    def weights_at(self, step: int) -> Weights:
        """The class-balanced loss while the model settles, then the job's own weights."""
        if step < self.schedule.settle:
            return replace(self.weights, focal=0.0, balanced=3.0)
        return self.weights

    def plan(self, step: int) -> Plan:
        schedule = self.schedule
        levels: tuple[Level, ...] = ("plain", "standard", "standard", "standard", "hard")
        if step < schedule.plain_only:
            levels = ("plain",)
        elif step < schedule.settle:
            levels = ("plain", "standard")
        size = self.config.image_size
        if not self.is_clip(step):
            fewest = min(2, self.objects) if step < schedule.pictures_only else 1
            return Plan(self.pictures, 1, self.objects, levels, size, fewest)
        frames = 3 if step < schedule.longer_from else schedule.longest
        clips = max(self.pictures // frames, 1)
        unjudged = self.unjudged(step)
        departing = schedule.departing if step >= schedule.longer_from else 0.0
        return Plan(
            clips, frames + unjudged, self.objects, levels, size, unjudged=unjudged,
            departing=departing,
        )  # fmt: skip

    def unjudged(self, step: int) -> int:
        rng = np.random.default_rng([self.seed, step, 3])
        most = self.schedule.unjudged
        if step < max(self.schedule.longer_from, self.schedule.settle) or most < 2:
            return 0
        return int(rng.integers(2, most + 1)) if rng.random() < 0.5 else 0
