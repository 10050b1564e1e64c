"""The work behind ``sam2rt track``: a video, prompts, a folder of masks; memory bounded.

:func:`track_video` writes ``masks.json`` (a COCO file of the frames), ``masks/<object>/
<frame>.png`` (0 and 255), ``overlay.mp4`` and ``sheet.png`` (a dozen frames at a glance). A frame
has its index, its time stamp in seconds and the name of its file, where the source has them.
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...configs.bundle import Bundle
from ...configs.progress import Progress, silent
from ..arrays import Array
from ..frames import FrameSource, OnError
from ..media.open import open_frames
from ..media.video.container import is_address
from ..pixels.rle import mask_from_rle
from ..predictors.stream import StreamTracker
from ..predictors.stream_result import StreamResult
from ..session import Session
from ..tracking.prefetch import check_prefetch, prefetched
from ..tracking.tracker import Points
from .frame_range import FrameRange
from .prompts import FramePrompts, ObjectPrompt, prompts_by_frame, refuse_unreached
from .results import results_folder
from .track_results import TrackedFrame, track_results


@dataclass(frozen=True)
class TrackSummary:
    """What was tracked: frames written, objects, and the seconds tracking took.

    missing: one line about an overlay that was asked for and cannot be written, else None.
    """

    num_frames: int
    obj_ids: list[int]
    seconds: float
    missing: str | None = None


def track_video(
    bundle: Bundle,
    source: Any,
    out_dir: str | os.PathLike[str],
    prompts: Sequence[ObjectPrompt],
    *,
    start: int = 0,
    end: int | None = None,
    reverse: bool = False,
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
    from its first on, a later one corrects it from there. start, end, reverse: which frames are
    tracked and in which order, see :class:`FrameRange`; results and video come in that order.
    prefetch: later frames are encoded while one is tracked, for the same masks. Raises InputError
    and FrameError.
    """
    chosen = FrameRange(start, end, reverse)
    with ExitStack() as stack:
        folder = stack.enter_context(results_folder(out_dir))
        frames = stack.enter_context(open_frames(source, on_error=on_error))
        total = None if frames.live else frames.num_frames
        waiting = prompts_by_frame(prompts, frames.measure(), total, bundle.model.image_size)
        order = chosen.order(waiting, total)
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
        items = chosen.items(frames, order)
        steps = _tracked(tracker, frames, items, waiting, prefetch)
        with writing as results, closing(steps):
            for frame, result in steps:
                shown = [prompt for prompt in prompts if prompt.frame_idx == frame.index]
                results.add(frame, result, shown)
                progress("tracking", *_place(frame.index, order))
        refuse_unreached(waiting, results.count)
        seconds = time.monotonic() - started
        return TrackSummary(results.count, tracker.obj_ids, seconds, results.missing)


def _place(frame_idx: int, order: range | None) -> tuple[int, int | None]:
    """How many frames are done with this one, those left out included, and of how many."""
    if order is None:
        return frame_idx + 1, None
    return order.index(frame_idx) + 1, len(order)


def _header(source: Any, frames: FrameSource) -> dict[str, Any]:
    return {
        "video": _name(source),
        "height": frames.height,
        "width": frames.width,
        "fps": frames.fps,
    }


def _tracked(
    tracker: StreamTracker,
    frames: FrameSource,
    items: Iterator[tuple[int, Array]],
    waiting: FramePrompts,
    prefetch: bool,
) -> Generator[tuple[TrackedFrame, StreamResult], None, None]:
    """Each frame and its result; frames are prefetched, prompts taken up."""
    if prefetch:
        check_prefetch(tracker.session)
    prompted = frozenset(waiting)

    def prepared() -> Iterator[tuple[TrackedFrame, Any]]:
        begun = False
        for index, rgb in items:
            # a live source knows the stamp of its last frame alone
            frame = TrackedFrame(index, rgb, frames.time_of(index), frames.name_of(index))
            # frames before the first prompt are not encoded
            begun = begun or index in prompted
            yield frame, tracker.encoded(rgb) if prefetch and begun else rgb

    leave = tracker.session.leave_thread
    with closing(prefetched(prepared(), depth=1 if prefetch else 2, leave=leave)) as steps:
        for frame, pixels in steps:
            for obj_id, prompt in waiting.pop(frame.index, {}).items():
                if isinstance(prompt, Points):
                    tracker.add_prompt(obj_id, prompt)
                else:
                    tracker.add_mask(obj_id, mask_from_rle(prompt))
            yield frame, tracker.step(pixels)


def _name(source: Any) -> str | None:
    """The file's name; None for what has none, and for addresses, which may hold a password."""
    is_path = isinstance(source, (str, os.PathLike)) and not is_address(os.fspath(source))
    return Path(source).name if is_path else None
