"""Video files through OpenCV, with every frame at its exact index.

Containers state wrong counts, and seeks land on wrong frames. Therefore frames are counted by
decoding, and the time stamp of every frame passed is kept. A seek is accepted only if the stamp of
the frame it lands on is known; otherwise the file is opened again and read from its start.
"""

from __future__ import annotations

import os
from array import array
from bisect import bisect_left
from pathlib import Path
from typing import Any

from ...configs.errors import FrameError
from ...configs.remedies import line_of, opening_error, remedy_of
from ..arrays import Array
from ..packages import opencv, opencv_opens, quiet_opencv
from .frames import FrameSource, NoMoreFrames, OnError

#: decoded frames kept for reading backwards, bytes
_CACHE_BYTES = 256 << 20
_CACHE_FRAMES = 64
#: a decoder may put out broken frames after a seek, as many as it reorders: 16 in H.264 and H.265
_REORDERED = 16
#: a video that ends this much earlier than its header says is truncated: seconds, share
_MISSING_SECONDS, _MISSING_SHARE = 0.5, 0.05


class VideoFile(FrameSource):
    """A video file (or URL, which can only be read forward), decoded when asked for.

    Reading forward costs one decode a frame; reading backwards decodes chunks of at most 256 MB.
    A frame that the decoder conceals or drops cannot be noticed, and a frame of another size comes
    in the size of the first. A file that ends early is an error, or with on_error "skip" or "hold"
    a shorter video.
    """

    def __init__(self, path: str, on_error: OnError = "raise") -> None:
        super().__init__(on_error)
        self._cv2 = opencv("reading video")
        self._path = path
        # opened again later, perhaps from another working folder
        self._file = path if "://" in path else os.path.abspath(path)
        self._capture: Any = None
        #: index of the frame the next grab gives
        self._position = 0
        #: milliseconds of the frames passed so far, by index; none of a live source
        self._stamps = array("d")
        self._passed = 0
        self._sorted = True
        self._end: int | None = None
        self._counted: int | None = None
        self._cache: dict[int, Array] = {}
        self._open()
        self._reported = int(self._property("FRAME_COUNT"))
        self._live = "://" in path and self._reported <= 0
        rate = self._property("FPS")
        self.fps = rate if 0 < rate < 1000 else None

    def _count(self) -> int:
        if self._counted is None:
            self._counted = self._end if self._end is not None else self._count_again()
        return self._counted

    def _free(self) -> None:
        if self._capture is not None:
            self._capture.release()
        self._cache.clear()

    def _load(self, index: int) -> Array:
        if index in self._cache:
            return self._cache[index]
        if self._end is not None and index >= self._end:
            return self._past_end(index)
        backwards = index < self._position
        passed = index < self._passed
        first = max(0, index - self._chunk() + 1) if backwards else index
        if backwards or (passed and index - self._position > self._chunk()):
            self._seek(first)
        self._cache = {}
        while self._position < first:
            if not self._grab():
                return self._past_end(index)
        while self._position <= index:
            at = self._position
            if not self._grab():
                return self._past_end(index)
            if at == index or backwards:
                self._keep(at, last=index)
        return self._cache[index]

    def _keep(self, index: int, last: int) -> None:
        """Decode the grabbed frame; unreadable ones before the one asked for are left out."""
        good, bgr = self._capture.retrieve()
        # of a damaged file there may be none, called good
        if good and bgr is not None:
            frame = self._cv2.cvtColor(bgr, self._cv2.COLOR_BGR2RGB)
            frame.flags.writeable = False
            self._cache[index] = frame
        elif index == last:
            raise FrameError(
                f"frame {index} of {self._path} cannot be decoded: encode the video again, or "
                "use on_error='skip' or 'hold'"
            )

    def _past_end(self, index: int) -> Array:
        assert self._end is not None
        if self._end == 0 and index == 0:
            raise FrameError(
                f"{self._path} holds no frame that can be decoded: encode the video again"
            )
        if self.on_error == "raise" and self._ends_early():
            raise FrameError(
                f"{self._path} ends after {self._end} of {self._reported} frames (truncated or "
                "damaged): get it again, or use on_error='skip' for what there is"
            )
        if index < max(self._end, self._counted or 0):
            raise FrameError(
                f"frame {index} of {self._path} cannot be decoded: encode the video again"
            )
        raise NoMoreFrames

    def _ends_early(self) -> bool:
        # counts may be estimates: what matters is the time that is missing
        if self._reported <= 0 or self.fps is None or self._end is None:
            return False
        expected = self._reported / self.fps
        last = self._stamps[-1] - self._stamps[0] if self._sorted else self._end / self.fps * 1000
        missing = expected - last / 1000 - 1 / self.fps
        return missing > max(_MISSING_SECONDS, _MISSING_SHARE * expected)

    def _count_again(self) -> int:
        """The number of frames: the header's if a seek to its last frame bears it out."""
        if self._reported > 0 and self.on_error != "skip" and self._seekable():
            self._capture.set(self._cv2.CAP_PROP_POS_FRAMES, self._reported - 1)
            last, beyond = self._capture.grab(), self._capture.grab()
            self._reopen()
            if last and not beyond:
                return self._reported
        while self._grab():
            pass
        assert self._end is not None
        if self._end == 0 or (self.on_error == "raise" and self._ends_early()):
            self._past_end(self._end)
        return self._end

    def _chunk(self) -> int:
        height, width = self._size or (1, 1)
        frame = 3 * height * width
        return max(1, min(_CACHE_FRAMES, _CACHE_BYTES // frame))

    def _seekable(self) -> bool:
        # other decoders' time stamps were not found to be reliable
        return self._sorted and not self._live and self._capture.getBackendName() == "FFMPEG"

    def _seek(self, index: int) -> None:
        """Move to a frame at or before `index`, as near as its time stamp can confirm."""
        if self._seekable():
            for margin in (_REORDERED, 4 * _REORDERED, 16 * _REORDERED):
                if index - margin <= 0:
                    break
                self._capture.set(self._cv2.CAP_PROP_POS_FRAMES, index - margin)
                landed = self._landed()
                if landed is not None and landed + _REORDERED <= index:
                    self._position = landed + 1
                    return
        self._reopen()

    def _landed(self) -> int | None:
        """Index of the next frame by its time stamp, None if it is none that was seen before."""
        if not self._capture.grab():
            return None
        stamp = self._property("POS_MSEC")
        at = bisect_left(self._stamps, stamp)
        return at if at < len(self._stamps) and self._stamps[at] == stamp else None

    def _grab(self) -> bool:
        if not self._capture.grab():
            self._end = max(self._position, self._passed)
            return False
        if self._position == self._passed:
            self._passed += 1
            if not self._live:
                stamp = self._property("POS_MSEC")
                self._sorted &= not self._stamps or stamp > self._stamps[-1]
                self._stamps.append(stamp)
        self._position += 1
        return True

    def _open(self) -> None:
        path, is_address = Path(self._file), "://" in self._path
        if not is_address and path.is_file() and path.stat().st_size == 0:
            raise FrameError(f"{self._path} is an empty file: expected a video")
        if not opencv_opens(self._file):
            raise FrameError(f"{self._path!a} is no name in UTF-8, which OpenCV needs: rename it")
        if not is_address and not os.access(path, os.R_OK):
            raise FrameError(f"{self._path} may not be read: ask its owner, or copy it")
        with quiet_opencv():
            self._capture = self._cv2.VideoCapture(self._file)
        if not self._capture.isOpened() and is_address:
            raise FrameError(
                f"{self._path} cannot be opened as a stream: check the address, and that it can "
                "be reached from here"
            )
        if not self._capture.isOpened():
            if error := opening_error(self._file):
                why, remedy = line_of(error), remedy_of(error, "check the file")
                raise FrameError(f"{self._path} cannot be opened ({why}): {remedy}")
            raise FrameError(
                f"{self._path} cannot be opened as a video (truncated, or an unknown format): "
                "check the file, or encode it as H.264 in MP4"
            )

    def _reopen(self) -> None:
        self._capture.release()
        self._open()
        self._position = 0

    def _property(self, name: str) -> float:
        return float(self._capture.get(getattr(self._cv2, f"CAP_PROP_{name}")))
