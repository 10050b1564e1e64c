"""A clip that comes as the bytes of a file, tracked frame by frame in turns with others."""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path

from ...configs.staging import temporary_folder
from ...runtime.arrays import Frame
from ...runtime.media.open import open_frames
from ...runtime.pixels.rle import mask_from_rle
from ...runtime.predictors.stream import StreamTracker
from ...runtime.predictors.stream_result import StreamResult
from ...runtime.tasks.prompts import FramePrompts, ObjectPrompt, prompts_by_frame
from ...runtime.tracking.tracker import Points
from ..sessions.limits import NotMediaError, ServerLimits, TooLargeError
from ..sessions.media import measured, suffix_of
from ..sessions.model import Model
from .prompts import check_count


def tracked_clip(
    model: Model,
    clip: bytes,
    prompts: Sequence[ObjectPrompt],
    limits: ServerLimits,
    stopped: Callable[[], bool],
) -> Generator[tuple[int, StreamResult], None, None]:
    """Index and result of each frame, as ``sam2rt track`` has them; a frame is a turn.

    stopped: asked before each frame; True ends the clip. Raises InputError and FrameError.
    """
    if len(clip) > limits.upload_bytes:
        raise TooLargeError(
            f"the clip has {len(clip)} bytes, expected at most {limits.upload_bytes}"
        )
    if not clip:
        raise NotMediaError("the clip is empty: expected the bytes of a video")
    check_count({prompt.obj_id for prompt in prompts}, limits.objects)
    with temporary_folder() as folder:
        path = _written(folder, clip)
        total = measured(path, "the clip", "", limits).num_frames
        with open_frames(path) as frames:
            size = frames.measure()
            waiting = prompts_by_frame(prompts, size, total, model.bundle.model.image_size)
            tracker = model.run(
                lambda: StreamTracker(model.bundle, session=model.session, num_frames=total)
            )
            try:
                for index, frame in frames.items():
                    if stopped():
                        return
                    yield index, _step(model, tracker, index, frame, waiting)
            finally:
                model.run(lambda: _free(tracker))


def prompt_tracker(tracker: StreamTracker, prompts: FramePrompts, frame_idx: int) -> None:
    """Give a tracker the prompts of its next frame."""
    for obj_id, prompt in prompts.pop(frame_idx, {}).items():
        if isinstance(prompt, Points):
            tracker.add_prompt(obj_id, prompt)
        else:
            tracker.add_mask(obj_id, mask_from_rle(prompt))


def _step(
    model: Model, tracker: StreamTracker, index: int, frame: Frame, waiting: FramePrompts
) -> StreamResult:
    def work() -> StreamResult:
        prompt_tracker(tracker, waiting, index)
        return tracker.step(frame)

    return model.run(work)


def _free(tracker: StreamTracker) -> None:
    tracker.reset()
    tracker.close()


def _written(folder: Path, clip: bytes) -> Path:
    """The clip as a file whose ending says what it holds; NotMediaError."""
    path = folder / "clip"
    path.write_bytes(clip)
    return path.rename(path.with_suffix(suffix_of(path)))
