"""What ``sam2rt track`` writes of each frame: run lengths, masks, overlay video, contact sheet."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from ...configs.errors import InputError, printable
from ..arrays import Array
from ..media.images import write_image
from ..media.overlay import contact_sheet, draw_object, thumbnail
from ..media.video_writer import VideoWriter, open_video_writer
from ..predictors.stream_result import StreamResult
from .results import MASKS, RecordsWriter, mask_record, records_file

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
    errors name. Raises InputError where the video cannot be written.
    """
    with ExitStack() as stack:
        records = stack.enter_context(records_file(folder / MASKS, header, "frames"))
        video = None
        if write_video:
            size, fps = (header["height"], header["width"]), header["fps"] or _DEFAULT_FPS
            video = stack.enter_context(_overlay_writer(folder, asked, fps, size))
        results = TrackResults(records, folder / "masks" if write_masks else None, video)
        yield results
    results.write_sheet(folder / "sheet.png")


@contextmanager
def _overlay_writer(
    folder: Path, asked: str | os.PathLike[str], fps: float, size: tuple[int, int]
) -> Iterator[VideoWriter]:
    """Its errors name the folder that was asked for, not the temporary one."""
    try:
        with open_video_writer(folder / "overlay.mp4", fps, size) as writer:
            yield writer
    except InputError as error:
        # as messages show it
        shown = printable(str(folder))
        if shown not in str(error):
            raise
        text = str(error).replace(shown, os.fspath(asked))
        raise InputError(f"{text} (--no-video, in Python write_video=False)") from None


class TrackResults:
    """Writes each frame's results as it comes; made by :func:`track_results`."""

    def __init__(
        self, records: RecordsWriter, masks: Path | None, video: VideoWriter | None
    ) -> None:
        self.count = 0
        self._records, self._masks, self._video = records, masks, video
        self._sheet: list[Array] = []
        self._stride = 1

    def add(self, frame_idx: int, rgb: Array, result: StreamResult) -> None:
        """Write one frame, uint8 [H, W, 3]; one object's mask at a time is in memory."""
        sampled = self.count % self._stride == 0
        drawn = rgb.copy() if self._video is not None or sampled else None
        objects = []
        found = zip(result.obj_ids, result.object_scores, result.each_mask(), strict=True)
        for obj_id, score, mask in found:
            record = {"id": obj_id, "object_score": round(float(score), 4), **mask_record(mask)}
            objects.append(record)
            self._write_mask(obj_id, frame_idx, mask)
            if drawn is not None:
                draw_object(drawn, mask, obj_id)
        self._records.add({"frame": frame_idx, "objects": objects})
        if drawn is not None and self._video is not None:
            self._video.write(drawn)
        if drawn is not None and sampled:
            self._sample(drawn)
        self.count += 1

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
