"""Low-resolution logits to frame size, a block at a time."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from ..arrays import Array, Logits, Mask

#: output pixels worked on at a time: a few MB of temporaries whatever the frame size
_BLOCK = 1 << 18


def upsample_bilinear(logits: Logits, size: tuple[int, int]) -> Logits:
    """Logits at frame size: float32 [..., h, w] -> float32 [..., *size], size = (H, W).

    Plain bilinear, corners not aligned, no antialias (also when shrinking): torch's default.
    Within a row first, then between rows, each as a * (1 - w) + b * w in float32.
    """
    planes = logits.reshape(-1, *logits.shape[-2:])
    out = np.empty((len(planes), *size), np.float32)
    for plane, full in zip(planes, out, strict=True):
        for rows, block in upsampled_rows(plane, size):
            full[rows] = block
    return out.reshape(*logits.shape[:-2], *size)


def upsample_mask(logits: Logits, size: tuple[int, int], threshold: float = 0.0) -> Mask:
    """``upsample_bilinear(logits, size) > threshold`` as bool [..., *size], a block at a time."""
    planes = logits.reshape(-1, *logits.shape[-2:])
    out = np.empty((len(planes), *size), np.bool_)
    for plane, full in zip(planes, out, strict=True):
        for rows, block in upsampled_rows(plane, size):
            np.greater(block, np.float32(threshold), out=full[rows])
    return out.reshape(*logits.shape[:-2], *size)


def upsampled_above(
    plane: Logits, size: tuple[int, int], level: float
) -> Iterator[tuple[slice, slice, Logits]]:
    """Blocks of ``upsample_bilinear(plane, size)``, outside which no value exceeds `level`.

    plane: float32 [h, w]. Gives rows, columns and the block there, same bits; all blocks have the
    same columns, and none comes where nothing exceeds the level. A block's buffer is used again
    for the next. Saves work and memory where masks are small.
    """
    # values between two taps exceed both by a rounding at most
    above: Mask = plane > level - 1e-4 * (1 + abs(level))
    x, y = _lerp(plane.shape[1], size[1]), _lerp(plane.shape[0], size[0])
    rows, cols = _reached(y, np.any(above, axis=1)), _reached(x, np.any(above, axis=0))
    for part, block in _blocks(plane, x, y, rows, cols):
        yield part, cols, block


def _reached(lerp: _Lerp, chosen: Mask) -> slice:
    """Output positions between the first and last that read a chosen source."""
    sources = np.flatnonzero(chosen)
    if not sources.size:
        return slice(0, 0)
    outputs = np.flatnonzero((lerp.high >= sources[0]) & (lerp.low <= sources[-1]))
    return slice(int(outputs[0]), int(outputs[-1]) + 1) if outputs.size else slice(0, 0)


@dataclass(frozen=True)
class _Lerp:
    """Per output position: the two sources and their weights."""

    low: Array
    high: Array
    weight_low: Array
    weight_high: Array


@lru_cache(maxsize=16)
def _lerp(n_in: int, n_out: int) -> _Lerp:
    # rounded once, as torch's fused multiply-add does
    scale = np.float64(np.float32(n_in) / np.float32(n_out))
    source = (scale * (np.arange(n_out) + 0.5) - 0.5).astype(np.float32)
    source = np.maximum(source, np.float32(0))
    low = np.minimum(source.astype(np.int64), n_in - 1)
    weight = np.clip(source - low.astype(np.float32), np.float32(0), np.float32(1))
    return _Lerp(low, np.minimum(low + 1, n_in - 1), 1 - weight, weight)


def upsampled_rows(plane: Logits, size: tuple[int, int]) -> Iterator[tuple[slice, Logits]]:
    """Blocks of rows of one upsampled plane; a block's buffer is used again for the next."""
    x, y = _lerp(plane.shape[1], size[1]), _lerp(plane.shape[0], size[0])
    return _blocks(plane, x, y, slice(0, size[0]), slice(0, size[1]))


def _blocks(
    plane: Logits, x: _Lerp, y: _Lerp, rows: slice, cols: slice
) -> Iterator[tuple[slice, Logits]]:
    """Blocks of the output's `rows`, cut to its `cols`."""
    wide = plane.take(x.low[cols], axis=1) * x.weight_low[cols]
    wide += plane.take(x.high[cols], axis=1) * x.weight_high[cols]
    width, height = cols.stop - cols.start, rows.stop - rows.start
    step = max(1, _BLOCK // max(width, 1))
    blocks = np.empty((2, min(step, height), width), np.float32)
    for top in range(rows.start, rows.stop, step):
        part = slice(top, min(top + step, rows.stop))
        low, high = blocks[:, : part.stop - top]
        wide.take(y.low[part], axis=0, out=low, mode="clip")
        wide.take(y.high[part], axis=0, out=high, mode="clip")
        low *= y.weight_low[part, None]
        high *= y.weight_high[part, None]
        low += high
        yield part, low
