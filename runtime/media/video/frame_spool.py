"""Decoded frames kept in a temporary file, for reading backwards: bounded, the oldest go first."""

from __future__ import annotations

import math
import tempfile
from typing import IO

import numpy as np

from ...arrays import Frame

#: bytes of the file, at most: 345 frames of 1920 x 1080
_MOST_BYTES = 2 << 30


class FrameSpool:
    """Keeps frames of one size, uint8 [H, W, 3], by their index.

    Where the file cannot be written (a full disk) it keeps none, and frames are decoded again.
    """

    def __init__(self, most_bytes: int = _MOST_BYTES) -> None:
        self._most_bytes = most_bytes
        self._file: IO[bytes] | None = None
        self._shape: tuple[int, ...] = ()
        #: slot of each index; the index in each slot, in the order of writing
        self._slots: dict[int, int] = {}
        self._held: list[int] = []
        self._next = 0

    def put(self, index: int, frame: Frame) -> None:
        """Keep a frame; one already kept stays."""
        if index in self._slots:
            return
        slots = max(1, self._most_bytes // frame.nbytes)
        slot = self._next % slots
        if slot < len(self._held):
            self._slots.pop(self._held[slot], None)
        try:
            if self._file is None:
                self._file = tempfile.TemporaryFile(prefix="sam2rt-frames-")  # noqa: SIM115
                self._shape = frame.shape
            self._file.seek(slot * frame.nbytes)
            self._file.write(frame.data)
            self._file.flush()
        except OSError:
            return
        self._held[slot : slot + 1] = [index]
        self._slots[index] = slot
        self._next = slot + 1

    def get(self, index: int) -> Frame | None:
        """The frame, read-only, or None where it is not kept."""
        slot = self._slots.get(index)
        if slot is None or self._file is None:
            return None
        size = math.prod(self._shape)
        self._file.seek(slot * size)
        return np.frombuffer(self._file.read(size), np.uint8).reshape(self._shape)

    def close(self) -> None:
        """Remove the file."""
        if self._file is not None:
            self._file.close()
        self._slots.clear()
