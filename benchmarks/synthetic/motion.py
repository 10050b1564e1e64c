"""How synthetic objects and cameras move: smooth paths, leaving and returning, deformation.

Speeds are per frame and lengths relative to the image side, so that a clip looks alike at every
size; events (leaving, crossing) are placed relative to the clip's length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Rng = np.random.Generator
Float = NDArray[np.float64]


@dataclass(frozen=True)
class Wave:
    """Sum of two sines of time: offset + amplitude * sin(speed * t + phase), per component."""

    amplitude: Float
    speed: Float
    phase: Float

    def __call__(self, t: float) -> Float:
        """[components] at time t; zero mean, at most the sum of the amplitudes."""
        value: Float = (self.amplitude * np.sin(self.speed * t + self.phase)).sum(axis=0)
        return value


def wave(rng: Rng, reach: Float, speed: float) -> Wave:
    """A wave whose component i stays within +-reach[i] and moves about reach * speed a frame."""
    share = rng.uniform(0.5, 0.8, reach.shape)
    amplitude = np.stack([reach * share, reach * (1 - share)])
    speeds = speed * rng.uniform(0.6, 1.4, amplitude.shape) * np.array([[1.0], [1.9]])
    return Wave(amplitude, speeds, rng.uniform(0, 2 * np.pi, amplitude.shape))


@dataclass(frozen=True)
class Excursion:
    """Leaving along a direction and returning: 0, ramps to 1, holds, ramps back to 0."""

    direction: Float
    start: float
    away: float
    back: float
    end: float

    def __call__(self, t: float) -> Float:
        """[2] offset in image sides at time t."""
        up = np.clip((t - self.start) / (self.away - self.start), 0, 1)
        down = np.clip((t - self.back) / (self.end - self.back), 0, 1)
        offset: Float = self.direction * (_smooth(up) - _smooth(down))
        return offset


def _smooth(x: Float) -> Float:
    return x * x * (3 - 2 * x)


def excursion(rng: Rng, anchor: Float, reach: float, duration: float) -> Excursion:
    """Leave over the nearest border far enough to vanish, return before the clip ends.

    `anchor` [2] in 0..1, `reach` how far object and path extend from it, `duration` in frames.
    """
    gaps = np.array([anchor[0], 1 - anchor[0], anchor[1], 1 - anchor[1]])
    side = int(gaps.argmin())
    unit = np.array([(-1.0, 0.0), (1.0, 0.0), (0.0, -1.0), (0.0, 1.0)][side])
    start, away, back, end = np.array([0.1, 0.35, 0.55, 0.8]) + rng.uniform(-0.08, 0.18)
    return Excursion(
        unit * (gaps[side] + reach + 0.05),
        start * duration,
        away * duration,
        back * duration,
        end * duration,
    )


@dataclass(frozen=True)
class Crossing:
    """Passing once through the image along a straight line."""

    start: Float
    velocity: Float

    def __call__(self, t: float) -> Float:
        return self.start + self.velocity * t


def crossing(rng: Rng, target: Float, duration: float) -> Crossing:
    """A path that meets `target` [2] around the middle of the clip, at most 0.05 sides a frame."""
    turn = rng.uniform(0, 2 * np.pi)
    speed = min(1.4 / max(duration, 1.0), 0.05)
    velocity = speed * np.array([np.cos(turn), np.sin(turn)])
    return Crossing(target - velocity * duration * rng.uniform(0.35, 0.65), velocity)
