"""Pixels on the device: frames to the model's input, low-resolution logits to masks.

Kernels beside the engine, on its stream, and their numpy references. Each gives the bits of
the CPU path: resizing is Pillow's integer arithmetic, masks are products and sums in the same
order, compiled without fused multiply-add.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kernel import Kernel, Launch

Array = NDArray[Any]

#: Pillow keeps filter weights as integers of this many fractional bits (Resample.c)
_BITS = 22
#: width of the bicubic filter (a = -0.5) at full scale, to each side
_SUPPORT = 2.0


def _bicubic(x: Array) -> Array:
    x, a = np.abs(x), -0.5
    near = ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0
    far = (((x - 5.0) * x + 8.0) * x - 4.0) * a
    result: Array = np.where(x < 1.0, near, np.where(x < 2.0, far, 0.0))
    return result


@lru_cache(maxsize=16)
def bicubic_taps(n_in: int, n_out: int) -> tuple[Array, Array]:
    """Pillow's antialiased bicubic as integers: first source [n_out], weights [n_out, T] int32.

    Weights beyond the last source are 0.
    """
    scale = n_in / n_out
    stretch = max(scale, 1.0)
    support = _SUPPORT * stretch
    centre = (np.arange(n_out) + 0.5) * scale
    first = np.maximum((centre - support + 0.5).astype(np.int64), 0)
    last = np.minimum((centre + support + 0.5).astype(np.int64), n_in)
    taps = np.arange(int(np.ceil(support)) * 2 + 1)
    weights = _bicubic((taps + first[:, None] - centre[:, None] + 0.5) * (1.0 / stretch))
    weights[taps >= (last - first)[:, None]] = 0.0
    total = np.zeros(n_out)
    for column in weights.T:
        total += column
    scaled = weights / total[:, None] * (1 << _BITS)
    rounded = np.trunc(np.where(scaled < 0, scaled - 0.5, scaled + 0.5))
    return first.astype(np.int32), rounded.astype(np.int32)


def resize_normalise(rgb_hwc: Array, size: int, table: Array) -> Array:
    """A video frame as the model's input: uint8 [H,W,3] -> float32 [3,size,size].

    Pillow's bicubic, along the rows first, rounded to uint8 after each of the two passes; then
    `table` [3,256] float32 maps each channel's value to its normalised one. Pillow 13 turns the
    passes round for some portrait frames; the original ran on versions that do not.
    """
    narrow = _resample(rgb_hwc.transpose(1, 0, 2), size).transpose(1, 0, 2)
    small = _resample(narrow, size)
    return np.stack([table[c].take(small[..., c]) for c in range(3)])


def _resample(x: Array, count: int) -> Array:
    """Resample the leading axis of uint8 [n, ...] to `count`."""
    if len(x) == count:
        return x
    first, weights = bicubic_taps(len(x), count)
    wide = x.astype(np.int64)
    total = np.full((count, *x.shape[1:]), 1 << (_BITS - 1), np.int64)
    for tap in range(weights.shape[1]):
        source = np.minimum(first + tap, len(x) - 1)
        total += weights[:, tap].astype(np.int64).reshape(-1, *[1] * (x.ndim - 1)) * wide[source]
    result: Array = np.clip(total >> _BITS, 0, 255).astype(np.uint8)
    return result


#: first source [n_out] and weights [T, n_out] of a filter
Taps = tuple[Array, Array]


def antialias_normalise(
    rgb_hwc: Array, columns: Taps, rows: Taps, table: Array, mean: Array, std: Array
) -> Array:
    """An image as the model's input: uint8 [H,W,3] -> float32 [3,rows,columns].

    `table` [256] gives a channel's value as float32; weighted sums along the rows, then down the
    columns, each in the order of the taps; then (x - mean) / std.
    """
    wide = _weighted(table[rgb_hwc].transpose(1, 0, 2), columns).transpose(1, 0, 2)
    small = _weighted(wide, rows)
    result: Array = ((small - mean) / std).transpose(2, 0, 1)
    return result


def _weighted(x: Array, taps: Taps) -> Array:
    """Weighted sums along the leading axis of float32 [n, ...]."""
    first, weights = taps
    total = np.zeros((weights.shape[1], *x.shape[1:]), np.float32)
    for tap, weight in enumerate(weights):
        source = np.minimum(first + tap, len(x) - 1)
        total += x[source] * weight.reshape(-1, *[1] * (x.ndim - 1))
    return total


@lru_cache(maxsize=16)
def lerp_table(n_in: int, n_out: int) -> tuple[Array, Array]:
    """Lower source [n_out] int32 and weight of the upper one [n_out] float32.

    Bilinear, corners not aligned, no antialias: torch's ``interpolate``; the upper source is the
    next one, or the same at the border.
    """
    scale = np.float64(np.float32(n_in) / np.float32(n_out))
    source = np.maximum((scale * (np.arange(n_out) + 0.5) - 0.5).astype(np.float32), np.float32(0))
    low = np.minimum(source.astype(np.int64), n_in - 1)
    weight = np.clip(source - low.astype(np.float32), np.float32(0), np.float32(1))
    return low.astype(np.int32), weight


def upsample_mask(logits: Array, size: tuple[int, int], threshold: float) -> Array:
    """Masks at frame size: float32 [N,h,w] -> bool [N,*size], upsampled logits > threshold."""
    (y, wy), (x, wx) = (lerp_table(n, m) for n, m in zip(logits.shape[1:], size, strict=True))
    x_high = np.minimum(x + 1, logits.shape[2] - 1)
    y_high = np.minimum(y + 1, logits.shape[1] - 1)
    one = np.float32(1)
    wide = logits[..., x] * (one - wx) + logits[..., x_high] * wx
    tall = wide[:, y] * (one - wy)[:, None] + wide[:, y_high] * wy[:, None]
    result: Array = tall > np.float32(threshold)
    return result


_ANY = Launch({"BLOCK": 256}, 4, 1)

KERNELS: dict[str, tuple[str, Kernel]] = {
    "resize_rows": (
        "Pillow's bicubic along a row, uint8 to uint8",
        Kernel(
            "pixel_kernels", "resize_rows",
            {"x_ptr": "*u8", "first_ptr": "*i32", "weight_ptr": "*i32", "n_out": "i32",
             "n_in": "i32", "n_tap": "i32", "out_ptr": "*u8"},
            {80: (_ANY,)},
        ),
    ),
    "resize_columns_normalise": (
        "Pillow's bicubic down the columns, then the normalisation table",
        Kernel(
            "pixel_kernels", "resize_columns_normalise",
            {"x_ptr": "*u8", "first_ptr": "*i32", "weight_ptr": "*i32", "table_ptr": "*fp32",
             "n_out": "i32", "n_in": "i32", "n_tap": "i32", "out_ptr": "*fp32"},
            {80: (_ANY,)},
        ),
    ),
    "antialias_rows": (
        "float bilinear with antialias along a row, uint8 to float32",
        Kernel(
            "pixel_kernels", "antialias_rows",
            {"x_ptr": "*u8", "table_ptr": "*fp32", "first_ptr": "*i32", "weight_ptr": "*fp32",
             "n_out": "i32", "n_in": "i32", "n_tap": "i32", "out_ptr": "*fp32"},
            {80: (_ANY,)},
            fused=False,
        ),
    ),
    "antialias_columns_normalise": (
        "float bilinear with antialias down the columns, then normalisation",
        Kernel(
            "pixel_kernels", "antialias_columns_normalise",
            {"x_ptr": "*fp32", "first_ptr": "*i32", "weight_ptr": "*fp32", "mean_ptr": "*fp32",
             "std_ptr": "*fp32", "n_out": "i32", "n_in": "i32", "n_tap": "i32",
             "out_ptr": "*fp32"},
            {80: (_ANY,)},
            fused=False,
        ),
    ),
    "upsample_mask": (
        "bilinear upsampling of mask logits and threshold",
        Kernel(
            "pixel_kernels", "upsample_mask",
            {"x_ptr": "*fp32", "y_low_ptr": "*i32", "y_weight_ptr": "*fp32", "x_low_ptr": "*i32",
             "x_weight_ptr": "*fp32", "threshold": "fp32", "h": "i32", "w": "i32",
             "n_rows": "i32", "n_columns": "i32", "out_ptr": "*u8"},
            {80: (_ANY,)},
            fused=False,
        ),
    ),
}  # fmt: skip
