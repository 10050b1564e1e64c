"""Pixels in and out of the model: frames to tensors, low-resolution logits to masks.

Plain float32 arithmetic in a fixed order, without BLAS or fused multiply-add, so that another
implementation of the same steps gives the same bits. The two loaders differ on purpose, as in
the original: the image predictor resizes in float, the video loader as Pillow's bicubic on uint8.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np

from ..configs.checks import shown
from ..configs.errors import FrameError
from .media import pillow_image
from .session import Array

#: ImageNet statistics of R, G, B in 0..1, what every SAM 2 checkpoint was trained with
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)

#: output pixels worked on at a time: a few MB of temporaries whatever the frame size
_BLOCK = 1 << 18


def check_frame(frame: Any) -> Array:
    """One frame as contiguous RGB, uint8 [H, W, 3].

    Takes uint8 RGB [H, W, 3], grey [H, W] or [H, W, 1] (repeated to three channels), RGBA
    [H, W, 4] (alpha dropped), any memory layout, or a Pillow image of 8 bits. Other dtypes are
    refused: whether a float frame counts to 1 or to 255 cannot be known. Raises FrameError.
    """
    if hasattr(frame, "convert") and hasattr(frame, "getbands"):
        # converting cuts these off at 255
        if frame.mode.startswith(("I", "F")):
            raise FrameError(f"a frame has pixels of mode {frame.mode}: convert it to 8 bits")
        frame = frame.convert("RGB")
    try:
        array = np.asarray(frame)
    except (TypeError, ValueError):
        array = np.empty(0, np.object_)
    if array.dtype.kind not in "biufc" or not array.ndim:
        found = f"an array of {array.dtype}" if isinstance(frame, np.ndarray) else shown(frame)
        raise FrameError(f"a frame must be uint8 [H, W, 3], got {found}: open_frames reads files")
    if array.dtype != np.uint8:
        raise FrameError(f"a frame must be uint8, got {array.dtype}: {_remedy(array)}")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        hint = "use frame.transpose(1, 2, 0)" if array.ndim == 3 and array.shape[0] == 3 else (
            "give one frame at a time" if array.ndim == 4 else "convert it to RGB"
        )  # fmt: skip
        raise FrameError(f"a frame must be [H, W, 3], got shape {np.shape(frame)}: {hint}")
    if array.size == 0:
        raise FrameError(f"a frame has no pixels (shape {np.shape(frame)}): leave it out")
    channels = np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array[..., :3]
    return np.ascontiguousarray(channels)


def _remedy(array: Array) -> str:
    if array.dtype == np.bool_:
        return "use frame.astype(np.uint8) * 255"
    if array.dtype.kind == "f":
        frame = "frame" if (array > 1).any() else "(frame * 255)"
        return f"use {frame}.round().clip(0, 255).astype(np.uint8)"
    return "scale it to 0..255 and use frame.astype(np.uint8)"


def video_frame_tensor(rgb_hwc: Array, size: int) -> Array:
    """A video frame as the model's input: uint8 [H, W, 3] -> float32 [3, size, size].

    The original's video loader: Pillow's bicubic on uint8 (rounded), divided by 255 in float64,
    stored as float32, then normalised. Aspect ratio is not kept. MissingExtraError without Pillow.
    """
    image = pillow_image().fromarray(rgb_hwc)
    resized = np.asarray(image.resize((size, size), pillow_image().Resampling.BICUBIC))
    table = _normalised((np.arange(256) / 255.0).astype(np.float32))
    return np.stack([table[c].take(resized[..., c]) for c in range(3)])


def image_tensor(rgb_hwc: Array, size: int) -> Array:
    """An image as the model's input: uint8 [H, W, 3] -> float32 [3, size, size].

    The original's image transform: divided by 255, bilinear with antialias, normalised. Aspect
    ratio is not kept.
    """
    planes = [_resize_plane(rgb_hwc[..., c], (size, size), 255) for c in range(3)]
    return np.stack([_normalised(plane, c) for c, plane in enumerate(planes)])


def _normalised(values: Array, channel: int | None = None) -> Array:
    c = slice(None) if channel is None else slice(channel, channel + 1)
    normalised: Array = (values - MEAN[c, None]) / STD[c, None]
    return normalised


def resize_antialias(x: Array, size: tuple[int, int]) -> Array:
    """Bilinear with antialias, corners not aligned: [..., H, W] -> float32 [..., *size].

    Equals torch's ``interpolate(antialias=True)`` up to the rounding of its fused operations.
    """
    planes = x.reshape(-1, *x.shape[-2:])
    out = np.empty((len(planes), *size), np.float32)
    for plane, resized in zip(planes, out, strict=True):
        resized[...] = _resize_plane(plane, size, 1)
    return out.reshape(*x.shape[:-2], *size)


def _resize_plane(plane: Array, size: tuple[int, int], divisor: int) -> Array:
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


def upsample_bilinear(logits: Array, size: tuple[int, int]) -> Array:
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


def upsample_mask(logits: Array, size: tuple[int, int], threshold: float = 0.0) -> Array:
    """``upsample_bilinear(logits, size) > threshold`` as bool [..., *size], a block at a time."""
    planes = logits.reshape(-1, *logits.shape[-2:])
    out = np.empty((len(planes), *size), np.bool_)
    for plane, full in zip(planes, out, strict=True):
        for rows, block in upsampled_rows(plane, size):
            np.greater(block, np.float32(threshold), out=full[rows])
    return out.reshape(*logits.shape[:-2], *size)


def upsampled_above(
    plane: Array, size: tuple[int, int], level: float
) -> Iterator[tuple[slice, slice, Array]]:
    """Blocks of ``upsample_bilinear(plane, size)``, outside which no value exceeds `level`.

    plane: float32 [h, w]. Gives rows, columns and the block there, same bits; all blocks have the
    same columns, and none comes where nothing exceeds the level. A block's buffer is used again
    for the next. Saves work and memory where masks are small.
    """
    # values between two taps exceed both by a rounding at most
    above: Array = plane > level - 1e-4 * (1 + abs(level))
    x, y = _lerp(plane.shape[1], size[1]), _lerp(plane.shape[0], size[0])
    rows, cols = _reached(y, np.any(above, axis=1)), _reached(x, np.any(above, axis=0))
    for part, block in _blocks(plane, x, y, rows, cols):
        yield part, cols, block


def _reached(lerp: _Lerp, chosen: Array) -> slice:
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


def upsampled_rows(plane: Array, size: tuple[int, int]) -> Iterator[tuple[slice, Array]]:
    """Blocks of rows of one upsampled plane; a block's buffer is used again for the next."""
    x, y = _lerp(plane.shape[1], size[1]), _lerp(plane.shape[0], size[0])
    return _blocks(plane, x, y, slice(0, size[0]), slice(0, size[1]))


def _blocks(
    plane: Array, x: _Lerp, y: _Lerp, rows: slice, cols: slice
) -> Iterator[tuple[slice, Array]]:
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
