"""The demonstration: a bundle tracks two objects through a synthetic clip whose masks are known.

Needs no network. Leaves ``demo.mp4`` and ``demo.png`` (a dozen frames at a glance), and in
``work`` the clip and the masks they were made from.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ..configs.bundle import Bundle, foreign_to_bundle
from ..configs.errors import InputError
from ..configs.models import BUILT_IN, MODELS
from ..configs.progress import Progress, silent
from ..configs.staging import replaced_file
from ..export.checkpoint.load import Checkpoint, built_in_file, load_checkpoint
from ..export.model.untrained import untrained_state
from ..runtime.media.video.writer import open_video_writer
from ..runtime.packages import opencv
from ..runtime.tasks.prompts import ObjectPrompt
from ..runtime.tasks.results import foreign_to_results
from ..runtime.tasks.track import TrackSummary, track_video
from .synthetic.clips import SyntheticClip, make_clip

_SEED = 5
#: source of a checkpoint that holds random weights
RANDOM = "random weights"
#: all that a demonstration leaves; the bundle is made by the caller
_MADE = ("demo.mp4", "demo.png", "work/clip.mp4", "work/track", "work/bundle")
#: what tells of the folders whether something else has come there
_FOREIGN = {"track": foreign_to_results, "bundle": foreign_to_bundle}


@dataclass(frozen=True)
class Demonstrated:
    """What was tracked, and the mean IoU of its masks with the clip's own."""

    summary: TrackSummary
    overlap: float


def demo_checkpoint(source: str | None) -> Checkpoint:
    """The checkpoint of that name or path; without one what ships with the package.

    Where that is missing, random weights of the smallest model, with the source RANDOM.
    """
    if source is not None:
        return load_checkpoint(source)
    if built_in_file(BUILT_IN).is_file():
        return load_checkpoint(BUILT_IN)
    config = MODELS["micro"]
    return Checkpoint(config, untrained_state(config), "0" * 64, RANDOM)


def demonstrate(
    bundle: Bundle,
    out: Path,
    *,
    frames: int,
    threads: int | None = None,
    progress: Progress = silent,
) -> Demonstrated:
    """Track two objects through a clip of so many frames, and write what was tracked to `out`."""
    clip, work = make_clip(_SEED, "plain", frames), out / "work"
    _write_clip(clip, work / "clip.mp4")
    summary = track_video(
        bundle, clip.frames, work / "track", prompts_of(clip), threads=threads, progress=progress
    )
    if summary.missing is not None:
        raise InputError(summary.missing)
    for made, shown in (("overlay.mp4", "demo.mp4"), ("sheet.png", "demo.png")):
        with replaced_file(out / shown) as part:
            shutil.copyfile(work / "track" / made, part)
    return Demonstrated(summary, _overlap(clip, work / "track" / "masks"))


@contextmanager
def removed_on_failure(out: Path) -> Iterator[None]:
    """Remove what the block's demonstration made in `out`, should it end with an error.

    What lay there before, and what others put there meanwhile, stays.
    """
    made = [out / name for name in _MADE if not (out / name).exists()]
    folders = [folder for folder in (out / "work", out) if not folder.exists()]
    try:
        yield
    except BaseException:
        for path in made:
            if not path.is_dir():
                path.unlink(missing_ok=True)
            elif not _FOREIGN[path.name](path):
                shutil.rmtree(path, ignore_errors=True)
        for folder in folders:
            # another's file keeps it
            with suppress(OSError):
                folder.rmdir()
        raise


def prompts_of(clip: SyntheticClip) -> list[ObjectPrompt]:
    """A box around the largest object of the first frame, a click on the next largest."""
    labels = clip.labels[0]
    areas = np.bincount(labels.ravel(), minlength=clip.num_objects + 1)[1:]
    first, *rest = (1 + np.argsort(areas)[::-1]).tolist()
    rows, columns = np.nonzero(labels == first)
    x0, y0, x1, y1 = columns.min(), rows.min(), columns.max() + 1, rows.max() + 1
    prompts = [ObjectPrompt(first, 0, box=(float(x0), float(y0), float(x1), float(y1)))]
    if rest:
        rows, columns = np.nonzero(labels == rest[0])
        # the pixel of the object that is nearest its middle
        nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
        click = (float(columns[nearest]), float(rows[nearest]), 1)
        prompts.append(ObjectPrompt(rest[0], 0, points=[click]))
    return prompts


def _write_clip(clip: SyntheticClip, path: Path) -> None:
    height, width = clip.frames.shape[1:3]
    with open_video_writer(path, 25.0, (height, width)) as writer:
        for frame in clip.frames:
            writer.write(frame)


def _overlap(clip: SyntheticClip, masks: Path) -> float:
    """Mean IoU of the written masks with the clip's own, over objects and frames."""
    cv2 = opencv("reading masks")
    found = []
    for folder in sorted(masks.iterdir()):
        for t, true in enumerate(clip.labels == int(folder.name)):
            mask = cv2.imread(str(folder / f"{t:05d}.png"), cv2.IMREAD_GRAYSCALE) > 0
            union = np.count_nonzero(mask | true)
            found.append(np.count_nonzero(mask & true) / union if union else 1.0)
    return float(np.mean(found))
