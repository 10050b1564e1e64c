"""The work behind ``sam2rt track``: a video, prompts, a folder of masks; memory bounded.

:func:`track_video` writes ``masks.json`` (per frame, COCO run lengths), ``masks/<object>/
<frame>.png`` (0 and 255), ``overlay.mp4`` and ``sheet.png`` (a dozen frames at a glance).
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...configs.bundle import Bundle
from ...configs.progress import Progress, silent
from ..arrays import Array
from ..media.frames import FrameSource, OnError
from ..media.open import open_frames
from ..predictors.stream import StreamTracker
from ..predictors.stream_result import StreamResult
from ..session import Session
from ..tracking.prefetch import check_prefetch, prefetched
from .prompts import FramePrompts, ObjectPrompt, prompts_by_frame, refuse_unreached
from .results import results_folder
from .track_results import track_results


@dataclass(frozen=True)
class TrackSummary:
    """What was tracked: frames written, objects, and the seconds tracking took."""

    num_frames: int
    obj_ids: list[int]
    seconds: float


def track_video(
    bundle: Bundle,
    source: Any,
    out_dir: str | os.PathLike[str],
    prompts: Sequence[ObjectPrompt],
    *,
    on_error: OnError = "raise",
    write_masks: bool = True,
    write_video: bool = True,
    non_overlap_masks: bool = False,
    fill_hole_area: int = 8,
    backend: str = "onnxruntime",
    device: str = "cpu",
    threads: int | None = None,
    prefetch: bool = False,
    session: Session | None = None,
    progress: Progress = silent,
) -> TrackSummary:
    """Track objects through a video and write the results into `out_dir`, whole or not at all.

    source, on_error: see :func:`~sam2rt.runtime.media.open.open_frames`; frames stream through, the
    length of the video costs no memory. prompts: one an object and frame; an object is tracked
    from its first on, a later one corrects it from there. prefetch: later frames are encoded
    while one is tracked, for the same masks. Raises InputError and FrameError.
    """
    with ExitStack() as stack:
        folder = stack.enter_context(results_folder(out_dir))
        frames = stack.enter_context(open_frames(source, on_error=on_error))
        total = None if _is_live(source) else frames.num_frames
        waiting = prompts_by_frame(prompts, frames.measure(), total, bundle.model.image_size)
        progress("opening the bundle")
        tracker = stack.enter_context(
            StreamTracker(
                bundle,
                backend,
                device,
                threads,
                non_overlap_masks=non_overlap_masks,
                fill_hole_area=fill_hole_area,
                num_frames=total,
                session=session,
            )
        )
        header = _header(source, frames)
        writing = track_results(folder, header, write_masks, write_video, asked=out_dir)
        started = time.monotonic()
        # closed before the frames are: a thread reads them
        with writing as results, closing(_tracked(tracker, frames, waiting, prefetch)) as steps:
            for frame_idx, result, rgb in steps:
                results.add(frame_idx, rgb, result)
                progress("tracking", frame_idx + 1, total)
        refuse_unreached(waiting, results.count)
        return TrackSummary(results.count, tracker.obj_ids, time.monotonic() - started)


def _header(source: Any, frames: FrameSource) -> dict[str, Any]:
    return {
        "video": _name(source),
        "height": frames.height,
        "width": frames.width,
        "fps": frames.fps,
    }


def _tracked(
    tracker: StreamTracker, frames: FrameSource, waiting: FramePrompts, prefetch: bool
) -> Generator[tuple[int, StreamResult, Array], None, None]:
    """Each frame's index, result and pixels; frames are prefetched, prompts taken up."""
    # frames before the first prompt are not encoded
    first = min(waiting)
    if prefetch:
        check_prefetch(tracker.session)

    def prepared(item: tuple[int, Array]) -> Any:
        return tracker.encoded(item[1]) if prefetch and item[0] >= first else item[1]

    source = ((*item, prepared(item)) for item in frames.items())
    leave = tracker.session.leave_thread
    with closing(prefetched(source, depth=1 if prefetch else 2, leave=leave)) as items:
        for frame_idx, rgb, frame in items:
            for obj_id, points in waiting.pop(frame_idx, {}).items():
                tracker.add_prompt(obj_id, points)
            yield frame_idx, tracker.step(frame), rgb


def _is_live(source: Any) -> bool:
    return isinstance(source, str) and "://" in source


def _name(source: Any) -> str | None:
    """The file's name; None for what has none, and for addresses, which may hold a password."""
    is_path = isinstance(source, (str, os.PathLike)) and not _is_live(source)
    return Path(source).name if is_path else None
