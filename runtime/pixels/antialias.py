"""Bilinear resizing with antialias, with the bits of torch's weights.

Plain float32 arithmetic in a fixed order, without BLAS or fused multiply-add, so that another
implementation of the same steps gives the same bits.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from ..arrays import Array

#: output pixels worked on at a time: a few MB of temporaries whatever the frame size
_BLOCK = 1 << 18


def resize_antialias(x: Array, size: tuple[int, int]) -> Array:
    """Bilinear with antialias, corners not aligned: [..., H, W] -> float32 [..., *size].

    Equals torch's ``interpolate(antialias=True)`` up to the rounding of its fused operations.
    """
    planes = x.reshape(-1, *x.shape[-2:])
    out = np.empty((len(planes), *size), np.float32)
    for plane, resized in zip(planes, out, strict=True):
        resized[...] = resize_plane(plane, size, 1)
    return out.reshape(*x.shape[:-2], *size)


def resize_plane(plane: Array, size: tuple[int, int], divisor: int) -> Array:
    """Rows first, then columns; [H, W] of any dtype, divided by `divisor` -> float32 [*size]."""
    height, width = plane.shape
    narrow = np.empty((height, size[1]), np.float32)
    step = max(1, _BLOCK // width)
    for top in range(0, height, step):
        # columns as the leading axis: whole contiguous rows are gathered
        block = plane[top : top + step].T.astype(np.float32)
        if divisor != 1:
            block /= np.float32(divisor)
        narrow[top : top + step] = _resize_leading(block, size[1]).T
    return _resize_leading(narrow, size[0])


def _resize_leading(x: Array, count: int) -> Array:
    if len(x) == count:
        return x
    indices, weights = antialias_taps(len(x), count)
    out: Array = x.take(indices[0], axis=0) * weights[0, :, None]
    term = np.empty_like(out)
    for index, weight in zip(indices[1:], weights[1:], strict=True):
        x.take(index, axis=0, out=term, mode="clip")
        term *= weight[:, None]
        out += term
    return out


@lru_cache(maxsize=16)
def antialias_taps(n_in: int, n_out: int) -> tuple[Array, Array]:
    """Source indices and weights of a triangle filter as wide as one output pixel, both [T, n_out].

    float32 throughout, in torch's order, so that weights have its bits.
    """
    scale, half = np.float32(n_in) / np.float32(n_out), np.float32(0.5)
    support = max(scale, np.float32(1))
    centre = scale * (np.arange(n_out, dtype=np.float32) + half)
    first = np.maximum((centre - support + half).astype(np.int64), 0)
    count = np.minimum((centre + support + half).astype(np.int64), n_in) - first
    taps = np.arange(count.max())[:, None]
    distance = (taps + first).astype(np.float32) - centre + half
    weights = np.maximum(1 - np.abs(distance * (np.float32(1) / support)), np.float32(0))
    weights[taps >= count] = 0
    total = np.zeros(n_out, np.float32)
    for row in weights:
        total += row
    return np.minimum(taps + first, n_in - 1), weights / total
