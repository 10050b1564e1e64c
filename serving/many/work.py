"""What a worker does: it opens the bundle once, and tracks one clip after the other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...configs.bundle import Bundle
from ...configs.errors import SessionError
from ...configs.progress import Progress
from ...runtime.backends.open import open_session
from ...runtime.session import Session
from ...runtime.tasks.track import track_video
from .clips import Clip, ClipOptions
from .spread import RunItem


@dataclass(frozen=True)
class ClipTask:
    """A clip and the name of its result's folder."""

    clip: Clip
    name: str


@dataclass(frozen=True)
class TrackWork:
    """Tracking of clips with a bundle, into folders below `out`; all paths absolute.

    digest: of the bundle that whoever sent the work has. threads: of each worker.
    """

    bundle: Path
    digest: str
    options: ClipOptions
    out: Path
    threads: int | None = None

    @contextmanager
    def open(self) -> Iterator[RunItem]:
        """Open the bundle. SessionError where this machine has another, or does not see `out`."""
        bundle = Bundle.load(self.bundle)
        if bundle.digest != self.digest:
            raise SessionError(
                f"bundle {self.bundle} is another one on this machine: expected digest "
                f"{self.digest[:12]}, found {bundle.digest[:12]}: copy it anew"
            )
        if not self.out.is_dir():
            raise SessionError(
                f"a worker's machine has no folder {self.out}: expected one that all share"
            )
        options = self.options
        with open_session(bundle, options.backend, options.device, self.threads) as session:
            yield lambda task, progress: self.tracked(bundle, session, task, progress)

    def tracked(
        self, bundle: Bundle, session: Session, task: ClipTask, progress: Progress
    ) -> dict[str, Any]:
        """Track one clip into its folder, whole or not at all; its record, as JSON data.

        Frames and masks go to the folder alone: the record is small, whatever the clip.
        """
        options = self.options
        summary = track_video(
            bundle,
            task.clip.path,
            self.out / task.name,
            task.clip.prompts,
            on_error=options.on_error,
            write_masks=options.write_masks,
            write_video=options.write_video,
            non_overlap_masks=options.non_overlap_masks,
            session=session,
            progress=progress,
        )
        record = {
            "frames": summary.num_frames,
            "objects": summary.obj_ids,
            "seconds": round(summary.seconds, 3),
        }
        return {**record, "missing": summary.missing} if summary.missing else record
