"""Synthetic clips as a dataset: ground truth without a download."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from ...configs.errors import InputError
from ...runtime.frames import FrameSource
from ...runtime.media.sequences import SequenceFrames
from .datasets import Dataset, Truth
from .metrics import RULES

if TYPE_CHECKING:
    from ..synthetic.clips import Level, SyntheticClip

#: clips of one seed
_CLIPS = 10_000
#: training draws its clips' seeds from here on
TRAINING_SEEDS = 1 << 32
#: an object is prompted once it shows this share of the image: a sliver cannot be clicked
START_AREA = 0.0025


@dataclass(frozen=True)
class SyntheticVideo:
    """One seeded clip, drawn when first needed; see :class:`~.datasets.Video`.

    An object is annotated from the first frame on which it shows START_AREA of the image.
    """

    seed: int
    level: Level
    num_frames: int
    size: int = 256

    @property
    def name(self) -> str:
        return f"{self.level}_{self.seed:08d}"

    @property
    def frame_names(self) -> tuple[str, ...]:
        return tuple(f"{i:05d}" for i in range(self.num_frames))

    @cached_property
    def clip(self) -> SyntheticClip:
        from ..synthetic.clips import make_clip

        return make_clip(self.seed, self.level, self.num_frames, self.size)

    @cached_property
    def spans(self) -> Mapping[int, tuple[int, int]]:
        """From an object's first annotated frame to the end of the clip."""
        labels = self.clip.labels
        found = {}
        for i in range(1, self.clip.num_objects + 1):
            shown = (labels == i).mean(axis=(1, 2)) >= START_AREA
            if shown.any():
                found[i] = int(shown.argmax()), self.num_frames - 1
        return found

    def frames(self) -> FrameSource:
        return SequenceFrames(self.clip.frames)

    def truth(self, index: int) -> Truth:
        labels = self.clip.labels[index]
        started = (i for i, (first, _) in self.spans.items() if first <= index)
        return Truth({i: labels == i for i in started})

    def __getstate__(self) -> dict[str, object]:
        # the arguments fix every pixel: another process draws its own
        return {k: v for k, v in self.__dict__.items() if k not in ("clip", "spans")}


def synthetic_dataset(level: Level, seed: int, clips: int, frames: int) -> Dataset:
    """`clips` held-out clips of that level; another seed gives others.

    Raises InputError for an unknown level and for numbers that make no clip.
    """
    from ..synthetic.clips import LEVELS

    if level not in LEVELS:
        raise InputError(f"unknown level '{level}': expected one of {', '.join(LEVELS)}")
    if not 0 <= seed < TRAINING_SEEDS // _CLIPS or not 1 <= clips <= _CLIPS or frames < 3:
        raise InputError(
            f"seed {seed}, {clips} clips, {frames} frames: expected a seed from 0 to "
            f"{TRAINING_SEEDS // _CLIPS - 1}, 1 to {_CLIPS} clips, at least 3 frames (the first "
            "and last are not scored)"
        )
    videos = tuple(SyntheticVideo(seed * _CLIPS + i, level, frames) for i in range(clips))
    return Dataset(f"synthetic {level}", RULES["synthetic"], videos)
