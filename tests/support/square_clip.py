"""A clip of a bright square, and prompts for it on the first frame."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

CLICK: dict[str, Any] = {"points": [[20, 42]], "labels": [1]}
BOX: dict[str, Any] = {"box": [8, 30, 32, 54]}


def moving_square(frames: int, size: int = 96) -> NDArray[np.uint8]:
    """[T, H, W, 3] uint8: a bright square crosses a textured background."""
    rng = np.random.default_rng(5)
    ground = rng.integers(30, 120, (size, size + 32, 3), np.uint8)
    video = np.repeat(ground[None], frames, 0)
    for t in range(frames):
        x = 8 + (2 * t) % size
        video[t, 30:54, x : x + 24] = (230, 190, 60)
    return video
