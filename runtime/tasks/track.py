"""The work behind ``sam2rt track``: a video, prompts, a folder of masks; memory bounded.

:func:`track_video` writes ``masks.json`` (per frame, COCO run lengths), ``masks/<object>/
<frame>.png`` (0 and 255), ``overlay.mp4`` and ``sheet.png`` (a dozen frames at a glance).
"""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from ...configs.bundle import Bundle
from ...configs.checks import whole_number
from ...configs.errors import InputError
from ...configs.progress import Progress, silent
from ..arrays import Array
from ..media.frames import FrameSource, OnError
from ..media.images import write_picture
from ..media.open import open_frames
from ..media.overlay import contact_sheet, draw_object, thumbnail
from ..media.video_writer import VideoWriter, open_video_writer
from ..predictors.stream import StreamTracker
from ..predictors.stream_result import StreamResult
from ..session import Session
from ..tracking.prefetch import check_prefetch, prefetched
from ..tracking.prompts import points_from
from .results import MASKS, mask_record, records_file, results_folder

#: thumbnails on the contact sheet, at most
_SHEET = 12
_DEFAULT_FPS = 25.0


class ObjectPrompt(Protocol):
    """Clicks and a box of one object on one frame, in pixels of the frame."""

    @property
    def obj_id(self) -> int: ...
    @property
    def frame_idx(self) -> int: ...
    @property
    def points(self) -> Sequence[tuple[float, float, int]]:
        """x, y and label (1 object, 0 background) of each click."""
        ...

    @property
    def box(self) -> tuple[float, float, float, float] | None:
        """x0, y0, x1, y1."""
        ...


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
        waiting = _by_frame(prompts, frames, total, bundle.model.image_size)
        progress("opening the bundle")
        tracker = stack.enter_context(
            StreamTracker(
                bundle, backend, device, threads, non_overlap_masks=non_overlap_masks,
                fill_hole_area=fill_hole_area, num_frames=total, session=session,
            )
        )  # fmt: skip
        header = {
            "video": _name(source),
            "height": frames.height,
            "width": frames.width,
            "fps": frames.fps,
        }
        started = time.monotonic()
        results = _Results(folder, header, write_masks, write_video, out_dir)
        # closed before the frames are: a thread reads them
        with results, closing(_tracked(tracker, frames, waiting, prefetch)) as steps:
            for frame_idx, result, rgb in steps:
                results.add(frame_idx, rgb, result)
                progress("tracking", frame_idx + 1, total)
        _refuse_unreached(waiting, results.count)
        return TrackSummary(results.count, tracker.obj_ids, time.monotonic() - started)


def _tracked(
    tracker: StreamTracker, frames: FrameSource, waiting: dict[int, list[ObjectPrompt]],
    prefetch: bool,
) -> Generator[tuple[int, StreamResult, Array], None, None]:  # fmt: skip
    """Each frame's index, result and picture; frames are prefetched, prompts taken up."""
    # frames before the first prompt are not encoded
    first = min(waiting)
    if prefetch:
        check_prefetch(tracker.session)

    def prepared(item: tuple[int, Array]) -> Any:
        return tracker.encoded(item[1]) if prefetch and item[0] >= first else item[1]

    source = ((*item, prepared(item)) for item in frames.items())
    with closing(prefetched(source, depth=1 if prefetch else 2)) as items:
        for frame_idx, rgb, frame in items:
            for prompt in waiting.pop(frame_idx, []):
                tracker.add_points(prompt.obj_id, **_arguments(prompt))
            yield frame_idx, tracker.step(frame), rgb


def _is_live(source: Any) -> bool:
    return isinstance(source, str) and "://" in source


def _name(source: Any) -> str | None:
    """The file's name; None for what has none, and for addresses, which may hold a password."""
    is_path = isinstance(source, (str, os.PathLike)) and not _is_live(source)
    return Path(source).name if is_path else None


def _by_frame(
    prompts: Sequence[ObjectPrompt], frames: FrameSource, total: int | None, image_size: int
) -> dict[int, list[ObjectPrompt]]:
    """The prompts by frame, all checked before any work is done."""
    if not prompts:
        raise InputError("nothing to track: give at least one prompt")
    waiting: dict[int, list[ObjectPrompt]] = {}
    for prompt in prompts:
        whole_number("obj_id", prompt.obj_id)
        if whole_number("frame_idx", prompt.frame_idx) < 0:
            raise InputError(f"frame {prompt.frame_idx}: frames count from 0")
        try:
            points_from(
                **_arguments(prompt),
                frame_size=(frames.height, frames.width),
                image_size=image_size,
            )
        except InputError as error:
            where = f"object {prompt.obj_id} on frame {prompt.frame_idx}"
            raise InputError(f"{where}: {error}") from None
        earlier = waiting.setdefault(prompt.frame_idx, [])
        if prompt.obj_id in [other.obj_id for other in earlier]:
            raise InputError(
                f"object {prompt.obj_id} has two prompts on frame {prompt.frame_idx}: give its "
                "clicks and its box as one"
            )
        earlier.append(prompt)
    if total is not None:
        _refuse_unreached({t: p for t, p in waiting.items() if t >= total}, total)
    return waiting


def _refuse_unreached(waiting: dict[int, list[ObjectPrompt]], count: int) -> None:
    for frame_idx, prompts in waiting.items():
        raise InputError(
            f"the prompt of object {prompts[0].obj_id} is on frame {frame_idx}, which was never "
            f"reached: {count} frames could be read"
        )


def _arguments(prompt: ObjectPrompt) -> dict[str, Any]:
    return {
        "points": [point[:2] for point in prompt.points] or None,
        "labels": [point[2] for point in prompt.points] or None,
        "box": prompt.box,
    }


@contextmanager
def _overlay_writer(
    folder: Path, asked: str | os.PathLike[str], fps: float, size: tuple[int, int]
) -> Iterator[VideoWriter]:
    """Its errors name the folder that was asked for, not the temporary one."""
    try:
        with open_video_writer(folder / "overlay.mp4", fps, size) as writer:
            yield writer
    except InputError as error:
        if str(folder) not in str(error):
            raise
        text = str(error).replace(str(folder), os.fspath(asked))
        raise InputError(f"{text} (--no-video, in Python write_video=False)") from None


class _Results:
    """Writes each frame's results as it comes; leaving the block completes the files."""

    def __init__(
        self, folder: Path, header: dict[str, Any], write_masks: bool, write_video: bool,
        asked: str | os.PathLike[str],
    ) -> None:  # fmt: skip
        self.count = 0
        self._folder, self._asked = folder, asked
        self._header = header
        self._write_masks, self._write_video = write_masks, write_video
        self._sheet: list[Array] = []
        self._stride = 1
        self._stack = ExitStack()

    def __enter__(self) -> _Results:
        with ExitStack() as stack:
            self._records = stack.enter_context(
                records_file(self._folder / MASKS, self._header, "frames")
            )
            if self._write_video:
                size = self._header["height"], self._header["width"]
                fps = self._header["fps"] or _DEFAULT_FPS
                self._video = stack.enter_context(
                    _overlay_writer(self._folder, self._asked, fps, size)
                )
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error: Any) -> None:
        self._stack.__exit__(*error)
        if error[0] is None and self._sheet:
            write_picture(self._folder / "sheet.png", contact_sheet(self._sheet))

    def add(self, frame_idx: int, rgb: Array, result: StreamResult) -> None:
        """Write one frame; one object's mask at a time is in memory."""
        sampled = self.count % self._stride == 0
        drawn = rgb.copy() if self._write_video or sampled else None
        objects = []
        found = zip(result.obj_ids, result.object_scores, result.each_mask(), strict=True)
        for obj_id, score, mask in found:
            record = {"id": obj_id, "object_score": round(float(score), 4), **mask_record(mask)}
            objects.append(record)
            if self._write_masks:
                target = self._folder / "masks" / str(obj_id)
                target.mkdir(parents=True, exist_ok=True)
                write_picture(target / f"{frame_idx:05d}.png", mask)
            if drawn is not None:
                draw_object(drawn, mask, obj_id)
        self._records.add({"frame": frame_idx, "objects": objects})
        if drawn is not None and self._write_video:
            self._video.write(drawn)
        if drawn is not None and sampled:
            self._sample(drawn)
        self.count += 1

    def _sample(self, drawn: Array) -> None:
        """Keep every n-th frame's thumbnail, n doubling: a dozen whatever the length."""
        self._sheet.append(thumbnail(drawn, 320).copy())
        if len(self._sheet) > _SHEET:
            self._sheet = self._sheet[::2]
            self._stride *= 2
