"""Images and masks to learn from: synthetic clips, or a folder of annotated videos.

A worker process draws batches before the training step asks for them. Arrays are numpy; masks are
kept at the resolution losses are computed at.
"""

from __future__ import annotations

import itertools
import multiprocessing
import os
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from ..benchmarks.evaluation.datasets import davis_folders, no_ids, read_labels
from ..benchmarks.evaluation.metrics import UNDECIDED
from ..benchmarks.synthetic.clips import make_clip
from ..configs.errors import FrameError, InputError
from ..configs.remedies import remedy_of
from ..runtime.media.images import image_files, readable_image
from ..runtime.packages import pillow_image
from ..runtime.pixels.frame_tensor import MEAN, STD, video_frame_tensor
from .recipe import BatchPlan, Recipe

#: side of the masks losses are computed on, pixels
MASK_SIDE = 128
#: an object smaller than this share of the image is no use as a prompt
_SMALLEST = 0.0008
_QUEUE = 4
#: clips drawn for one with a swap, at most
_TRIES = 12
#: pixels around an object that count as its place, and the share of them that others must take
_NEAR = 12
_TAKEN = 0.1
#: share of clips in which an object gives way to another one, whatever the plan says
_TAKEN_OVER = 0.25
#: how much its pixels must change, mean of 0..255
_OTHER_COLOUR = 50


@dataclass(frozen=True)
class Batch:
    """V clips of T frames with N objects among them.

    frames [V, T, 3, S, S] float32, normalised; masks [N, T, R, R] float32 in 0..1 (area share);
    clip [N] int64, the clip of each object. Every object is visible on frame 0.
    burn_in: so many frames after the first have no loss; they are there to be tracked through.
    """

    frames: NDArray[np.float32]
    masks: NDArray[np.float32]
    clip: NDArray[np.int64]
    burn_in: int = 0


FramesAndLabels = tuple[NDArray[np.uint8], NDArray[np.uint8]]
Source = Callable[[np.random.Generator, BatchPlan], FramesAndLabels]


def synthetic_source(rng: np.random.Generator, plan: BatchPlan) -> FramesAndLabels:
    """A fresh clip: frames [T, S, S, 3] uint8, labels [T, S, S] uint8."""
    level = plan.levels[int(rng.integers(len(plan.levels)))]
    # seeds from 2^32 up: below lie those of evaluation clips
    seed = int(rng.integers(1 << 32, 1 << 62))
    # long strides: in a few frames objects are covered, leave and return
    strides = [1, 1.5, 2] if plan.burn_in else [1, 2, 3, 5]
    stride = float(rng.choice(strides))
    # part of a longer clip: it may end while an object is away
    whole = plan.frames + int(rng.integers(plan.frames)) if plan.burn_in else plan.frames
    clip = make_clip(seed, level, whole, plan.size, stride)
    clip = replace(clip, frames=clip.frames[: plan.frames], labels=clip.labels[: plan.frames])
    if plan.frames > 1 and rng.random() < 0.25:
        # a cut to another scene: every object is absent there
        cut = int(rng.integers(1, plan.frames))
        clip.frames[cut] = make_clip(seed + 1, level, 1, plan.size).frames[0]
        clip.labels[cut] = 0
    elif plan.frames > 1 and rng.random() < _TAKEN_OVER:
        take_over(rng, clip.frames, clip.labels)
    return clip.frames, clip.labels


def take_over(
    rng: np.random.Generator, frames: NDArray[np.uint8], labels: NDArray[np.uint8]
) -> None:
    """From some frame on, another object is where one of the first frame was, in place.

    frames [T, S, S, 3], labels [T, S, S]. The other has its outline and way but other colours, and
    no label: what is where the object was need not be the object. Objects whose colours would
    hardly change are left alone.
    """
    shown = np.unique(labels[0])[1:]
    if not len(shown):
        return
    taken = rng.choice(shown)
    after = int(rng.integers(1, len(frames)))
    gone = labels[after:] == taken
    old = frames[after:][gone]
    # another order of the channels keeps the texture, and so does the negative
    new = old[:, [1, 2, 0]] if rng.random() < 0.5 else 255 - old
    if not old.size or np.abs(new.astype(int) - old).mean() < _OTHER_COLOUR:
        return
    frames[after:][gone] = new
    labels[after:][gone] = 0


class FolderSource:
    """Random cuts of the videos below a folder with JPEGImages/<video> and Annotations/<video>.

    Annotations are palette images: 0 background, k the k-th object. 255 is undecided, as in
    evaluation: no object, and here background. As in DAVIS 2017 itself, the videos may lie in a
    folder 480p or Full-Resolution. Raises FrameError when there is no annotated video, InputError
    for colour images, ids above 255, and masks of 0 and 255 in place of ids.
    """

    def __init__(self, folder: str | Path) -> None:
        # read later, perhaps from another working folder
        root = Path(os.path.abspath(folder))
        images, maps = davis_folders(root)
        self.videos = [
            pairs
            for video in sorted(images.glob("*"))
            if video.is_dir() and (pairs := self._annotated(video, maps / video.name))
        ]
        if not self.videos:
            raise FrameError(
                f"{folder} holds no annotated video: expected JPEGImages/<video>/*.jpg and "
                "Annotations/<video>/*.png"
            )
        for pairs in self.videos:
            _check_ids(pairs[0][0].parent.name, [mask for _, mask in pairs])

    @staticmethod
    def _annotated(video: Path, maps: Path) -> list[tuple[Path, Path]]:
        masks = {p.stem: p for p in maps.glob("*.png")}
        return [(image, masks[image.stem]) for image in image_files(video) if image.stem in masks]

    def __call__(self, rng: np.random.Generator, plan: BatchPlan) -> FramesAndLabels:
        from PIL import Image

        pairs = self.videos[int(rng.integers(len(self.videos)))]
        step = int(rng.integers(1, 4))
        start = int(rng.integers(max(1, len(pairs) - step * (plan.frames - 1))))
        chosen = [pairs[min(start + step * i, len(pairs) - 1)] for i in range(plan.frames)]
        if rng.random() < 0.5:
            chosen.reverse()
        side = (plan.size, plan.size)
        frames, labels = [], []
        for image, mask in chosen:
            frames.append(np.asarray(Image.open(image).convert("RGB").resize(side)))
            marked = Image.open(mask).resize(side, Image.Resampling.NEAREST)
            ids = np.asarray(marked, np.uint8)
            labels.append(np.where(ids == UNDECIDED, np.uint8(0), ids))
        clip = np.stack(frames), np.stack(labels)
        return (clip[0][:, :, ::-1], clip[1][:, :, ::-1]) if rng.random() < 0.5 else clip


def _check_ids(video: str, maps: Sequence[Path]) -> None:
    """InputError for maps that hold no ids, or ids that do not fit 8 bits."""
    has_object = has_undecided = False
    for path in maps:
        with readable_image(path), pillow_image().open(path) as image:
            narrow = image.mode in ("1", "L", "P")
        if narrow and has_object:
            # 8 bits hold what they hold, and one object is enough
            continue
        ids = np.unique(read_labels(path))
        if ids[-1] > UNDECIDED:
            raise InputError(
                f"video {video}: object id {ids[-1]} does not fit 8-bit maps: number the objects "
                "from 1 to 254"
            )
        has_object |= bool(((ids > 0) & (ids < UNDECIDED)).any())
        has_undecided |= bool((ids == UNDECIDED).any())
    if has_undecided and not has_object:
        raise no_ids(video)


def source_of(data: Path | None) -> Source:
    """Where a recipe's clips come from. Raises FrameError for a folder without annotated video."""
    return synthetic_source if data is None else FolderSource(data)


def batches_of(recipe: Recipe, source: Source, first: int = 0) -> Iterator[Batch]:
    """The recipe's batches in this process, from step `first` on."""
    for step in itertools.count(first):
        rng = np.random.default_rng([recipe.seed, step])
        yield make_batch(rng, recipe.batch_plan(step), source)


def make_batch(rng: np.random.Generator, plan: BatchPlan, source: Source) -> Batch:
    """Draw clips until there are plan.clips with an object visible on their first frame."""
    frames: list[NDArray[np.float32]] = []
    masks: list[NDArray[np.float32]] = []
    owner: list[int] = []
    while len(frames) < plan.clips:
        images, labels = _drawn(rng, plan, source)
        visible = np.bincount(labels[0].ravel(), minlength=2)[1:] / labels[0].size
        ids = np.flatnonzero(visible > _SMALLEST) + 1
        if len(ids) < plan.fewest:
            continue
        for label in rng.permutation(ids)[: plan.objects]:
            masks.append(np.stack([_reduced(frame == label) for frame in labels]))
            owner.append(len(frames))
        frames.append(np.stack([_normalised(f, plan.size) for f in images]))
    return Batch(np.stack(frames), np.stack(masks), np.array(owner, np.int64), plan.burn_in)


def _drawn(rng: np.random.Generator, plan: BatchPlan, source: Source) -> FramesAndLabels:
    """A clip; with the chance of plan.swaps the first of a few that :func:`has_swap`."""
    # no number is drawn where none is wanted: earlier runs keep their clips
    wanted = plan.swaps > 0 and rng.random() < plan.swaps
    clip = source(rng, plan)
    for _ in range(_TRIES if wanted else 0):
        if has_swap(clip[1], plan.burn_in + 1):
            break
        clip = source(rng, plan)
    return clip


def has_swap(labels: NDArray[np.uint8], first: int) -> bool:
    """Whether an object of the first frame gives its place to others and stays away.

    labels [T, S, S]. It is away in half of the frames from `first` on or more, and others are
    around where it was last seen: a tracker that has lost its way takes them for it.
    """
    kernel = np.ones((2 * _NEAR + 1, 2 * _NEAR + 1), np.uint8)
    for label in np.unique(labels[0])[1:]:
        shown = labels == label
        there = shown.any((1, 2))
        away = first + np.flatnonzero(~there[first:])
        if 2 * len(away) < len(labels) - first:
            continue
        last = np.flatnonzero(there[: away[0]])[-1]
        around = cv2.dilate(shown[last].astype(np.uint8), kernel) > 0
        if (labels[away][:, around] > 0).mean() > _TAKEN:
            return True
    return False


def _reduced(mask: NDArray[np.bool_]) -> NDArray[np.float32]:
    area = cv2.resize(mask.astype(np.float32), (MASK_SIDE, MASK_SIDE), interpolation=cv2.INTER_AREA)
    return np.asarray(area, np.float32)


def _normalised(frame: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    if frame.shape[:2] != (size, size):
        return np.asarray(video_frame_tensor(frame, size), np.float32)
    scaled = (frame.astype(np.float32) / 255 - MEAN) / STD
    return np.ascontiguousarray(scaled.transpose(2, 0, 1), np.float32)


class PrefetchedBatches:
    """Batches drawn by a process of its own, reproducible: step k's batch depends on seed and k.

    plan_of(step) says what to draw. Use as a context manager.
    """

    def __init__(
        self, seed: int, plan_of: Callable[[int], BatchPlan], source: Source, first_step: int
    ) -> None:
        context = multiprocessing.get_context("spawn")
        self._queue: Any = context.Queue(_QUEUE)
        self._process = context.Process(
            target=_draw, args=(self._queue, seed, plan_of, source, first_step), daemon=True
        )

    def __enter__(self) -> Iterator[Batch]:
        self._process.start()
        return self._batches()

    def _batches(self) -> Iterator[Batch]:
        while True:
            try:
                drawn = self._queue.get(timeout=5)
            except queue.Empty:
                if not self._process.is_alive():
                    raise FrameError("the process that draws batches has ended") from None
                continue
            if isinstance(drawn, str):
                raise FrameError(drawn)
            yield drawn

    def __exit__(self, *error: object) -> None:
        self._process.terminate()
        self._process.join()


def _end_with_parent() -> None:
    """A killed training ends nothing: its process would wait for ever with a full queue."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def wait() -> None:
        parent.join()
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _draw(
    out: Any, seed: int, plan_of: Callable[[int], BatchPlan], source: Source, first_step: int
) -> None:
    cv2.setNumThreads(1)
    _end_with_parent()
    step = first_step
    try:
        while True:
            rng = np.random.default_rng([seed, step])
            out.put(make_batch(rng, plan_of(step), source))
            step += 1
    except OSError as error:
        remedy = remedy_of(error, "fix it or take its video out")
        out.put(f"an image or mask cannot be read ({error}): {remedy}")
    except KeyboardInterrupt:
        return
