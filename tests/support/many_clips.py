"""Tiny clips that differ, a list of them, and what a worker does that ends amid its first item."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from clips import write_clip
from square_clip import CLICK, moving_square

from sam2rt.configs.errors import InputError, SessionError
from sam2rt.configs.progress import Progress
from sam2rt.runtime.tasks.prompt_file import prompts_from
from sam2rt.serving.many.clips import Clip
from sam2rt.serving.many.spread import RunItem
from sam2rt.serving.many.work import TrackWork


def tiny_clip(path: Path, number: int, frames: int = 3) -> Path:
    """A square that moves, and a corner that tells one clip from another."""
    video = moving_square(frames)
    video[:, :10, :10] = 6 * number
    path.parent.mkdir(parents=True, exist_ok=True)
    return write_clip(path, count=frames, size=video.shape[1:3], frames=list(video))


def clip_of(path: Path, **prompt: Any) -> Clip:
    """The clip with a click on its square, unless told otherwise."""
    prompts = prompts_from([prompt or CLICK], "prompts", Path())
    return Clip(path.absolute(), tuple(prompts), str(path))


@dataclass(frozen=True)
class Numbers:
    """A work of numbers: doubled; what some of them do to their worker.

    folder: where a worker leaves a file each time it takes up a number. kills: numbers whose
    worker dies the first time; deadly: each time. failing: the machine fails the first time.
    wrong: the input is.
    """

    folder: Path
    kills: tuple[int, ...] = ()
    deadly: tuple[int, ...] = ()
    failing: tuple[int, ...] = ()
    wrong: tuple[int, ...] = ()
    unusable: bool = False

    @contextmanager
    def open(self) -> Iterator[RunItem]:
        if self.unusable:
            raise SessionError("no device here")
        yield self.run

    def run(self, number: int, progress: Progress) -> int:
        times = len(list(self.folder.glob(f"{number}-*")))
        (self.folder / f"{number}-{times}").touch()
        progress("counting", 1, 2)
        if number in self.deadly or (number in self.kills and not times):
            os.kill(os.getpid(), signal.SIGKILL)
        if number in self.failing and not times:
            raise OSError("the disk had a moment")
        if number in self.wrong:
            raise InputError(f"{number} is wrong")
        return 2 * number


@dataclass(frozen=True)
class KilledOnce(TrackWork):
    """Tracking whose worker is killed amid the clip of that name, the first time."""

    victim: str = ""
    mark: Path = Path()

    def tracked(self, bundle: Any, session: Any, task: Any, progress: Progress) -> dict[str, Any]:
        def killing(what: str, done: int = 0, total: int | None = None) -> None:
            if task.clip.path.name == self.victim and done == 2 and not self.mark.exists():
                self.mark.touch()
                os.kill(os.getpid(), signal.SIGKILL)
            progress(what, done, total)

        with (self.mark.parent / "tracked.txt").open("a") as log:
            log.write(f"{task.name}\n")
        return super().tracked(bundle, session, task, killing)
