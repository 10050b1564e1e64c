"""The frames that a comparison feeds, and how the masks of two systems are compared."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from ...configs.errors import FrameError, InputError
from ...runtime.arrays import Array
from ...runtime.media.open import open_frames
from ..evaluation.metrics import region_similarity
from .systems.system import Tracked, Work

if TYPE_CHECKING:
    from ..synthetic.clips import SyntheticClip

#: frames of a video that are kept in memory and fed forwards and backwards
_POOL = 16
#: objects of a drawn clip, at most, and the side of its frames in pixels
_MOST_DRAWN, _SIDE = 4, 256


@dataclass(frozen=True)
class ScoredClip:
    """Frames [H, W, 3] uint8 RGB, and a click on frame 0 for each object, pixels."""

    frames: list[Array]
    points: list[tuple[float, float]]


def timed_frames(work: Work) -> Iterator[Array]:
    """Frames without end: those of the video to and fro, or noise; decoding takes no time."""
    pool = _noise(work) if work.video is None else _read(work.video, _POOL)
    order = [*range(len(pool)), *range(len(pool) - 2, 0, -1)]
    while True:
        for index in order:
            yield pool[index]


def timed_points(work: Work) -> list[tuple[float, float]]:
    """A click for each object on the first frame: spread over the middle line."""
    height, width = work.frame_size
    step = width / (work.objects + 1)
    return [(step * (index + 1), height / 2) for index in range(work.objects)]


def scored_clip(work: Work) -> ScoredClip:
    """The clip that masks are compared on: the video's first frames, or a drawn clip.

    The drawn one has textured objects and a click inside each, and may have fewer objects than
    the work.
    """
    if work.video is not None:
        return ScoredClip(_read(work.video, work.scored_frames), timed_points(work))
    # cv2 is imported when masks are scored, after peak memory was noted
    from ..evaluation.clicks import interior_point
    from ..synthetic.clips import make_clip

    wanted = min(work.objects, _MOST_DRAWN)
    clips = (make_clip(s, "plain", work.scored_frames, _SIDE) for s in itertools.count())
    drawn = next(clip for clip in clips if _visible(clip) >= wanted)
    masks = [drawn.labels[0] == k + 1 for k in range(drawn.num_objects)]
    clicks = [interior_point(mask) for mask in masks if mask.any()][: work.objects]
    return ScoredClip(list(drawn.frames), [(click.x, click.y) for click in clicks])


def _visible(clip: SyntheticClip) -> int:
    return int(np.count_nonzero(np.unique(clip.labels[0])))


def video_size(path: str) -> tuple[int, int]:
    """(height, width) of a video's frames. Raises FrameError."""
    with open_frames(path) as frames:
        return frames.height, frames.width


def compared(reference: Tracked, found: Tracked) -> dict[str, Any]:
    """Lowest and mean mask IoU, and on how many results another of the four masks was taken.

    Raises InputError when the two did not track the same frames and objects.
    """
    if reference.masks.shape != found.masks.shape:
        raise InputError(
            f"masks of shape {found.masks.shape} cannot be compared with masks of shape "
            f"{reference.masks.shape}: expected the same clip"
        )
    ious = [
        region_similarity(one, other)
        for pair in zip(found.masks, reference.masks, strict=True)
        for one, other in zip(*pair, strict=True)
    ]
    seen = (reference.choices >= 0) & (found.choices >= 0)
    flips = int(np.count_nonzero(seen & (reference.choices != found.choices)))
    return {
        "lowest_iou": min(ious),
        "mean_iou": float(np.mean(ious)),
        "flips": flips if seen.any() else None,
        "results": len(ious),
    }


def _noise(work: Work) -> list[Array]:
    generator = np.random.default_rng(0)
    height, width = work.frame_size
    return [generator.integers(0, 256, (height, width, 3), np.uint8) for _ in range(4)]


def _read(path: str, count: int) -> list[Array]:
    frames: list[Array] = []
    with open_frames(path) as source:
        for _, frame in source.items():
            frames.append(frame)
            if len(frames) == count:
                return frames
    if len(frames) < min(count, 2):
        raise FrameError(f"{path} has {len(frames)} frames: expected at least 2")
    return frames
