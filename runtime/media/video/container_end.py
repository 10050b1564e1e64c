"""Whether a file ends before its own structure does: what a broken download or a full disk leaves.

Only sizes that the container states of its parts count, never a duration or a number of frames.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

#: gives where the structure that begins at the file's start ends; None where nobody can tell
_EndOf = Callable[[BinaryIO, int], int | None]
#: sizes of a Matroska element that say "unknown", by the number of bytes they take
_UNKNOWN = {n: (1 << (7 * n)) - 1 for n in range(1, 9)}
_BOXES = {
    b"ftyp", b"moov", b"mdat", b"wide", b"free", b"skip", b"moof", b"styp", b"sidx", b"mfra",
    b"meta", b"uuid", b"udta", b"pdin", b"pnot", b"emsg", b"prft", b"ssix",
}  # fmt: skip
_SEGMENT = bytes.fromhex("18538067")


def ends_too_early(place: str) -> bool:
    """Whether an MP4, QuickTime, Matroska, WebM or AVI file is shorter than its parts say.

    False for other formats, which do not say, and for addresses.
    """
    path = Path(place)
    if not path.is_file():
        return False
    size = os.path.getsize(path)
    with path.open("rb") as file:
        end_of = _structure(file.read(12))
        file.seek(0)
        end = end_of(file, size) if end_of is not None else None
    return end is not None and end > size


def _structure(start: bytes) -> _EndOf | None:
    if start[4:8] in _BOXES:
        return _end_of_boxes
    if start[:4] == bytes.fromhex("1a45dfa3"):
        return _end_of_segment
    if start[:4] == b"RIFF" and start[8:12] == b"AVI ":
        return _end_of_chunks
    return None


def _end_of_boxes(file: BinaryIO, size: int) -> int | None:
    """ISO 14496-12: boxes of 32-bit sizes; 1 stands for a 64-bit one, 0 for "to the end"."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(16)
        length = int.from_bytes(head[:4], "big")
        if length == 1:
            length = int.from_bytes(head[8:16], "big")
        if length < 8 or head[4:8] not in _BOXES:
            # the rest of the file, or other data behind the film
            return None
        at += length
    return at


def _end_of_segment(file: BinaryIO, _: int) -> int | None:
    """RFC 8794: the header, then the segment that holds everything, each with its size."""
    file.seek(4)
    length = _element_size(file)
    if length is None:
        return None
    file.seek(length, os.SEEK_CUR)
    if file.read(4) != _SEGMENT:
        return None
    length = _element_size(file)
    return None if length is None else file.tell() + length


def _element_size(file: BinaryIO) -> int | None:
    """An element's size, None for an unknown one; as many bytes follow as the first has zeros."""
    first = file.read(1)
    if not first or not first[0]:
        return None
    more = 8 - first[0].bit_length()
    value = int.from_bytes(first + file.read(more), "big") & _UNKNOWN[more + 1]
    return None if value == _UNKNOWN[more + 1] else value


def _end_of_chunks(file: BinaryIO, size: int) -> int | None:
    """RIFF: chunks of 32-bit sizes, padded to even ones; a large file has one a gigabyte."""
    at = 0
    while at + 8 <= size:
        file.seek(at)
        head = file.read(8)
        if head[:4] not in (b"RIFF", b"JUNK"):
            # other data behind the film
            return None
        length = int.from_bytes(head[4:8], "little")
        if length in (0, 2**32 - 1):
            # never filled in: recorded to a pipe
            return None
        at += 8 + length
        if at < size:
            at += length % 2
    return at
