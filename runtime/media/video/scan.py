"""Makes the index of a video file, from its packets, or by decoding where they leave a doubt.

Counts and durations in a header are estimates and are not asked. One packet is one frame, unless
there is reason for doubt; then all frames are decoded once, and those that come are counted.
"""

from __future__ import annotations

import itertools
from array import array
from bisect import bisect_left
from dataclasses import dataclass, field
from fractions import Fraction

from .container import OpenVideo
from .container_end import ends_too_early
from .index import Key, VideoIndex
from .pictures import VideoPictures

#: codecs whose packet may hold one field of two where they are interlaced
_OF_FIELDS = {"h264", "vc1", "wmv3"}
#: containers that store no presentation stamps
_WITHOUT_STAMPS = {"avi", "h264", "hevc", "m4v", "mpegvideo", "obu", "ivf"}
#: VP8: the bit of a packet's first byte that is set on a frame to be shown
_SHOWN = 0x10
#: frames a second of a stream that states neither stamps nor a rate, which is FFmpeg's guess
_GUESSED_RATE = 25.0


@dataclass
class _Packets:
    """What a pass over the packets found, in the order of the file."""

    pts: array[int] = field(default_factory=lambda: array("q"))
    keys: list[tuple[int, int]] = field(default_factory=list)
    #: every packet has stamps, and those of decoding grow
    orderly: bool = True
    cut: bool = False


@dataclass(frozen=True)
class First:
    """What the first frame that could be decoded tells: its stamp, whether it is interlaced."""

    stamp: int | None
    interlaced: bool


def index_video(place: str, shown: str, first: First) -> VideoIndex:
    """The index of a video file.

    The file is read once, and decoded once where its packets leave a doubt. Raises FrameError.
    """
    video = OpenVideo(place, shown)
    try:
        found = _packets(video)
        cut = found.cut or ends_too_early(place)
        base = video.stream.time_base or Fraction(1, 1000)
        stamps = array("q", sorted(p for p in found.pts if first.stamp is None or p >= first.stamp))
        by_stamp = True
        if _in_doubt(video, found, stamps, first):
            stamps, by_stamp, base = _decoded(place, shown, base)
        keys = _keys(found.keys, stamps) if by_stamp else ()
        return VideoIndex(stamps, base, by_stamp, keys, cut)
    finally:
        video.close()


def _packets(video: OpenVideo) -> _Packets:
    found, last_dts, damaged = _Packets(), None, False
    is_vp8 = video.stream.codec_context.codec.canonical_name == "vp8"
    try:
        for packet in video.container.demux(video.stream):
            if not packet.size:
                continue
            pts, dts = packet.pts, packet.dts
            damaged = packet.is_corrupt
            found.orderly &= pts is not None
            found.orderly &= dts is None or last_dts is None or dts > last_dts
            last_dts = dts if dts is not None else last_dts
            if pts is None:
                continue
            if packet.is_keyframe:
                found.keys.append((pts, pts if dts is None else dts))
            if not packet.is_discard and not (is_vp8 and not memoryview(packet)[0] & _SHOWN):
                found.pts.append(pts)
    except video.errors:
        found.cut = True
    if damaged:
        # the last packet is cut short
        found.cut = True
        found.pts = found.pts[:-1]
    return found


def _in_doubt(video: OpenVideo, found: _Packets, stamps: array[int], first: First) -> bool:
    """Whether packets and frames may differ in number or order."""
    codec = video.stream.codec_context
    if not found.orderly or len(set(found.pts)) < len(found.pts) or not stamps:
        return True
    if first.stamp is None or stamps[0] != first.stamp:
        return True
    if first.interlaced and codec.codec.canonical_name in _OF_FIELDS:
        return True
    return _stores_no_stamps(video) and not codec.codec.intra_only


def _stores_no_stamps(video: OpenVideo) -> bool:
    return not _WITHOUT_STAMPS.isdisjoint(video.container.format.name.split(","))


def _decoded(place: str, shown: str, base: Fraction) -> tuple[array[int], bool, Fraction]:
    """Stamps of the frames that come out, whether they are the frames' own and grow, their unit."""
    video = OpenVideo(place, shown)
    try:
        pictures, shown_at, decoded_at = VideoPictures(video), [], []
        while (frame := pictures.next()) is not None:
            shown_at.append(frame.pts)
            decoded_at.append(frame.dts)
        rate = video.rate or _GUESSED_RATE
        # what is not stored was made up by FFmpeg, and of several versions not alike
        made_up = _stores_no_stamps(video)
    finally:
        video.close()
    while decoded_at and decoded_at[-1] is None:
        # those that came when there was no packet left
        decoded_at.pop()
    if _grow(decoded_at) and (made_up or not _grow(shown_at)):
        step = decoded_at[-1] - decoded_at[-2] if len(decoded_at) > 1 else 1
        more = (decoded_at[-1] + step * n for n in range(1, len(shown_at) - len(decoded_at) + 1))
        stamps = array("q", [*decoded_at, *more])
        return stamps, list(stamps) == shown_at, base
    if _grow(shown_at):
        return array("q", shown_at), True, base
    if None not in shown_at:
        return array("q", shown_at), False, base
    return array("q", range(len(shown_at))), False, 1 / Fraction(rate).limit_denominator(10**6)


def _grow(stamps: list[int | None]) -> bool:
    return bool(stamps) and None not in stamps and all(a < b for a, b in itertools.pairwise(stamps))  # type: ignore[operator]


def _keys(found: list[tuple[int, int]], stamps: array[int]) -> tuple[Key, ...]:
    """Each key's first frame; of a key that is not shown, such as a trimmed one, the next."""
    keys = (Key(bisect_left(stamps, pts), pts, dts) for pts, dts in sorted(found))
    return tuple(key for key in keys if key.index < len(stamps))
