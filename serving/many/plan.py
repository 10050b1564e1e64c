"""What there is to do: each clip checked and hashed before anything starts."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from ...configs.bundle import Bundle
from ...configs.errors import InputError
from ...configs.progress import Progress, silent
from ...runtime.media.open import open_frames
from ...runtime.tasks.prompts import prompts_by_frame
from ...runtime.tasks.results import MASKS
from .clips import Clip, ClipOptions, content_digest, result_name
from .work import ClipTask

#: clips are read by that many threads at most: a disk or a network gains no more
_READERS = 8


@dataclass
class ClipPlan:
    """The task of each clip in the clips' order, None for one that cannot be tracked.

    bad: a line for each of those, by index.
    """

    tasks: list[ClipTask | None] = field(default_factory=list)
    bad: dict[int, str] = field(default_factory=dict)


def is_done(out: Path, name: str) -> bool:
    """Whether a clip's result is there; its folder comes whole or not at all."""
    return (out / name / MASKS).is_file()


def planned(
    clips: Sequence[Clip],
    bundle: Bundle,
    options: ClipOptions,
    out: Path,
    progress: Progress = silent,
) -> ClipPlan:
    """Read every clip once; nothing is written. What is done already is not looked into."""
    plan = ClipPlan()
    for index, found in enumerate(_each(clips, bundle, options, out)):
        task = found if isinstance(found, ClipTask) else None
        plan.tasks.append(task)
        if isinstance(found, str):
            plan.bad[index] = found
        progress("reading clips", index + 1, len(clips))
    return plan


def _each(
    clips: Sequence[Clip], bundle: Bundle, options: ClipOptions, out: Path
) -> Iterator[ClipTask | str]:
    def checked(clip: Clip) -> ClipTask | str:
        try:
            return task_of(clip, bundle, options, out)
        except InputError as error:
            # most name the clip by themselves
            text = str(error).replace(str(clip.path), clip.asked)
            where = clip.place if clip.asked in text else clip.where
            return f"{where}: {text}" if where and not text.startswith(where) else text

    pool = ThreadPoolExecutor(min(_READERS, os.cpu_count() or 1))
    try:
        yield from pool.map(checked, clips)
    finally:
        pool.shutdown(cancel_futures=True)


def task_of(clip: Clip, bundle: Bundle, options: ClipOptions, out: Path) -> ClipTask:
    """The task of a clip; unless it is done, the clip is opened and its prompts are checked.

    Raises InputError.
    """
    name = result_name(clip, content_digest(clip.path), bundle.digest, options)
    if not is_done(out, name):
        with closing(open_frames(clip.path, on_error=options.on_error)) as frames:
            size = frames.measure()
            prompts_by_frame(clip.prompts, size, frames.num_frames, bundle.model.image_size)
    return ClipTask(clip, name)
