"""Video files, with every frame at its exact index.

A frame is known by the time stamp that its packet carries (:mod:`.scan`), never by what a
header says. So a seek is checked by the stamp of what it gives, and a frame that the decoder drops
is an unreadable one that moves no other.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from ....configs.errors import FrameError
from ....configs.remedies import line_of, remedy_of
from ...arrays import Frame
from ...frames import FrameSource, NoMoreFrames, OnError
from .container import OpenVideo, is_address
from .frame_spool import FrameSpool
from .index import VideoIndex
from .pictures import VideoPictures
from .pixels import UprightPixels
from .scan import First, index_video

#: a group of frames is read through to its end rather than left for one that begins this near
_NEAR = 16


class VideoFile(FrameSource):
    """A video file, decoded when asked for.

    Reading forward costs one decode a frame. Going back decodes once from the key frame before,
    and keeps what it passes in a temporary file of at most 2 GB, so that reading in reverse decodes
    each frame once. A frame that the decoder conceals cannot be noticed, and one of another size
    comes in the size of the first. A file that ends early is an error, or with on_error "skip" or
    "hold" a shorter video.

    shown: what errors call the file; on_close: frees what the path stands for.
    """

    def __init__(
        self,
        path: str,
        on_error: OnError = "raise",
        *,
        shown: str | None = None,
        on_close: Callable[[], None] | None = None,
    ) -> None:
        super().__init__(on_error)
        self._path = shown or path
        # opened again later, perhaps from another working folder
        self._place = path if is_address(path) else os.path.abspath(path)
        self._on_close = on_close
        self._video = OpenVideo(self._place, self._path)
        self.fps = self._video.rate
        self._pictures, self._pixels = VideoPictures(self._video), UprightPixels()
        self._index: VideoIndex | None = None
        self._opening = First(None, interlaced=False)
        #: index that the next decoded frame has at least, and where decoding began
        self._position = self._began = 0
        #: a frame that came in the place of a missing one, with its index
        self._ahead: tuple[int, Frame] | None = None
        #: indices of frames that are known not to come
        self._gap = range(0)
        #: the frame given last, with its index
        self._given: tuple[int, Frame] | None = None
        self._spool = FrameSpool()

    def time_of(self, index: int) -> float | None:
        with self._reading:
            self._open_still()
            known = self._known()
            return known.seconds(index) if 0 <= index < len(known) else None

    def _count(self) -> int:
        known = self._known()
        if self.on_error == "raise" and known.cut:
            self._past_end()
        return len(known)

    def _free(self) -> None:
        self._given = self._ahead = None
        self._spool.close()
        self._video.close()
        if self._on_close is not None:
            self._on_close()

    def _load(self, index: int) -> Frame:
        if self._given is None:
            self._given = 0, self._first(index)
        if self._given[0] != index:
            if index >= len(self._known()):
                self._past_end()
            self._given = index, self._other(index)
        return self._given[1]

    def _first(self, asked: int = 0) -> Frame:
        picture = self._pictures.next()
        if picture is None:
            if asked:
                # leaving out the first must come to an end
                raise NoMoreFrames
            raise FrameError(
                f"{self._path} holds no frame that can be decoded: encode the video again"
            )
        self._opening = First(picture.pts, picture.interlaced_frame)
        self._position = 1
        return self._pixels.rgb(picture)

    def _known(self) -> VideoIndex:
        """The index, made when it is first needed."""
        if self._index is None:
            if self._given is None:
                self._given = 0, self._first()
            try:
                self._index = index_video(self._place, self._path, self._opening)
            except OSError as error:
                why, remedy = line_of(error), remedy_of(error, "check that disk or network drive")
                raise FrameError(f"{self._path} cannot be read ({why}): {remedy}") from None
            last = len(self._index) - 1
            length = self._index.seconds(last) - self._index.seconds(0) if last > 0 else 0
            # a header may state a rate that no frame keeps to
            if length > 0 and (self.fps is None or abs(last / length / self.fps - 1) > 0.02):
                self.fps = last / length
        return self._index

    def _other(self, index: int) -> Frame:
        """Any frame but the one given last."""
        kept = self._spool.get(index)
        if kept is not None:
            return kept
        frame = None if index in self._gap else self._reached(index)
        if frame is None:
            if index not in self._gap:
                self._gap = range(index, self._ahead[0] if self._ahead else len(self._known()))
            raise FrameError(
                f"frame {index} of {self._path} cannot be decoded: encode the video again, or "
                "use on_error='skip' or 'hold'"
            )
        return frame

    def _reached(self, index: int) -> Frame | None:
        """A frame that is to be decoded, from where decoding is or from a key; None without it."""
        back = index < self._position and (self._ahead is None or self._ahead[0] != index)
        moved = back or self._leap(index)
        if moved:
            self._move(index)
        frame = self._decoded(index, keep=back)
        if frame is None and moved and self._began > 0:
            # from some keys, not all that follows can be decoded
            self._move(self._began - 1)
            frame = self._decoded(index, keep=back)
        return frame

    def _leap(self, index: int) -> bool:
        """Whether decoding from a later key is shorter than going on."""
        key = self._known().key_before(index)
        return key is not None and key.index > self._position + _NEAR

    def _move(self, index: int) -> None:
        """Go to the key before a frame, or to the start where no key can be found."""
        self._ahead = None
        key = self._known().key_before(index)
        while key is not None and key.index > 0:
            if self._pictures.seek(key):
                self._position = self._began = key.index
                return
            key = self._known().key_before(key.index - 1)
        self._video.close()
        self._video = OpenVideo(self._place, self._path)
        self._pictures = VideoPictures(self._video)
        self._position = self._began = 0

    def _decoded(self, index: int, keep: bool) -> Frame | None:
        """Decode up to a frame; None where it does not come. keep: those passed, too."""
        if self._ahead is not None:
            at, frame = self._ahead
            if at > index:
                return None
            self._ahead = None
            if at == index:
                return frame
        known = self._known()
        while (picture := self._pictures.next()) is not None:
            place = known.place(picture.pts) if known.by_stamp else self._position
            if place is None or place < self._position:
                continue
            self._position = place + 1
            if place < index and not keep:
                continue
            frame = self._pixels.rgb(picture)
            if place > index:
                self._ahead = place, frame
                return None
            if keep:
                self._spool.put(place, frame)
            if place == index:
                return frame
        self._position = len(known)
        return None

    def _past_end(self) -> None:
        known = self._known()
        if self.on_error == "raise" and known.cut:
            stated = self._video.stream.frames
            of = f" of {stated}" if stated > len(known) else ""
            raise FrameError(
                f"{self._path} ends after {len(known)}{of} frames (truncated or damaged): get it "
                "again, or use on_error='skip' for what there is"
            )
        raise NoMoreFrames
