"""Small arrays between host and device: packed in one piece each way, through pinned memory.

A copy that is part of a CUDA graph has fixed addresses on both sides, and nobody waits for a copy
alone: what goes up is put into pinned memory before the work that reads it, what comes down is
read from there once the work is done.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Mapping
from typing import Any

import numpy as np

from ..arrays import Array
from . import cuda
from .tensor import ALIGNED, DeviceTensor, Pool

#: shape and dtype by name
Parts = Mapping[str, tuple[tuple[int, ...], Any]]


class Arrival:
    """Arrays that work of a stream brings to pinned memory; reading waits for that work."""

    def __init__(self, views: Mapping[str, Array], stream: cuda.Stream) -> None:
        self._views, self._stream = views, stream
        self._enqueued_at = stream.waits
        self._kept: dict[str, Array] = {}

    def read(self, name: str) -> Array:
        """One of the arrays, in memory of its own; the same at each call."""
        found = self._kept.get(name)
        if found is None:
            self.wait()
            found = self._kept.setdefault(name, self._views[name].copy())
        return found

    def copied(self, name: str, index: int | None = None) -> Array:
        """One of the arrays, or one item of its first axis: a copy at each call."""
        at = slice(None) if index is None else index
        if name not in self._kept:
            self.wait()
            copy: Array = self._views[name][at].copy()
            # another thread's next frame may have begun meanwhile
            if name not in self._kept:
                return copy
        again: Array = self._kept[name][at].copy()
        return again

    def keep(self) -> None:
        """Take the arrays over before their place is written again."""
        for name in self._views:
            self.read(name)

    def wait(self) -> None:
        """Until the arrays are there."""
        if self._stream.waits == self._enqueued_at:
            self._stream.synchronize()


class Late(np.lib.mixins.NDArrayOperatorsMixin):
    """An array that is on its way to the host; whatever is done with it waits for it."""

    def __init__(self, arrival: Arrival, name: str) -> None:
        self._arrival, self._name = arrival, name

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        return np.array(self._arrival.read(self._name), dtype=dtype, copy=copy)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        arrays = [np.asarray(x) if isinstance(x, Late) else x for x in inputs]
        return getattr(ufunc, method)(*arrays, **options)

    def __getitem__(self, index: Any) -> Any:
        return self._arrival.read(self._name)[index]

    def __len__(self) -> int:
        return len(self._arrival.read(self._name))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(self._arrival.read(self._name), name)


class Packed:
    """Arrays of fixed shapes that lie together on the device, with pinned memory for their copies.

    Work of one frame may be enqueued several times before it is waited for, and each time has
    pinned memory of its own.
    """

    def __init__(self, parts: Parts, pool: Pool, stream: cuda.Stream, use: str) -> None:
        self._parts, self._stream = parts, stream
        self._pinned: list[cuda.PinnedArray] = []
        self._views: list[dict[str, Array]] = []
        self._arrivals: dict[int, weakref.ref[Arrival]] = {}
        self.tensors: dict[str, DeviceTensor] = dict(
            zip(parts, pool.block(list(parts.values()), stream, use), strict=True)
        )
        self._turns, self._waits = 0, -1

    @property
    def nbytes(self) -> int:
        """Bytes of one copy."""
        return _size(self._parts)

    @property
    def device(self) -> int:
        """Where the arrays begin on the device."""
        return next(iter(self.tensors.values())).pointer if self.tensors else 0

    def turn(self) -> int:
        """Which pinned memory to use now: none that a copy may still read or write.

        What an earlier copy brought there is kept for whoever still looks at it.
        """
        if self._waits != self._stream.waits:
            self._waits, self._turns = self._stream.waits, 0
        self._turns += 1
        if self._turns > len(self._pinned):
            self._pinned.append(cuda.PinnedArray((self.nbytes,), np.uint8))
            self._views.append(_views(self._pinned[-1].array, self._parts))
        before = self._arrivals.pop(self._turns - 1, None)
        if before is not None and (arrival := before()) is not None:
            arrival.keep()
        return self._turns - 1

    def address(self, turn: int) -> int:
        """Where the pinned memory of a turn begins."""
        return self._pinned[turn].address

    def fill(self, turn: int, arrays: Mapping[str, Any]) -> None:
        """Put arrays of the host into the pinned memory of a turn."""
        for name, view in self._views[turn].items():
            view[...] = arrays[name]

    def arrival(self, turn: int) -> Arrival:
        """What the copy to the pinned memory of a turn brings, which was just enqueued."""
        made = Arrival(self._views[turn], self._stream)
        self._arrivals[turn] = weakref.ref(made)
        return made

    def close(self) -> None:
        for arrival in [r() for r in self._arrivals.values()]:
            if arrival is not None:
                arrival.keep()
        for pinned in self._pinned:
            pinned.close()
        self._pinned.clear()
        self._views.clear()
        self.tensors.clear()


def _size(parts: Parts) -> int:
    total = 0
    for shape, dtype in parts.values():
        total = -(-(total + math.prod(shape) * np.dtype(dtype).itemsize) // ALIGNED) * ALIGNED
    return total


def _views(pinned: Array, parts: Parts) -> dict[str, Array]:
    views, start = {}, 0
    for name, (shape, dtype) in parts.items():
        size = math.prod(shape) * np.dtype(dtype).itemsize
        views[name] = pinned[start : start + size].view(dtype).reshape(shape)
        start = -(-(start + size) // ALIGNED) * ALIGNED
    return views
