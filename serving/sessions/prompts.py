"""What clients send and get of objects: prompts in, masks as run lengths out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...configs.errors import InputError
from ...runtime.arrays import Mask
from ...runtime.pixels.rle import Rle, mask_from_rle

#: largest id of an object
MOST_ID = (1 << 31) - 1


@dataclass(frozen=True)
class Prompt:
    """A prompt of one object on one frame, coordinates in pixels of the frame.

    points: x, y pairs with labels, 1 positive and 0 negative; box: x0, y0, x1, y1; mask: COCO run
    lengths of the frame's size, alone. clear False: the points join those given before.
    """

    object: int
    frame: int = 0
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    box: tuple[float, ...] | None = None
    mask: Rle | None = None
    clear: bool = True

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Prompt:
        """A prompt of fields whose types were checked; InputError for what does not go together."""
        points = tuple((float(x), float(y)) for x, y in fields.get("points") or ())
        labels, box = tuple(fields.get("labels") or ()), fields.get("box")
        mask = fields.get("mask")
        if mask is not None and (points or labels or box is not None):
            raise InputError("a mask goes alone: leave out points and box, or the mask")
        if any(label not in (0, 1) for label in labels):
            raise InputError(f"labels {list(labels)}: expected 1 (positive) or 0 (negative)")
        return cls(
            object=fields["object"],
            frame=fields.get("frame") or 0,
            points=points,
            labels=labels,
            box=None if box is None else tuple(float(side) for side in box),
            mask=mask,
            clear=fields.get("clear", True) is not False,
        )

    def asked(self) -> dict[str, Any]:
        """The points, labels and box as predictors take them."""
        given = {"points": list(self.points), "labels": list(self.labels), "box": self.box}
        return {name: value for name, value in given.items() if value}

    def joined(self, earlier: Prompt | None) -> Prompt:
        """What holds after this prompt, where `earlier` held."""
        if self.clear or earlier is None or self.mask is not None:
            return self
        points, labels = earlier.points + self.points, earlier.labels + self.labels
        return Prompt(self.object, self.frame, points, labels, earlier.box or self.box)

    def described(self) -> dict[str, Any]:
        """The prompt as clients see it; of a mask only that it is one."""
        return {
            "frame": self.frame,
            "object": self.object,
            "points": [list(point) for point in self.points],
            "labels": list(self.labels),
            "box": None if self.box is None else list(self.box),
            "mask": self.mask is not None,
        }


def prompt_mask(rle: Rle, size: tuple[int, int]) -> Mask:
    """The mask of a prompt, bool [H, W]; InputError where it is not of `size` (height, width)."""
    if tuple(rle["size"]) != size:
        raise InputError(
            f"the mask is {rle['size'][1]} x {rle['size'][0]}, the frame {size[1]} x {size[0]}: "
            "expected the frame's size"
        )
    mask = mask_from_rle(rle)
    if not mask.any():
        raise InputError("the mask marks no pixel: expected at least one")
    return mask


@dataclass(frozen=True)
class ObjectMask:
    """One object's mask on one frame; area in pixels, score where the task gives one."""

    object: int
    mask: Rle
    area: int
    score: float | None = None

    def described(self) -> dict[str, Any]:
        """The mask as clients see it."""
        return {
            "object": self.object,
            "mask": self.mask,
            "area": self.area,
            "score": self.score,
        }


def frame_masks(frame: int, masks: Mapping[int, ObjectMask]) -> dict[str, Any]:
    """All masks of a frame as clients see them."""
    return {"frame": frame, "objects": [mask.described() for mask in masks.values()]}
