"""What a command is asked to find: clicks and a box of one object on one frame."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...configs.checks import whole_number
from ...configs.errors import InputError
from ..tracking.prompts import points_from
from ..tracking.tracker import Points

#: x, y in pixels, and label: 1 object, 0 background
Click = tuple[float, float, int]
#: x0, y0, x1, y1 in pixels
Box = tuple[float, float, float, float]
#: by frame, then by object: points in model-input pixels
FramePrompts = dict[int, dict[int, Points]]


@dataclass(frozen=True)
class ObjectPrompt:
    """Clicks and a box of one object on one frame, in pixels of the frame."""

    obj_id: int
    frame_idx: int
    points: Sequence[Click] = ()
    box: Box | None = None

    def checked(self, frame_size: tuple[int, int], image_size: int) -> Points:
        """In model-input pixels. InputError names the object and the frame."""
        whole_number("obj_id", self.obj_id)
        if whole_number("frame_idx", self.frame_idx) < 0:
            raise InputError(f"frame {self.frame_idx}: frames count from 0")
        coords = [point[:2] for point in self.points] or None
        labels = [point[2] for point in self.points] or None
        try:
            return points_from(
                coords, labels, self.box, frame_size=frame_size, image_size=image_size
            )
        except InputError as error:
            where = f"object {self.obj_id} on frame {self.frame_idx}"
            raise InputError(f"{where}: {error}") from None


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
