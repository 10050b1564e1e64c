"""How a video is evaluated: prompts on first frames, or simulated clicks on what is wrong.

Semi-supervised: each object is prompted once, on the first frame its annotation shows, and
tracked to the end (what the original's ``tools/vos_inference.py`` does, objects that appear later
included). Interactive: SAM 2 paper, section 6.1 and appendix F.1, see :mod:`.interactive`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from ...configs.errors import InputError
from ...configs.progress import Progress, silent
from ...configs.staging import replaced_file
from ...runtime.arrays import Array
from ...runtime.frames import FrameSource
from ...runtime.packages import pillow_image
from ...runtime.predictors.stream import StreamTracker
from ...runtime.predictors.stream_result import StreamResult
from ...runtime.session import Session
from .clicks import bounding_box, interior_point
from .datasets import Dataset, Truth, Video
from .metrics import UNDECIDED, FrameScore, Mask, Rule, counted, mean_score, score_frame

PromptKind = Literal["mask", "box", "click"]


@dataclass
class ObjectResult:
    """One object of one video.

    scores: every annotated frame. object_scores: the model's score per frame tracked, > 0 where
    it takes the object as present. rounds: J&F after each round of clicks (interactive).
    """

    start: int
    span: tuple[int, int]
    scores: list[FrameScore] = field(default_factory=list)
    object_scores: dict[int, float] = field(default_factory=dict)
    rounds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class VideoResult:
    """What a protocol gives for one video: an entry per object, by id; frames worked on."""

    objects: dict[int, ObjectResult]
    frames: int


def scored(item: ObjectResult, rule: Rule) -> list[FrameScore]:
    """The frames of an object that count for its score."""
    return counted(item.scores, rule, [s.frame for s in item.scores], item.span)


class Annotated:
    """Which frames annotate an object: all annotated ones, or those with a file of its own."""

    def __init__(self, merged: bool) -> None:
        self._merged = merged
        self._all: list[int] = []
        self._own: dict[int, list[int]] = {}

    def add(self, index: int, truth: Truth | None) -> None:
        if truth is not None:
            self._all.append(index)
            for obj_id in truth.masks:
                self._own.setdefault(obj_id, []).append(index)

    def frames(self, obj_id: int) -> list[int]:
        return self._all if self._merged else self._own[obj_id]


def checked_truth(video: Video, index: int, size: tuple[int, int]) -> Truth | None:
    """The annotation of a frame of that (height, width). InputError when it has another size."""
    truth = video.truth(index)
    for mask in (truth.masks if truth else {}).values():
        if mask.shape != size:
            raise InputError(
                f"video {video.name}, frame {video.frame_names[index]}: the annotation is "
                f"{mask.shape[1]} x {mask.shape[0]}, the frame {size[1]} x {size[0]}"
            )
    return truth


def semi_supervised(
    session: Session,
    video: Video,
    dataset: Dataset,
    prompt: PromptKind = "mask",
    *,
    masks_folder: Path | None = None,
    progress: Progress = silent,
) -> VideoResult:
    """Track every object from its first annotated frame; all objects in one pass.

    prompt: the annotated mask, its bounding box, or one click on its interior-most pixel.
    masks_folder: where to write predictions as PNG files in the dataset's own layout. Holes are
    not filled and, where objects share one map, masks may not overlap, as the original evaluates.
    """
    tracker = StreamTracker(
        session.bundle,
        session=session,
        fill_hole_area=0,
        non_overlap_masks=dataset.merged,
        num_frames=len(video.frame_names),
    )
    objects: dict[int, ObjectResult] = {}
    annotated = Annotated(dataset.merged)
    for index, frame in _frames(video, progress):
        truth = checked_truth(video, index, (frame.shape[0], frame.shape[1]))
        annotated.add(index, truth)
        for obj_id, mask in _new_objects(truth, objects):
            _prompt(tracker, obj_id, mask, prompt)
            objects[obj_id] = ObjectResult(index, (index, index))
            if masks_folder is not None and not dataset.merged:
                _write_absence(masks_folder, video, obj_id, index, mask)
        result = tracker.step(frame)
        _record(result, truth, objects, dataset.merged)
        if masks_folder is not None:
            _write_masks(masks_folder, video, dataset.merged, result)
    for obj_id, item in objects.items():
        complete(item, video.spans.get(obj_id), annotated.frames(obj_id))
    return VideoResult(dict(sorted(objects.items())), len(video.frame_names))


def complete(item: ObjectResult, span: tuple[int, int] | None, annotated: list[int]) -> None:
    """Add the frames before the object's start, and its range where the dataset gives none."""
    before = [FrameScore(i, 1.0, 1.0, False, False) for i in annotated if i < item.start]
    item.scores = before + item.scores
    shown = [s.frame for s in item.scores if s.visible]
    item.span = span or (item.start, max(shown, default=item.start))


def _frames(video: Video, progress: Progress) -> Iterator[tuple[int, Array]]:
    source: FrameSource = video.frames()
    with source:
        count = len(video.frame_names)
        for index in range(count):
            progress("tracking", index, count)
            yield index, source.read(index)


def _new_objects(truth: Truth | None, known: Mapping[int, object]) -> list[tuple[int, Mask]]:
    masks = truth.masks if truth else {}
    return [(i, m) for i, m in masks.items() if i not in known and m.any()]


def _prompt(tracker: StreamTracker, obj_id: int, mask: Mask, prompt: PromptKind) -> None:
    if prompt == "mask":
        tracker.add_mask(obj_id, mask)
    elif prompt == "box":
        tracker.add_box(obj_id, bounding_box(mask))
    else:
        click = interior_point(mask)
        tracker.add_points(obj_id, [[click.x, click.y]], [click.label])


def _record(
    result: StreamResult, truth: Truth | None, objects: Mapping[int, ObjectResult], merged: bool
) -> None:
    index, masks = result.frame_idx, result.masks
    for place, obj_id in enumerate(result.obj_ids):
        item = objects[obj_id]
        item.object_scores[index] = float(result.object_scores[place])
        if truth is None or not (merged or obj_id in truth.masks):
            continue
        wanted = truth.masks.get(obj_id, np.zeros(masks.shape[1:], np.bool_))
        item.scores.append(score_frame(index, masks[place], wanted, truth.void))


def _write_masks(folder: Path, video: Video, merged: bool, result: StreamResult) -> None:
    """One PNG per frame, ids in the palette's colours; or one per object, 0 and 255."""
    file = f"{video.frame_names[result.frame_idx]}.png"
    masks = dict(zip(result.obj_ids, result.masks, strict=True))
    if not merged:
        for obj_id, mask in masks.items():
            _save_png(_object_folder(folder, video, obj_id) / file, mask.astype(np.uint8) * 255)
        return
    if max(masks, default=0) > UNDECIDED:
        raise InputError(f"video {video.name}: object id {max(masks)} does not fit 8-bit maps")
    labels = np.zeros(result.frame_size, np.uint8)
    for obj_id in sorted(masks, reverse=True):
        labels[masks[obj_id]] = obj_id
    _save_png(folder / video.name / file, labels, _palette())


def _write_absence(folder: Path, video: Video, obj_id: int, start: int, like: Mask) -> None:
    """Empty masks before an object's first frame: the evaluator of SA-V wants a file for each."""
    for name in video.frame_names[:start]:
        _save_png(
            _object_folder(folder, video, obj_id) / f"{name}.png", np.zeros_like(like, np.uint8)
        )


def _object_folder(folder: Path, video: Video, obj_id: int) -> Path:
    return folder / video.name / f"{obj_id:03d}"


def _save_png(path: Path, pixels: Array, palette: list[int] | None = None) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    image = pillow_image().fromarray(pixels)
    if palette is not None:
        image.putpalette(palette)
    with replaced_file(path, ".png") as part:
        image.save(part)


def _palette() -> list[int]:
    """The colours of the PASCAL and DAVIS maps: bits of the id spread over R, G and B."""
    colours = []
    for i in range(256):
        for channel in range(3):
            bits = [(i >> (3 * k + channel)) & 1 for k in range(3)]
            colours.append(sum(bit << (7 - k) for k, bit in enumerate(bits)))
    return colours


def object_means(result: VideoResult, rule: Rule) -> dict[int, dict[str, float]]:
    """Object id -> its J&F, J and F; objects without a counted frame are left out."""
    means = {i: mean_score(scored(item, rule)) for i, item in result.objects.items()}
    return {i: mean.as_dict() for i, mean in means.items() if mean is not None}
