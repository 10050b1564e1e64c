"""The decoder: the frames of a video stream in presentation order, from its start or a key."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any

from .container import OpenVideo
from .index import Key


class VideoPictures:
    """Gives the decoder's frames one by one; an unreadable packet gives none and ends nothing."""

    def __init__(self, video: OpenVideo) -> None:
        self._video = video
        self._packets: Iterator[Any] = video.container.demux(video.stream)
        self._ready: deque[Any] = deque()
        self._ended = False
        #: frames shown before this one belong to a group that was not read
        self._floor: int | None = None

    def next(self) -> Any | None:
        """The next decoded frame, None after the last."""
        while True:
            while self._ready:
                frame = self._ready.popleft()
                if self._floor is None or frame.pts is None or frame.pts >= self._floor:
                    return frame
            if self._ended:
                return None
            self._decode(self._packet())

    def seek(self, key: Key) -> bool:
        """Go to a key frame; False where the container finds none at or before it."""
        for stamp in {key.pts: None, key.dts: None}:
            try:
                self._video.container.seek(stamp, stream=self._video.stream, backward=True)
            except self._video.errors:
                return False
            self._restart()
            while (packet := self._packet()) is not None:
                if packet.is_keyframe and packet.pts is not None:
                    break
            if packet is None or packet.pts > key.pts:
                continue
            self._floor = key.pts
            self._decode(packet)
            return True
        return False

    def _restart(self) -> None:
        self._packets = self._video.container.demux(self._video.stream)
        self._ready.clear()
        self._ended, self._floor = False, None

    def _packet(self) -> Any | None:
        """The next packet that holds something, None at the end."""
        try:
            return next((packet for packet in self._packets if packet.size), None)
        except self._video.errors:
            # the index says whether a file ends here
            return None

    def _decode(self, packet: Any | None) -> None:
        """Take what the decoder gives for a packet, or for the end."""
        self._ended = packet is None
        try:
            self._ready.extend(self._video.stream.codec_context.decode(packet))
        except self._video.errors:
            # damaged: the index knows which frame did not come
            return
