"""Live video: cameras and broadcasts, whose frames come once and in order."""

from __future__ import annotations

from typing import NoReturn

from ....configs.errors import FrameError
from ...arrays import Frame
from ...frames import FrameSource, NoMoreFrames, OnError
from .container import OpenVideo
from .file import VideoFile
from .pictures import VideoPictures
from .pixels import UprightPixels


def open_address(address: str, on_error: OnError = "raise") -> FrameSource:
    """A file on a server is a VideoFile, read by its address; anything else is live.

    Raises FrameError.
    """
    video = OpenVideo(address, address)
    if video.container.duration is None:
        return LiveVideo(video, on_error)
    video.close()
    return VideoFile(address, on_error)


class LiveVideo(FrameSource):
    """Frames of an open stream as they come; nothing is kept but the last one and its stamp.

    An earlier frame than the last one is an error, and so is the number of frames until the stream
    has ended. A connection that breaks off is an end, too: nobody can tell one from the other.
    """

    live = True

    def __init__(self, video: OpenVideo, on_error: OnError = "raise") -> None:
        super().__init__(on_error)
        self._video, self.fps = video, video.rate
        self._pictures, self._pixels = VideoPictures(video), UprightPixels()
        #: the frame given last, its index and its time stamp
        self._given: tuple[int, Frame, float | None] | None = None
        self._ended = False

    def time_of(self, index: int) -> float | None:
        return self._given[2] if self._given is not None and self._given[0] == index else None

    def _count(self) -> int:
        if not self._ended:
            raise FrameError(
                f"{self._video.shown} is a live stream, whose length nobody knows: use "
                "StreamTracker or 'sam2rt track', or record it to a file"
            )
        return self._given[0] + 1 if self._given is not None else 0

    def _load(self, index: int) -> Frame:
        last = self._given[0] if self._given is not None else -1
        if self._given is not None and index == last:
            return self._given[1]
        if index < last:
            raise FrameError(
                f"frame {index} of {self._video.shown} has passed: a live stream gives each frame "
                "once, record it to a file to go back"
            )
        while last < index:
            picture = None if self._ended else self._pictures.next()
            if picture is None:
                self._end(last + 1)
            last += 1
            self._given = last, self._pixels.rgb(picture), self._seconds(picture.pts)
        assert self._given is not None
        return self._given[1]

    def _seconds(self, stamp: int | None) -> float | None:
        unit = self._video.stream.time_base
        return None if stamp is None or unit is None else float(stamp * unit)

    def _end(self, count: int) -> NoReturn:
        self._ended = True
        if count == 0:
            raise FrameError(f"{self._video.shown} gave no frame: check that it sends video")
        raise NoMoreFrames

    def _free(self) -> None:
        self._given = None
        self._video.close()
