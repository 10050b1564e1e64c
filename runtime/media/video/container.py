"""Opening a video: the container and its video stream, or one line that says why not."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from ....configs.checks import shown_line
from ....configs.errors import FrameError
from ....configs.remedies import line_of, machine_failed, opening_error, remedy_of
from ...packages import pyav

#: seconds that an address has to answer, and then to give its next frame
_ANSWER, _NEXT = 15.0, 30.0
#: FFmpeg's formats that open files or addresses which they name
_NAMING_OTHERS = {"concat", "dash", "hls", "imf", "sdp"}


def is_address(name: str) -> bool:
    """Whether the name is that of something elsewhere, not of a file."""
    return "://" in name and not os.path.exists(name)


class OpenVideo:
    """An open container and its video stream; `shown` is what errors call it.

    place: absolute path, or an address. Raises FrameError.
    """

    def __init__(self, place: str, shown: str) -> None:
        self._av = pyav("reading video")
        self.shown = shown
        self.errors: type[Exception] = self._av.FFmpegError
        self.container = _opened(self._av, place, shown)
        try:
            if not is_address(place):
                _refuse_playlist(self.container, shown)
            self.stream = _video_stream(self.container, shown)
        except BaseException:
            self.container.close()
            raise
        # as many threads as there are cores; frames come out the same
        self.stream.thread_type = "AUTO"

    @property
    def rate(self) -> float | None:
        """Frames a second as the container states them, the mean where they vary."""
        for stated in (self.stream.average_rate, self.stream.guessed_rate):
            if stated is not None and 0 < stated < 1000:
                return float(stated)
        return None

    def close(self) -> None:
        """Close the file or the connection."""
        self.container.close()


def _opened(av: Any, place: str, shown: str) -> Any:
    # titles in an old code page are no reason to refuse pictures
    how: dict[str, Any] = {"mode": "r", "metadata_errors": "replace"}
    try:
        if is_address(place):
            # as UDP a camera's packets get lost
            options = {"rtsp_transport": "tcp"} if place.startswith("rtsp") else {}
            return av.open(place, options=options, timeout=(_ANSWER, _NEXT), **how)
        _refuse_unreadable(Path(place), shown)
        try:
            # the prefix keeps a colon in a name from being taken for a protocol
            return av.open(f"file:{place}", **how)
        except UnicodeEncodeError:
            return av.open(open(place, "rb"), **how)
    except av.FFmpegError as error:
        if is_address(place):
            raise FrameError(
                f"{shown} cannot be opened as a stream: check the address, and that it can be "
                "reached from here"
            ) from None
        for cause in (error, opening_error(place)):
            if cause is not None and machine_failed(cause):
                why, remedy = line_of(cause), remedy_of(cause, "")
                raise FrameError(f"{shown} cannot be opened ({why}): {remedy}") from None
        what = shown_line(error.strerror or type(error).__name__)
        raise FrameError(
            f"{shown} cannot be opened as a video (truncated, or an unknown format: {what}): "
            "check the file, or encode it as H.264 in MP4"
        ) from None


def _refuse_unreadable(path: Path, shown: str) -> None:
    if path.is_file() and path.stat().st_size == 0:
        raise FrameError(f"{shown} is an empty file: expected a video")
    if not os.access(path, os.R_OK):
        raise FrameError(f"{shown} may not be read: ask its owner, or copy it")


def _refuse_playlist(container: Any, shown: str) -> None:
    """A stranger's file must not stand for another one of this machine's."""
    kind = container.format.name
    if _NAMING_OTHERS & set(kind.split(",")):
        raise FrameError(
            f"{shown} is a playlist ({kind}), which names other files: give the video itself"
        )


def _video_stream(container: Any, shown: str) -> Any:
    moving = [s for s in container.streams.video if "attached_pic" not in str(s.disposition)]
    if not moving:
        kinds = sorted({str(s.type) for s in container.streams}) or ["nothing"]
        found = "a cover image and sound" if container.streams.video else ", ".join(kinds)
        raise FrameError(f"{shown} holds no video, only {found}: expected a video")
    best = container.streams.best("video")
    stream = best if best in moving else moving[0]
    if stream.codec_context is None:
        raise FrameError(
            f"{shown} is a video that the installed PyAV has no decoder for: install another "
            "version of 'av', or encode the video as H.264 in MP4"
        )
    return stream
