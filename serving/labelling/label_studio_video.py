"""Boxes of Label Studio followed through a video: one region an object, one box a frame."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.checks import shown, whole_number
from ...configs.errors import InputError
from ...runtime.predictors.video import VideoPredictor
from ...runtime.predictors.video_state import VideoState
from ..sessions.model import Model
from .label_studio_regions import box_fractions
from .outlines import Edges, edges_of

#: by object and frame of the file, the edges of its mask in pixels; None where it is not seen
_Found = dict[tuple[int, int], Edges | None]


@dataclass(frozen=True)
class _Clock:
    """Label Studio's frames, counted from 1 at the rate of its config, and those of the file."""

    counted: int
    seconds: float
    in_file: int

    def in_video(self, frame: int) -> int:
        """The file's frame, from 0, that the browser shows as `frame`."""
        # rounding of the length may cost one; more means another rate
        rate = 1.0 if abs(self.in_file - self.counted) <= 1 else self.in_file / self.counted
        return min(round((frame - 1) * rate), self.in_file - 1)

    def time(self, frame: int) -> float:
        """Seconds at which `frame` begins."""
        return (frame - 1) * self.seconds / self.counted


def tracked_regions(
    model: Model, path: Path, regions: list[dict[str, Any]], most_frames: int
) -> list[dict[str, Any]]:
    """The regions of type ``videorectangle`` with a box for each frame that shows their object.

    Every box that is there is a prompt and stays. Objects are followed from the first box of all to
    `most_frames` behind the last one. Each frame is a turn of the model, with the masks of
    :class:`~sam2rt.VideoPredictor`. InputError, FrameError.
    """
    objects = [region for region in regions if region.get("type") == "videorectangle"]
    if not objects:
        return []
    predictor = model.run(lambda: VideoPredictor(model.bundle, session=model.session))
    state = model.run(lambda: predictor.init_state(path))
    try:
        clock = _clock(objects[0], state.num_frames)
        drawn = [_drawn(region, clock) for region in objects]
        for number, boxes in enumerate(drawn):
            for frame, box in boxes.items():
                _prompt(model, predictor, state, clock.in_video(frame), number, box)
        frames = [clock.in_video(frame) for boxes in drawn for frame in boxes]
        length = max(frames) - min(frames) + most_frames
        found = dict(_steps(model, predictor, state, length - 1))
        size = state.frame_size
    finally:
        state.frames.close()
    return [
        _region(region, boxes, number, found, clock, size)
        for number, (region, boxes) in enumerate(zip(objects, drawn, strict=True))
    ]


def _clock(region: dict[str, Any], in_file: int) -> _Clock:
    value = region.get("value") or {}
    counted = whole_number("framesCount", value.get("framesCount", in_file), 1)
    seconds = value.get("duration") or counted / 25
    return _Clock(counted, float(seconds), in_file)


def _drawn(region: dict[str, Any], clock: _Clock) -> dict[int, dict[str, Any]]:
    """The boxes of a region by their frame, counted from 1."""
    try:
        boxes = {int(box["frame"]): box for box in region["value"]["sequence"]}
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"a region of a video ({shown(region)}) has no sequence of boxes with frames"
        ) from None
    if not boxes:
        raise InputError("a region of a video has no box: draw one")
    outside = [frame for frame in boxes if not 1 <= frame <= clock.counted]
    if outside:
        raise InputError(f"a box on frame {outside[0]}: the video has frames 1 to {clock.counted}")
    return dict(sorted(boxes.items()))


def _prompt(
    model: Model,
    predictor: VideoPredictor,
    state: VideoState,
    frame: int,
    number: int,
    box: dict[str, Any],
) -> None:
    try:
        corners = box_fractions(box)
    except (KeyError, TypeError) as error:
        raise InputError(f"a box ({shown(box)}) lacks {error}") from None
    model.run(
        lambda: predictor.add_new_points_or_box(
            state, frame, number, box=corners, normalize_coords=False
        ),
        urgent=True,
    )


def _steps(
    model: Model, predictor: VideoPredictor, state: VideoState, distance: int
) -> Iterator[tuple[tuple[int, int], Edges | None]]:
    """The edges of all objects on one frame after the other."""
    with closing(predictor.propagate_in_video(state, None, distance)) as steps:  # type: ignore[type-var]
        while (step := model.run(lambda: next(steps, None))) is not None:
            frame, ids, logits = step
            for number, mask in zip(ids, np.asarray(logits > 0)[:, 0], strict=True):
                yield (number, frame), edges_of(mask)


def _region(
    region: dict[str, Any],
    drawn: dict[int, dict[str, Any]],
    number: int,
    found: _Found,
    clock: _Clock,
    size: tuple[int, int],
) -> dict[str, Any]:
    """The region with its new sequence; a box before a frame without the object ends its life."""
    sequence: list[dict[str, Any]] = []
    for frame in range(min(drawn), clock.counted + 1):
        at = number, clock.in_video(frame)
        if frame not in drawn and at not in found:
            continue
        edges = found.get(at)
        if frame in drawn:
            sequence.append({**drawn[frame], "enabled": True})
        elif edges is not None:
            sequence.append(_box(edges, frame, clock, size))
        else:
            sequence[-1]["enabled"] = False
    # nothing is known behind the last one
    sequence[-1]["enabled"] = False
    return {**region, "value": {**region["value"], "sequence": sequence}}


def _box(edges: Edges, frame: int, clock: _Clock, size: tuple[int, int]) -> dict[str, Any]:
    """A box in percent of the frame's sides."""
    x0, y0, x1, y1 = edges
    height, width = size
    return {
        "frame": frame,
        "time": clock.time(frame),
        "x": x0 / width * 100,
        "y": y0 / height * 100,
        "width": (x1 - x0) / width * 100,
        "height": (y1 - y0) / height * 100,
        "rotation": 0,
        "enabled": True,
    }
