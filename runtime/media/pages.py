"""Image files of several pages: stacks of TIFF, animated PNG, WebP and AVIF, a frame a page."""

from __future__ import annotations

import os
from typing import Any

from ...configs.errors import FrameError
from ..arrays import Array
from ..frames import FrameSource, NoMoreFrames, OnError
from ..packages import pillow_image
from .images import image_pixels, page_indices, readable_image


class PagedImage(FrameSource):
    """The pages of one image file, decoded when asked for; going back may decode from the start.

    `fps` is what the first page's duration says, None where pages have none (TIFF).
    """

    def __init__(self, path: str | os.PathLike[str], on_error: OnError = "raise") -> None:
        super().__init__(on_error)
        self._path = os.path.abspath(path)
        with readable_image(path):
            self._image: Any = pillow_image().open(self._path)
            self._pages = page_indices(self._image)
        #: milliseconds that each page decoded so far is shown
        self._durations: dict[int, float] = {}

    def time_of(self, index: int) -> float | None:
        """Seconds from the start, where pages have durations and those before it were read."""
        before = [self._durations.get(page) for page in range(index)]
        known = [shown for shown in before if shown]
        if len(known) < index or not self._durations.get(0):
            return None
        return sum(known) / 1000 if index < len(self._pages) else None

    def _count(self) -> int:
        return len(self._pages)

    def _load(self, index: int) -> Array:
        if index >= len(self._pages):
            raise NoMoreFrames
        try:
            with readable_image(self._path):
                if self._image.tell() > self._pages[index] and self._image.format != "TIFF":
                    # an animation is decoded from its start, which Pillow's own rewinding of an
                    # animated PNG gets wrong
                    self._image.close()
                    self._image = pillow_image().open(self._path)
                self._image.seek(self._pages[index])
                pixels = image_pixels(self._path, self._image)
        except FrameError as error:
            policy = ", or use on_error='skip' or 'hold'" if index else ""
            raise FrameError(f"frame {index}: {error}{policy}") from None
        # WebP knows them once a page is decoded
        self._durations[index] = duration = float(self._image.info.get("duration") or 0)
        if index == 0:
            self.fps = 1000 / duration if duration > 0 else None
        return pixels

    def _free(self) -> None:
        self._image.close()
