"""What ``sam2rt track`` writes of each frame: run lengths, masks, overlay video, contact sheet."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...configs.errors import InputError, printable
from ..arrays import Array, Mask
from ..media.images import write_image
from ..media.marks import draw_prompt
from ..media.overlay import contact_sheet, draw_object, thumbnail
from ..media.video.writer import VideoWriter
from ..predictors.stream_result import StreamResult
from .coco_file import CocoWriter, coco_file, mask_record
from .prompts import ObjectPrompt
from .results import MASKS

#: thumbnails on the contact sheet, at most, and their width in pixels
_SHEET, _SHEET_WIDTH = 12, 320
_DEFAULT_FPS = 25.0


@contextmanager
def track_results(
    folder: Path,
    header: dict[str, Any],
    write_masks: bool,
    write_video: bool,
    asked: str | os.PathLike[str],
) -> Iterator[TrackResults]:
    """A writer of results into `folder`; leaving the block completes the files.

    header: ``video``, ``height``, ``width`` and ``fps`` of ``masks.json``. asked: the folder that
    lines about the results name. A video that cannot be written leaves the other results whole.
    """
    with ExitStack() as stack:
        records = stack.enter_context(coco_file(folder / MASKS, header))
        overlay = None
        if write_video:
            size, fps = (header["height"], header["width"]), header["fps"] or _DEFAULT_FPS
            overlay = stack.enter_context(closing(Overlay(folder, asked, fps, size)))
        results = TrackResults(records, folder / "masks" if write_masks else None, overlay)
        yield results
    results.write_sheet(folder / "sheet.png")


class Overlay:
    """``overlay.mp4`` of a folder, as long as it can be written; then why it cannot.

    The reason names the folder that was asked for, not the temporary one.
    """

    def __init__(
        self, folder: Path, asked: str | os.PathLike[str], fps: float, size: tuple[int, int]
    ) -> None:
        self._folder, self._asked = folder, asked
        self._path = folder / "overlay.mp4"
        self._writer: VideoWriter | None = None
        #: one line, None as long as there is nothing to say
        self.missing: str | None = None
        with self._noted():
            self._writer = VideoWriter(self._path, fps, size)

    def write(self, drawn: Array, time: float | None) -> None:
        """Append a drawn frame, uint8 [H, W, 3], shown at a time stamp in seconds."""
        if self._writer is not None:
            with self._noted():
                self._writer.write(drawn, time)

    def close(self) -> None:
        """Complete the file."""
        if self._writer is not None:
            with self._noted():
                self._writer.close()

    @contextmanager
    def _noted(self) -> Iterator[None]:
        try:
            yield
        except InputError as error:
            self._writer = None
            self._path.unlink(missing_ok=True)
            # as messages show it
            text = str(error).replace(printable(str(self._folder)), os.fspath(self._asked))
            self.missing = f"no overlay.mp4: {text} (--no-video, in Python write_video=False)"


@dataclass(frozen=True)
class TrackedFrame:
    """A frame of the source: its index, pixels uint8 [H, W, 3], time stamp and file name."""

    index: int
    rgb: Array
    time: float | None
    name: str | None


class TrackResults:
    """Writes each frame's results as it comes; made by :func:`track_results`."""

    def __init__(self, records: CocoWriter, masks: Path | None, overlay: Overlay | None) -> None:
        self.count = 0
        self._records, self._masks, self._overlay = records, masks, overlay
        self._sheet: list[Array] = []
        self._stride = 1

    @property
    def missing(self) -> str | None:
        """What could not be written of what was asked for, as one line."""
        return self._overlay.missing if self._overlay is not None else None

    def add(
        self, frame: TrackedFrame, result: StreamResult, prompts: Sequence[ObjectPrompt] = ()
    ) -> None:
        """Write one frame's results; one object's mask at a time is in memory.

        A frame that is no file of its own is named as frames that ffmpeg takes out of a video.
        prompts: those of this frame, which the drawings show.
        """
        scores = [round(float(score), 4) for score in result.object_scores]
        self._records.add_image(
            frame.name or f"{frame.index:05d}.jpg",
            result.frame_size,
            frame=frame.index,
            timestamp=_microseconds(frame.time),
            object_scores=dict(zip(map(str, result.obj_ids), scores, strict=True)),
        )
        sampled = self.count % self._stride == 0
        drawn = frame.rgb.copy() if self._overlay is not None or sampled else None
        for obj_id, score, mask in zip(result.obj_ids, scores, result.each_mask(), strict=True):
            self._add_mask(obj_id, score, mask)
            self._write_mask(obj_id, frame.index, mask)
            if drawn is not None:
                draw_object(drawn, mask, obj_id)
        if drawn is not None:
            for prompt in prompts:
                draw_prompt(drawn, prompt.points, prompt.box, prompt.obj_id)
        if drawn is not None and self._overlay is not None:
            self._overlay.write(drawn, frame.time)
        if drawn is not None and sampled:
            self._sample(drawn)
        self.count += 1

    def _add_mask(self, obj_id: int, score: float, mask: Mask) -> None:
        record = mask_record(mask)
        # an annotation without pixels would be a box of nothing to whoever reads them
        if record["area"]:
            self._records.add_mask({"object": obj_id, "object_score": score, **record})

    def write_sheet(self, path: Path) -> None:
        """Write the contact sheet, if there was a frame."""
        if self._sheet:
            write_image(path, contact_sheet(self._sheet, width=_SHEET_WIDTH))

    def _write_mask(self, obj_id: int, frame_idx: int, mask: Array) -> None:
        if self._masks is None:
            return
        target = self._masks / str(obj_id)
        target.mkdir(parents=True, exist_ok=True)
        write_image(target / f"{frame_idx:05d}.png", mask)

    def _sample(self, drawn: Array) -> None:
        """Keep every n-th frame's thumbnail, n doubling: a dozen whatever the length."""
        self._sheet.append(thumbnail(drawn, _SHEET_WIDTH).copy())
        if len(self._sheet) > _SHEET:
            self._sheet = self._sheet[::2]
            self._stride *= 2


def _microseconds(seconds: float | None) -> float | None:
    """As many digits as ffprobe gives."""
    return None if seconds is None else round(seconds, 6)
