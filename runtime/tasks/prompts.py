"""What a command is asked to find: clicks, a box or a mask of one object on one frame."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ...configs.checks import whole_number
from ...configs.errors import InputError
from ..pixels.rle import mask_from_rle
from ..tracking.prompts import points_from
from ..tracking.tracker import Points

#: x, y in pixels, and label: 1 object, 0 background
Click = tuple[float, float, int]
#: x0, y0, x1, y1 in pixels
Box = tuple[float, float, float, float]
#: a mask as COCO's run lengths: ``size`` [height, width] and ``counts``
MaskRuns = Mapping[str, Any]
#: by frame, then by object: points in model-input pixels, or a mask of the frame's size
FramePrompts = dict[int, dict[int, Points | MaskRuns]]


@dataclass(frozen=True)
class ObjectPrompt:
    """Clicks and a box, or a mask, of one object on one frame, in pixels of the frame.

    mask: COCO's run lengths, which take few bytes whatever the frame's size. place: where it was
    read, which errors name.
    """

    obj_id: int
    frame_idx: int
    points: Sequence[Click] = ()
    box: Box | None = None
    mask: MaskRuns | None = None
    place: str = field(default="", compare=False)

    def checked(self, frame_size: tuple[int, int], image_size: int) -> Points | MaskRuns:
        """Points in model-input pixels, or the mask. InputError names the object and the frame."""
        whole_number("obj_id", self.obj_id)
        if whole_number("frame_idx", self.frame_idx) < 0:
            raise InputError(f"frame {self.frame_idx}: frames count from 0")
        try:
            if self.mask is None:
                return self._points(frame_size, image_size)
            if self.points or self.box is not None:
                raise InputError("a mask and clicks or a box were given: give one or the other")
            check_mask_size(self.mask, frame_size)
            return self.mask
        except InputError as error:
            raise InputError(f"{self.where}: {error}") from None

    @property
    def where(self) -> str:
        """What errors call it, such as ``p.json, prompt 2: object 1 on frame 0``."""
        name = f"object {self.obj_id} on frame {self.frame_idx}"
        return f"{self.place}: {name}" if self.place else name

    def _points(self, frame_size: tuple[int, int], image_size: int) -> Points:
        coords = [point[:2] for point in self.points] or None
        labels = [point[2] for point in self.points] or None
        return points_from(coords, labels, self.box, frame_size=frame_size, image_size=image_size)


def check_mask_size(mask: MaskRuns, frame_size: tuple[int, int]) -> None:
    """InputError for run lengths that are damaged, or not of (height, width) pixels."""
    height, width = mask_from_rle(mask).shape
    if (height, width) != frame_size:
        raise InputError(
            f"the mask is {width} x {height}, the frame {frame_size[1]} x {frame_size[0]}: give "
            "one of the frame's size"
        )


def prompts_by_frame(
    prompts: Sequence[ObjectPrompt],
    frame_size: tuple[int, int],
    num_frames: int | None,
    image_size: int,
) -> FramePrompts:
    """The prompts by frame, all checked and converted before any work is done.

    frame_size: (height, width) pixels. num_frames: None where nobody knows. Raises InputError.
    """
    if not prompts:
        raise InputError("nothing to track: give at least one prompt")
    found: FramePrompts = {}
    for prompt in prompts:
        points = prompt.checked(frame_size, image_size)
        earlier = found.setdefault(prompt.frame_idx, {})
        if prompt.obj_id in earlier:
            raise InputError(
                f"object {prompt.obj_id} has two prompts on frame {prompt.frame_idx}: give its "
                "clicks and its box as one"
            )
        earlier[prompt.obj_id] = points
    if num_frames is not None:
        refuse_unreached({t: p for t, p in found.items() if t >= num_frames}, num_frames)
    return found


def refuse_unreached(prompts: FramePrompts, num_frames: int) -> None:
    """InputError for prompts that are left when all `num_frames` frames were read."""
    for frame_idx, objects in prompts.items():
        raise InputError(
            f"the prompt of object {next(iter(objects))} is on frame {frame_idx}, which was never "
            f"reached: {num_frames} frames could be read"
        )
