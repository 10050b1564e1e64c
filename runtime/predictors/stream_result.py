"""What a stream gives for a frame: masks are made when asked for, in the form asked for.

At frame size one object's logits take four bytes a pixel: 13 GB for a hundred objects on a frame
of 8K. So a result keeps low-resolution logits, and brings one object at a time to frame size,
straight to a mask, bits or run lengths.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any, cast

import numpy as np

from ..arrays import Array, Logits, Mask, Scores
from ..bank import FrameOutput
from ..gpu.tensor import DeviceTensor
from ..pixels.detections import detections_from_masks
from ..pixels.mask_output import FrameLogits, frame_logits
from ..pixels.rle import Rle, rle_from_mask
from ..pixels.upsample import upsample_bilinear, upsampled_above, upsampled_rows
from ..session import Session

#: logits that a pixel gets from objects that do not own it (the original's constraint)
_LOST = np.float32(-10)
#: rows of all objects done at a time
_ROWS = 64


@dataclass(frozen=True, eq=False)
class StreamResult:
    """One frame's result for N objects, in the order in which they were added.

    object_scores: [N] float32, > 0 where the object is present. ious: [N] float32, predicted
    quality 0..1. low_res_logits: [N, h, w] float32, four times finer than the embedding.
    frame_size: (H, W) pixels. frame_idx counts pushed frames from 0.
    """

    frame_idx: int
    obj_ids: list[int]
    object_scores: Scores
    ious: Scores
    low_res_logits: Logits
    frame_size: tuple[int, int]
    non_overlap_masks: bool = False

    @cached_property
    def logits(self) -> Logits:
        """[N, H, W] float32 at frame size; made on the first access and kept.

        With kernels for pixels they stay on the GPU until asked for, and ``logits.above(0.0)``
        gives the masks there.
        """
        low = self.low_res_logits
        if isinstance(low, FrameLogits):
            return low
        full = upsample_bilinear(low, self.frame_size)
        return without_overlap(full) if self.non_overlap_masks else full

    @property
    def masks(self) -> Mask:
        """[N, H, W] bool: logits > 0."""
        if isinstance(self.low_res_logits, FrameLogits):
            return self.low_res_logits.masks()
        out = np.zeros((len(self.obj_ids), *self.frame_size), np.bool_)
        for index, mask in enumerate(out):
            self._fill(index, mask)
        return out

    def each_mask(self) -> Iterator[Mask]:
        """The masks [H, W] bool one after another, so that one at a time is in memory."""
        for index in range(len(self.obj_ids)):
            if isinstance(self.low_res_logits, FrameLogits):
                yield np.asarray(self.low_res_logits[index] > 0)
                continue
            mask = np.zeros(self.frame_size, np.bool_)
            self._fill(index, mask)
            yield mask

    def rles(self) -> list[Rle]:
        """The masks as COCO run lengths. MissingExtraError without pycocotools."""
        return [rle_from_mask(mask) for mask in self.each_mask()]

    def to_supervision(self) -> Any:
        """The objects that are seen, as ``supervision.Detections``.

        ``tracker_id`` holds their ids, ``confidence`` the predicted quality 0..1. Masks of a video
        or an image: :func:`~sam2rt.runtime.pixels.detections.detections_from_masks`.
        MissingExtraError without supervision.
        """
        return detections_from_masks(self.masks, self.obj_ids, np.clip(self.ious, 0, 1))

    def bits(self) -> Array:
        """The masks as bits, uint8 [N, H, ceil(W / 8)]: ``np.unpackbits(..., axis=2, count=W)``."""
        height, width = self.frame_size
        out = np.empty((len(self.obj_ids), height, -(-width // 8)), np.uint8)
        for packed, mask in zip(out, self.each_mask(), strict=True):
            packed[...] = np.packbits(mask, axis=1)
        return out

    def _fill(self, index: int, mask: Mask) -> None:
        """Set an object's pixels in a mask that is False throughout."""
        for rows, cols, block in upsampled_above(self.low_res_logits[index], self.frame_size, 0.0):
            np.greater(block, np.float32(0), out=mask[rows, cols])
        if self._owner is not None:
            mask &= self._owner == index

    @cached_property
    def _owner(self) -> Array | None:
        """Index of the object with the highest logit, [H, W]; None where objects may overlap."""
        if not self.non_overlap_masks or len(self.obj_ids) < 2:
            return None
        owner = np.zeros(self.frame_size, np.uint8 if len(self.obj_ids) <= 256 else np.uint32)
        highest = np.full(self.frame_size, -np.inf, np.float32)
        for index, plane in enumerate(self.low_res_logits):
            for rows, block in upsampled_rows(plane, self.frame_size):
                higher = block > highest[rows]
                owner[rows][higher] = index
                np.copyto(highest[rows], block, where=higher)
        return owner


def stream_result(
    frame_idx: int,
    obj_ids: list[int],
    outputs: Sequence[FrameOutput],
    logits: Logits,
    size: tuple[int, int],
    overlap: bool,
) -> StreamResult:
    """The result of a frame of `size` (height, width), from the outputs of its objects in order.

    logits: as :func:`low_res_logits` makes them of the outputs.
    overlap: whether a pixel may belong to several objects.
    """
    return StreamResult(
        frame_idx=frame_idx,
        obj_ids=obj_ids,
        object_scores=np.array([o.object_score for o in outputs], np.float32),
        ious=np.array([o.iou for o in outputs], np.float32),
        low_res_logits=logits,
        frame_size=size,
        non_overlap_masks=not overlap,
    )


def low_res_logits(
    session: Session, outputs: Sequence[FrameOutput], size: tuple[int, int], overlap: bool
) -> Logits:
    """Logits [N, h, w]; on the GPU as a copy, since the session uses its tensors again."""
    side = session.bundle.model.mask_size
    low = [output.mask_logits for output in outputs]
    on_gpu = any(isinstance(part, DeviceTensor) for part in low)
    # who owns a pixel is decided on the host
    if on_gpu and overlap:
        full = frame_logits(session, low, size, _absent(side), axis=False)
        if isinstance(full, FrameLogits):
            return cast(Logits, full)
    planes = [np.asarray(part)[0] for part in low]
    return np.stack(planes) if planes else np.zeros((0, side, side), np.float32)


@cache
def _absent(side: int) -> Logits:
    """Logits of no object, of one a stream never has; made once, since each frame names them."""
    return np.zeros((1, side, side), np.float32)


def without_overlap(logits: Logits) -> Logits:
    """Leave each pixel to the object with the highest logit; others' are at most -10 there.

    logits: [N, ..., H, W] float32, changed in place and returned. Equals the original's
    non-overlapping constraint.
    """
    if len(logits) < 2:
        return logits
    logits = np.asarray(logits)
    numbers = np.arange(len(logits)).reshape(-1, *[1] * (logits.ndim - 1))
    for top in range(0, logits.shape[-2], _ROWS):
        band = logits[..., top : top + _ROWS, :]
        lost = band.argmax(axis=0)[None] != numbers
        np.minimum(band, _LOST, out=band, where=lost)
    return logits
