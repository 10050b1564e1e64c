"""Results of a session as files: COCO run lengths, PNG, and drawings."""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

from ...configs.errors import StateError
from ...configs.staging import replaced_file, temporary_folder
from ...runtime.arrays import Frame
from ...runtime.media.images import write_image
from ...runtime.media.open import open_frames
from ...runtime.media.overlay import draw_object
from ...runtime.media.video.writer import open_video_writer
from ...runtime.pixels.rle import mask_from_rle
from ...runtime.tasks.coco_file import coco_file, mask_record
from .limits import StoppingError
from .media import Medium
from .prompts import ObjectMask
from .session import WorkSession

_DEFAULT_FPS = 25.0
Masks = Mapping[int, Mapping[int, ObjectMask]]


class Results:
    """What a session had found when this was made; later work does not change it."""

    def __init__(self, session: WorkSession) -> None:
        self.medium: Medium = session.medium
        self._masks: Masks = dict(sorted(session.masks.items()))
        self._names = dict(session.names)
        self._stopped: Callable[[], bool] = lambda: session.closed
        if not self._masks:
            raise StateError("there are no masks yet: prompt an object first")

    def write_coco(self, path: Path) -> None:
        """``masks.json`` in the form of ``sam2rt track``; names of objects stand beside them."""
        medium = self.medium
        header = {
            "video" if medium.kind == "video" else "image": medium.name,
            "height": medium.height,
            "width": medium.width,
            "fps": medium.fps,
        }
        with replaced_file(path) as part, coco_file(part, header) as records:
            for frame, masks in self._masks.items():
                still = medium.name if medium.kind == "image" else f"{frame:05d}.jpg"
                records.add_image(still, (medium.height, medium.width), frame=frame)
                for found in masks.values():
                    if not found.area:
                        continue
                    what = {"object": found.object, "name": self._names.get(found.object, "")}
                    scored = {} if found.score is None else {"score": round(found.score, 4)}
                    records.add_mask({**what, **scored, **mask_record(mask_from_rle(found.mask))})

    def write_zip(self, path: Path) -> None:
        """A PNG of 0 and 255 per object and frame, ``<object>/<frame>.png``."""
        with (
            replaced_file(path) as part,
            temporary_folder() as work,
            zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as archive,
        ):
            for frame, masks in self._masks.items():
                self._go_on()
                for found in masks.values():
                    write_image(work / "mask.png", mask_from_rle(found.mask))
                    archive.write(work / "mask.png", f"{found.object}/{frame:05d}.png")

    def write_overlay(self, path: Path) -> None:
        """The video, or the image, with the masks drawn on it."""
        medium = self.medium
        with open_frames(medium.path) as frames:
            if medium.kind == "image":
                drawn = frames.read(0).copy()
                self._draw(drawn, 0)
                write_image(path, drawn)
                return
            size = medium.height, medium.width
            with open_video_writer(path, medium.fps or _DEFAULT_FPS, size) as writer:
                for frame in range(medium.num_frames):
                    self._go_on()
                    drawn = frames.read(frame).copy()
                    self._draw(drawn, frame)
                    writer.write(drawn)

    def _draw(self, drawn: Frame, frame: int) -> None:
        for found in self._masks.get(frame, {}).values():
            draw_object(drawn, mask_from_rle(found.mask), found.object)

    def _go_on(self) -> None:
        if self._stopped():
            raise StoppingError("the session was closed")
