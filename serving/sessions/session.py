"""What sessions of videos and of images have in common; all work on the model is in subclasses.

Methods that name the model's thread must be called in a turn; all others may be called anywhere.
"""

from __future__ import annotations

import secrets
import time
from abc import ABC, abstractmethod
from contextlib import ExitStack
from typing import Any

from ...configs.closing import Closing
from ...configs.errors import InputError
from ...runtime.arrays import Frame
from ...runtime.frames import FrameSource
from ...runtime.media.open import open_frames
from .limits import NotFoundError, ServerLimits, TooManyError
from .media import Medium
from .model import Model
from .prompts import ObjectMask, Prompt


class WorkSession(Closing, ABC):
    """One client's work on one medium: its objects, their prompts and masks so far.

    Masks are kept as run lengths, in `masks` by frame and object. no_overlap: a pixel belongs to
    one object at most.
    """

    kind = ""

    def __init__(
        self, model: Model, medium: Medium, limits: ServerLimits, no_overlap: bool
    ) -> None:
        # whoever knows it may use the session
        self.id = secrets.token_hex(16)
        self.model, self.medium, self.limits = model, medium, limits
        self.no_overlap = no_overlap
        self.names: dict[int, str] = {}
        self.prompts: dict[tuple[int, int], Prompt] = {}
        self.masks: dict[int, dict[int, ObjectMask]] = {}
        self.touched = time.monotonic()
        #: requests in work; a session with any does not expire
        self.in_use = 0
        self.propagating = False
        self.cancelled = False
        self.closed = False
        #: what goes with the session, such as a folder of its own frames
        self.held = ExitStack()
        # frames are looked at while the model works on others
        self._view: FrameSource = open_frames(medium.path)

    @property
    def size(self) -> tuple[int, int]:
        """(height, width) of frames, pixels."""
        return self.medium.height, self.medium.width

    @abstractmethod
    def prompt(self, prompt: Prompt) -> dict[int, ObjectMask]:
        """Take a prompt up, in the model's thread; the masks of its frame."""

    @abstractmethod
    def clear(self, frame: int, obj_id: int) -> dict[int, ObjectMask]:
        """Forget an object's prompt on a frame, in the model's thread; the masks of the frame."""

    @abstractmethod
    def remove(self, obj_id: int) -> None:
        """Forget an object, in the model's thread."""

    @abstractmethod
    def reset(self) -> None:
        """Forget all objects, in the model's thread."""

    def free(self) -> None:
        """Free what the session holds, in the model's thread; it is of no use any more."""
        self.closed = self.cancelled = True
        self.masks.clear()
        self.prompts.clear()
        self.names.clear()
        self._view.close()
        self.held.close()

    def close(self) -> None:
        """Free what the session holds."""
        self.cancelled = True
        self.model.run(self.free, urgent=True)

    def view(self, frame: int) -> Frame:
        """A frame [H, W, 3] uint8 RGB to look at; NotFoundError for one that is not there."""
        self.check_frame(frame)
        return self._view.read(frame)

    def check_frame(self, frame: int) -> None:
        """NotFoundError for a frame that the medium does not have."""
        if frame >= self.medium.num_frames:
            raise NotFoundError(
                f"no frame {frame}: the frames are 0 to {self.medium.num_frames - 1}"
            )

    def check_object(self, obj_id: int) -> None:
        """NotFoundError for an object that was never prompted."""
        if obj_id not in self.names:
            raise NotFoundError(f"no object {obj_id}: the objects are {list(self.names)}")

    def describe(self) -> dict[str, Any]:
        """The session as clients see it."""
        return {
            "session": self.id,
            "kind": self.kind,
            "width": self.medium.width,
            "height": self.medium.height,
            "num_frames": self.medium.num_frames,
            "fps": self.medium.fps,
            "no_overlap": self.no_overlap,
            "objects": [{"object": i, "name": name} for i, name in self.names.items()],
            "prompts": [prompt.described() for prompt in self.prompts.values()],
            "tracked": _ranges(sorted(self.masks)),
            "propagating": self.propagating,
        }

    def _check_new(self, obj_id: int) -> None:
        if obj_id not in self.names and len(self.names) >= self.limits.objects:
            raise TooManyError(
                f"the session has {len(self.names)} objects, the most it may have: remove one"
            )

    def _dropped(self, obj_id: int) -> None:
        """Forget what the session notes of an object."""
        self.names.pop(obj_id, None)
        self.prompts = {key: p for key, p in self.prompts.items() if key[1] != obj_id}
        # new ones: whoever writes results looks at the old ones
        left = {
            frame: {i: mask for i, mask in masks.items() if i != obj_id}
            for frame, masks in self.masks.items()
        }
        self.masks = {frame: masks for frame, masks in left.items() if masks}


def _ranges(frames: list[int]) -> list[list[int]]:
    """Whole numbers in rising order as ranges, both ends included."""
    found: list[list[int]] = []
    for frame in frames:
        if found and frame == found[-1][1] + 1:
            found[-1][1] = frame
        else:
            found.append([frame, frame])
    return found


def checked_name(name: str) -> str:
    """A name of an object as one line; InputError for more than 100 characters."""
    line = " ".join(name.split())
    if len(line) > 100 or not line.isprintable():
        raise InputError(f"the name {line[:40]!r}: expected one line of at most 100 characters")
    return line
