"""Frames and images to the model's input.

Plain float32 arithmetic in a fixed order, without BLAS or fused multiply-add, so that another
implementation of the same steps gives the same bits. The two loaders differ on purpose, as in
the original: the image predictor resizes in float, the video loader as Pillow's bicubic on uint8.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ...configs.checks import shown
from ...configs.errors import FrameError
from ..arrays import NO_ARRAY, Array, Frame, Pixels, host_array
from ..packages import pillow_image
from .antialias import resize_plane

#: ImageNet statistics of R, G, B in 0..1, what every SAM 2 checkpoint was trained with
MEAN = np.array([0.485, 0.456, 0.406], np.float32)
STD = np.array([0.229, 0.224, 0.225], np.float32)


def check_frame(frame: Any) -> Frame:
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
        array = host_array(frame)
    except NO_ARRAY:
        array = np.empty(0, np.object_)
    if array.dtype.kind not in "biufc" or not array.ndim:
        found = f"an array of {array.dtype}" if isinstance(frame, np.ndarray) else shown(frame)
        raise FrameError(f"a frame must be uint8 [H, W, 3], got {found}: open_frames reads files")
    if array.dtype != np.uint8:
        raise FrameError(f"a frame must be uint8, got {array.dtype}: {_dtype_remedy(array)}")
    if array.ndim == 2:
        array = array[..., None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4):
        fix = _layout_remedy(array)
        raise FrameError(f"a frame must be [H, W, 3], got shape {np.shape(frame)}: {fix}")
    if array.size == 0:
        raise FrameError(f"a frame has no pixels (shape {np.shape(frame)}): leave it out")
    channels = np.repeat(array, 3, axis=2) if array.shape[2] == 1 else array[..., :3]
    return np.ascontiguousarray(channels)


def _layout_remedy(array: Array) -> str:
    if array.ndim == 3 and array.shape[0] == 3:
        return "use frame.transpose(1, 2, 0)"
    return "give one frame at a time" if array.ndim == 4 else "convert it to RGB"


def _dtype_remedy(array: Array) -> str:
    if array.dtype == np.bool_:
        return "use frame.astype(np.uint8) * 255"
    if array.dtype.kind == "f":
        frame = "frame" if (array > 1).any() else "(frame * 255)"
        return f"use {frame}.round().clip(0, 255).astype(np.uint8)"
    return "scale it to 0..255 and use frame.astype(np.uint8)"


def video_frame_tensor(rgb_hwc: Frame, size: int) -> Pixels:
    """A video frame as the model's input: uint8 [H, W, 3] -> float32 [3, size, size].

    The original's video loader: Pillow's bicubic on uint8 (rounded), divided by 255 in float64,
    stored as float32, then normalised. Aspect ratio is not kept. MissingExtraError without Pillow.
    """
    image = pillow_image().fromarray(rgb_hwc)
    resized = np.asarray(image.resize((size, size), pillow_image().Resampling.BICUBIC))
    table = _normalised((np.arange(256) / 255.0).astype(np.float32))
    return np.stack([table[c].take(resized[..., c]) for c in range(3)])


def image_tensor(rgb_hwc: Frame, size: int) -> Pixels:
    """An image as the model's input: uint8 [H, W, 3] -> float32 [3, size, size].

    The original's image transform: divided by 255, bilinear with antialias, normalised. Aspect
    ratio is not kept.
    """
    planes = [resize_plane(rgb_hwc[..., c], (size, size), 255) for c in range(3)]
    return np.stack([_normalised(plane, c) for c, plane in enumerate(planes)])


def _normalised(values: Array, channel: int | None = None) -> Pixels:
    c = slice(None) if channel is None else slice(channel, channel + 1)
    normalised: Pixels = (values - MEAN[c, None]) / STD[c, None]
    return normalised
