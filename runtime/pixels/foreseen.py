"""Masks that are brought to the host with the frame they are of, before anybody asks.

Whoever asks for each frame's masks will ask for the next one's: they are made and copied in the
same piece of work, and are there when it is waited for. A frame whose masks nobody took is the
last one that they are made for.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from ..arrays import Mask
from ..gpu import cuda
from ..gpu.arrivals import Arrival, Packed
from ..gpu.tensor import Pool

#: bytes of masks that are brought ahead; pinned memory is scarce
_MOST_BYTES = 64 << 20
_NAME = "masks"


class ForeseenMasks:
    """Masks [N, H, W] of one frame in pinned memory, above `threshold`; or one of them."""

    def __init__(self, arrival: Arrival, threshold: float, index: int | None = None) -> None:
        self._arrival, self.threshold, self._index = arrival, threshold, index

    def read(self) -> Mask:
        """The masks, a copy at each call."""
        return self._arrival.copied(_NAME, self._index)

    def item(self, index: int) -> ForeseenMasks:
        """Those of one object; there is no smaller part."""
        if self._index is not None:
            return self
        return ForeseenMasks(self._arrival, self.threshold, index)


class Foresight:
    """Which masks will be asked for, and the pinned memory they come through."""

    def __init__(self, stream: cuda.Stream, pool: Pool) -> None:
        self._stream, self._pool = stream, pool
        self._asked: tuple[tuple[int, int], float] | None = None
        self._packed: dict[tuple[int, ...], Packed] = {}

    def note(self, size: tuple[int, int], threshold: float) -> None:
        """Masks of a frame were asked for."""
        self._asked = size, threshold

    def expected(self, n: int, size: tuple[int, int]) -> float | None:
        """The threshold of masks that a frame is to come with; None: nobody took the last ones."""
        asked, self._asked = self._asked, None
        if asked is None or asked[0] != size or n * math.prod(size) > _MOST_BYTES:
            return None
        return asked[1]

    def place(self, n: int, size: tuple[int, int]) -> Packed:
        """Memory for masks of n objects, on the device and pinned."""
        key = (n, *size)
        if key not in self._packed:
            self.close()
            parts: dict[str, Any] = {_NAME: ((n, *size), np.bool_)}
            self._packed[key] = Packed(parts, self._pool, self._stream, "masks")
        return self._packed[key]

    def close(self) -> None:
        if self._packed:
            # copies may be under way
            self._stream.synchronize()
        for packed in self._packed.values():
            packed.close()
        self._packed.clear()
