"""A live stream: frames come as files in memory, masks go as run lengths."""

from __future__ import annotations

import io
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...configs.errors import FrameError, Sam2rtError, means_low_memory
from ...runtime.arrays import Frame
from ...runtime.media.images import image_pixels
from ...runtime.packages import pillow_image
from ...runtime.pixels.rle import rle_from_mask
from ...runtime.predictors.stream import StreamTracker
from .limits import ServerLimits, TooLargeError, TooManyError
from .model import Model
from .prompts import ObjectMask, Prompt, prompt_mask

_FORMATS = ("JPEG", "PNG", "WEBP")
#: frame, dropped, width, height, number of objects; object, score, length of the run lengths
_HEAD, _ITEM = struct.Struct("<IIIIH"), struct.Struct("<IfI")


@dataclass(frozen=True)
class LiveResult:
    """One frame's masks. frame: its index among all that came; dropped: how many were left out."""

    frame: int
    dropped: int
    size: tuple[int, int]
    masks: list[ObjectMask]

    def described(self) -> dict[str, Any]:
        """As text."""
        return {
            "frame": self.frame,
            "dropped": self.dropped,
            "width": self.size[1],
            "height": self.size[0],
            "objects": [mask.described() for mask in self.masks],
        }

    def packed(self) -> bytes:
        """As bytes, little endian: see the guide."""
        height, width = self.size
        parts = [_HEAD.pack(self.frame, self.dropped, width, height, len(self.masks))]
        for found in self.masks:
            counts = found.mask["counts"].encode("ascii")
            parts += [_ITEM.pack(found.object, found.score or 0.0, len(counts)), counts]
        return b"".join(parts)


class LiveSession:
    """One client's stream; all but :meth:`decoded` in the model's thread."""

    def __init__(self, model: Model, limits: ServerLimits, no_overlap: bool) -> None:
        self._limits = limits
        self._size: tuple[int, int] | None = None
        self._prompts: dict[int, Prompt] = {}
        self._tracker = StreamTracker(
            model.bundle, session=model.session, non_overlap_masks=no_overlap
        )

    def decoded(self, content: bytes) -> Frame:
        """A frame uint8 RGB [H, W, 3] from a JPEG, PNG or WebP. FrameError, TooLargeError."""
        return decoded_frame(content, self._limits)

    def act(self, message: Mapping[str, Any]) -> None:
        """Do what a message asks for, one of prompt, remove and reset. InputError, TooManyError."""
        if "prompt" in message:
            self._prompt(Prompt.of(message["prompt"]))
        elif "remove" in message:
            self._tracker.remove_object(message["remove"], strict=True)
        else:
            self._tracker.reset()
            self._size = None

    def step(self, frame: Frame, index: int, dropped: int) -> LiveResult:
        """Track the objects on a frame, number `index` of all that came. FrameError, InputError."""
        if index > self._tracker.frame_idx:
            self._tracker.skip_to(index)
        result = self._tracker.step(frame)
        self._size = result.frame_size
        masks = []
        scores = result.object_scores
        for obj_id, score, mask in zip(result.obj_ids, scores, result.each_mask(), strict=True):
            area = int(np.count_nonzero(mask))
            masks.append(ObjectMask(obj_id, rle_from_mask(mask), area, float(score)))
        return LiveResult(index, dropped, result.frame_size, masks)

    def close(self) -> None:
        """Free what the stream holds."""
        self._tracker.reset()
        self._tracker.close()

    def _prompt(self, prompt: Prompt) -> None:
        known = self._tracker.obj_ids
        if prompt.object not in known and len(known) >= self._limits.objects:
            raise TooManyError(f"the stream has {len(known)} objects, the most it may have")
        if prompt.mask is not None:
            rle = prompt.mask
            height, width = rle["size"]
            size = self._size or (height, width)
            self._tracker.add_mask(prompt.object, prompt_mask(rle, size))
        else:
            self._tracker.add_points(prompt.object, **prompt.asked(), clear_old_points=prompt.clear)


def decoded_frame(content: bytes, limits: ServerLimits) -> Frame:
    """A frame uint8 RGB [H, W, 3] from a JPEG, PNG or WebP. FrameError, TooLargeError."""
    try:
        with pillow_image().open(io.BytesIO(content), formats=_FORMATS) as image:
            count = image.size[0] * image.size[1]
            if count > limits.pixels:
                raise TooLargeError(
                    f"the frame has {count} pixels, expected at most {limits.pixels}"
                )
            return np.array(image_pixels("the frame", image))
    except Sam2rtError:
        raise
    except Exception as error:
        # Pillow's readers raise anything for damaged files
        if means_low_memory(error):
            raise
        raise FrameError(
            "the frame is no JPEG, PNG or WebP that can be read: send another"
        ) from None
