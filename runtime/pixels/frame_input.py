"""Frames and images as the model's input, made where the session's graphs run when it can."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...configs.errors import FrameError
from ..gpu.interop import device_view, is_device_array
from ..session import Session
from .frame_tensor import check_frame, image_tensor, video_frame_tensor


class FrameInput:
    """Checks and resizes video frames and images for one session.

    A session with kernels for pixels resizes on the device and takes frames that lie there
    (``__cuda_array_interface__``, DLPack); otherwise frames are host arrays. Both give the same
    bits, see :class:`~sam2rt.runtime.pixel_kernels.PixelKernels`.
    """

    def __init__(self, session: Session, size: int) -> None:
        self._session, self._size = session, size

    def checked(self, frame: Any) -> tuple[Any, tuple[int, int]]:
        """The frame and its (height, width); FrameError for what cannot be used."""
        if not is_device_array(frame):
            rgb = check_frame(frame)
            return rgb, (rgb.shape[0], rgb.shape[1])
        view = device_view(frame)
        if view.dtype != "uint8" or len(view.shape) != 3 or view.shape[2] != 3:
            raise FrameError(
                f"a frame on the GPU must be uint8 [H, W, 3], got {view.dtype} {list(view.shape)}"
            )
        if 0 in view.shape:
            raise FrameError(f"a frame has no pixels (shape {view.shape}): leave it out")
        if self._session.pixels() is None:
            raise FrameError(
                "this session takes frames in host memory alone: use backend='tensorrt' with "
                "engines built where triton is installed, or copy the frame"
            )
        return frame, (view.shape[0], view.shape[1])

    def tensor(self, frame: Any) -> Any:
        """A checked video frame as float32 [3, S, S], on the device when it was made there."""
        kernels = self._session.pixels()
        if kernels is None:
            return video_frame_tensor(frame, self._size)
        return kernels.frame_tensor(frame, self._size)[0]

    def image_tensors(self, images: Sequence[Any]) -> Any:
        """Checked images as float32 [B, 3, S, S], on the device when they were made there."""
        kernels = self._session.pixels()
        if kernels is None:
            return np.stack([image_tensor(image, self._size) for image in images])
        return kernels.image_tensors(images, self._size)
