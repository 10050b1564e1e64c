"""What is known of one object of a video under work: prompts, results, frames passed."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

from ..bank import FrameOutput, ObjectHistory
from .tracker import Points

#: one tracker serves all states of a predictor: no two of their objects share a key
_KEYS = itertools.count()


@dataclass
class VideoObject:
    """One object; frames are indices of the video."""

    key: int = field(default_factory=lambda: next(_KEYS))
    #: what propagation has taken up
    history: ObjectHistory = field(default_factory=ObjectHistory)
    #: results of prompts that the next propagation takes up
    fresh: ObjectHistory = field(default_factory=ObjectHistory)
    #: prompts by frame; of masks the frames alone, a mask of the model's size is megabytes
    points: dict[int, Points] = field(default_factory=dict)
    masks: set[int] = field(default_factory=set)
    #: frames a propagation has passed, and whether it ran in reverse
    tracked: dict[int, bool] = field(default_factory=dict)

    @property
    def has_prompt(self) -> bool:
        """Whether there is a prompted frame to track from."""
        return bool(self.history.cond or self.fresh.cond)

    def result(self, frame_idx: int, cond_first: bool) -> FrameOutput | None:
        fresh = self.fresh.cond if cond_first else self.fresh.non_cond
        return fresh.get(frame_idx) or self.history.at(frame_idx)

    def without_memory(self) -> list[tuple[int, FrameOutput]]:
        """Results of prompts whose memories are still to be encoded, with their frames."""
        fresh = (*self.fresh.non_cond.items(), *self.fresh.cond.items())
        return [(frame_idx, output) for frame_idx, output in fresh if output.memory is None]

    def take_up(self) -> list[int]:
        """Hand results of prompts, their memories encoded, over to propagation; their frames."""
        frames = [*self.fresh.non_cond, *self.fresh.cond]
        self.history.non_cond.update(self.fresh.non_cond)
        self.history.cond.update(self.fresh.cond)
        self.fresh = ObjectHistory()
        for frame_idx in self.history.cond:
            self.history.non_cond.pop(frame_idx, None)
        return frames

    def forget_around(self, frame_idx: int, reach: int) -> None:
        """Forget what was tracked at most `reach` frames from this one, and on it."""
        for near in range(frame_idx - reach, frame_idx + reach + 1):
            self.history.non_cond.pop(near, None)

    def clear(self, frame_idx: int) -> None:
        """Forget the prompts of a frame; a result that was taken up stays as a tracked one."""
        self.points.pop(frame_idx, None)
        self.masks.discard(frame_idx)
        self.fresh.cond.pop(frame_idx, None)
        self.fresh.non_cond.pop(frame_idx, None)
        output = self.history.cond.pop(frame_idx, None)
        if output is not None:
            self.history.non_cond[frame_idx] = output
            self.tracked.pop(frame_idx, None)
