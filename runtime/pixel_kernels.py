"""The form that kernels for pixels fill in: work on frames and masks where the graphs run."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

from .arrays import Array


class PixelKernels(ABC):
    """Frames to the model's input and logits to masks on a device; of one thread's stream.

    Frames are arrays of the host or the device. Results are tensors on the device (numpy's
    `shape` and `dtype`, downloaded when numpy asks for them), ready for work on the same stream.
    Each method gives the bits of the host function that it names.
    """

    #: whether the kernels are gone; tensors they made stay
    closed: bool = False

    @abstractmethod
    def frame_tensor(self, frame: Any, size: int) -> Any:
        """A video frame, uint8 RGB [H, W, 3], as the model's input, float32 [1, 3, size, size].

        See :func:`~sam2rt.runtime.pixels.frame_tensor.video_frame_tensor`.
        """

    @abstractmethod
    def image_tensors(self, images: Sequence[Any], size: int) -> Any:
        """B images, uint8 RGB [H, W, 3], as the model's input, float32 [B, 3, size, size].

        See :func:`~sam2rt.runtime.pixels.frame_tensor.image_tensor`.
        """

    @abstractmethod
    def masks(self, logits: Any, size: tuple[int, int], threshold: float = 0.0) -> Any:
        """Logits [..., h, w] float32 at frame size, above the threshold: bool [..., *size].

        See :func:`~sam2rt.runtime.pixels.upsample.upsample_mask`.
        """

    @abstractmethod
    def foreseen_masks(self, logits: Any, size: tuple[int, int]) -> Any | None:
        """Masks [N, *size] of logits [N, h, w] that come to the host with the frame's other work.

        None where nobody took those of the last frame (:meth:`masks_taken`). What is given has
        their `threshold`; ``read()`` gives a copy of them, ``item(i)`` one object's.
        """

    @abstractmethod
    def masks_taken(self, size: tuple[int, int], threshold: float) -> None:
        """Masks of a frame were asked for: the next one's will be."""

    @abstractmethod
    def fill_holes(self, logits: Any, area: int, threshold: float = 0.0, value: float = 0.1) -> Any:
        """Logits [..., h, w] float32 with the background's components of at most `area` pixels
        filled. See :func:`~sam2rt.runtime.pixels.components.fill_holes`.
        """

    @abstractmethod
    def clean(self, logits: Any, threshold: float, hole_area: float, sprinkle_area: float) -> Any:
        """Logits [..., h, w] float32 without small holes and specks.

        See :func:`~sam2rt.runtime.pixels.components.clean_mask`.
        """

    @abstractmethod
    def joined(self, tensors: Sequence[Any]) -> Any:
        """Tensors of one shape as one, along a new first axis; a single one is not copied."""

    @abstractmethod
    def uploaded(self, array: Array) -> Any:
        """A host array on the device."""
