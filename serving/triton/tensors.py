"""What models take and give, as arrays by name; see the guide on Triton."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ...configs.errors import FrameError, InputError
from ...runtime.arrays import Array, Frame
from ...runtime.pixels.rle import Rle
from ...runtime.predictors.stream_result import StreamResult
from ..sessions.limits import ServerLimits, TooLargeError
from ..sessions.live import decoded_frame

#: name -> (type in a configuration, dimensions, whether it may be left out)
FRAME_INPUTS = {
    "FRAME": ("TYPE_UINT8", (-1, -1, 3), True),
    "ENCODED": ("TYPE_STRING", (1,), True),
    "PROMPTS": ("TYPE_STRING", (1,), True),
}
IMAGE_INPUTS = FRAME_INPUTS | {"PROMPTS": ("TYPE_STRING", (1,), False)}
VIDEO_INPUTS = {
    "CLIP": ("TYPE_STRING", (1,), False),
    "PROMPTS": ("TYPE_STRING", (1,), False),
}
IMAGE_OUTPUTS = {
    "OBJECT_IDS": ("TYPE_INT64", (-1,)),
    "SCORES": ("TYPE_FP32", (-1,)),
    "RLE": ("TYPE_STRING", (-1,)),
    "FRAME_SIZE": ("TYPE_INT32", (2,)),
}
STREAM_OUTPUTS = IMAGE_OUTPUTS | {"FRAME_INDEX": ("TYPE_INT64", (1,))}
Inputs = Mapping[str, Array | None]


def text_of(inputs: Inputs, name: str) -> bytes | None:
    """The bytes of an input of one string; None where it was left out."""
    given = inputs.get(name)
    if given is None:
        return None
    first = given.reshape(-1)[0]
    return first.encode("utf-8") if isinstance(first, str) else bytes(first)


def frame_of(inputs: Inputs, limits: ServerLimits) -> Frame | None:
    """The frame uint8 RGB [H, W, 3] of FRAME, or of the file in ENCODED; None without either.

    Raises InputError for both, FrameError for no image, TooLargeError for more pixels than taken.
    """
    frame, encoded = inputs.get("FRAME"), text_of(inputs, "ENCODED")
    if frame is not None and encoded is not None:
        raise InputError("FRAME and ENCODED were given: expected the frame once, leave one out")
    if encoded is not None:
        return decoded_frame(encoded, limits)
    if frame is None:
        return None
    height, width = frame.shape[:2]
    if height * width == 0:
        raise FrameError(f"FRAME has no pixels (shape {frame.shape}): leave it out")
    if height * width > limits.pixels:
        raise TooLargeError(
            f"the frame has {height * width} pixels, expected at most {limits.pixels}"
        )
    return frame


def required_frame(inputs: Inputs, limits: ServerLimits) -> Frame:
    """As :func:`frame_of`; InputError without a frame."""
    frame = frame_of(inputs, limits)
    if frame is None:
        raise InputError(
            "neither FRAME nor ENCODED was given: expected uint8 RGB [H, W, 3], or the bytes of a "
            "JPEG, PNG or WebP"
        )
    return frame


def mask_outputs(
    obj_ids: Sequence[int], scores: Any, rles: Sequence[Rle], size: tuple[int, int]
) -> dict[str, Array]:
    """The outputs of N objects: ids, scores and run lengths [N]; size: (height, width) pixels."""
    counts = np.empty(len(rles), np.object_)
    for index, rle in enumerate(rles):
        counts[index] = rle["counts"].encode("ascii")
    return {
        "OBJECT_IDS": np.array(obj_ids, np.int64),
        "SCORES": np.array(scores, np.float32),
        "RLE": counts,
        "FRAME_SIZE": np.array(size, np.int32),
    }


def stream_outputs(result: StreamResult, frame_idx: int) -> dict[str, Array]:
    """The outputs of a tracked frame."""
    masks = mask_outputs(result.obj_ids, result.object_scores, result.rles(), result.frame_size)
    return masks | {"FRAME_INDEX": np.array([frame_idx], np.int64)}


def no_frame_outputs() -> dict[str, Array]:
    """The outputs of a request that ends a session without a frame: no object, index -1."""
    return mask_outputs([], [], [], (0, 0)) | {"FRAME_INDEX": np.array([-1], np.int64)}
