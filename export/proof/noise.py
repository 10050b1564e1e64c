"""Random arrays with the structure of images and features."""

from __future__ import annotations

import numpy as np

from ...runtime.arrays import Array


def smooth_noise(shape: tuple[int, ...], stream: np.random.Generator) -> Array:
    """Unit-variance float32 noise, half of it in blobs: neither flat nor mere grain."""
    fine = stream.standard_normal(shape, np.float32)
    if len(shape) < 4:
        return fine
    side = shape[-1]
    coarse = stream.standard_normal((*shape[:-2], 8, 8), np.float32)
    spread = np.arange(side) * 8 // side
    mixed: Array = (fine + coarse[..., spread[:, None], spread]) * np.float32(0.5**0.5)
    return mixed
