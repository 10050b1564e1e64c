"""The ring of memories on the device: a new one overwrites the oldest, nothing else moves.

In the steady state the memory encoder writes straight into the slot that falls free, and memory
attention reads the ring where it lies; see :class:`DeviceSlotBuffer`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ...configs.errors import StateError
from ...configs.models import ModelConfig
from ..arrays import Array, Embedding
from ..bank import Memory, Selection, SlotBuffer, restore_memory
from . import cuda
from .tensor import DeviceTensor, Pool

#: orders of rows that are remembered
_MOST_ORDERS = 64


class SlotTensor(DeviceTensor):
    """One memory [c, h, w] in its slot of a ring, which it keeps alive."""

    def copy(self) -> DeviceTensor:
        """The memory itself: its place in the ring is its own until it is overwritten."""
        return self


class DeviceSlotBuffer(SlotBuffer):
    """Memories of a group of objects in one array [N, M, c, h, w] on the device."""

    def __init__(self, config: ModelConfig, pool: Pool, stream: cuda.Stream) -> None:
        super().__init__(config)
        self._pool, self._stream = pool, stream
        self._ring: DeviceTensor | None = None
        #: memories in the order of their slots, as they were loaded last
        self._ordered: list[list[Memory]] = []
        self._rows: dict[Any, Array] = {}

    def load(self, selections: Sequence[Selection]) -> tuple[Embedding, Array]:
        """As :meth:`SlotBuffer.load`, the memories as a DeviceTensor whose address stays."""
        self._ordered = [self._slot_order(s.memories) for s in selections]
        memories = [memory for row in self._ordered for memory in row]
        shape = (len(self._ordered), len(self._ordered[0]))
        stored = [memory.output.memory for memory in memories]
        if self._ring is None or self._ring.shape[:2] != shape:
            self._renew(shape)
        missing = self._missing(stored)
        if missing and self._moves_inside(stored):
            self._renew(shape)
            missing = self._missing(stored)
        for i in missing:
            if stored[i] is None:
                raise StateError(f"the memory of frame {memories[i].frame_idx} was not kept")
            self._store(self._address(i), stored[i])
            self._held[i] = stored[i]
        assert self._ring is not None
        self._ring.forget_host()
        return self._ring, self._rows_of(memories, shape)  # type: ignore[return-value]

    def _missing(self, stored: Sequence[Any]) -> list[int]:
        """Slots that hold another memory than the one they are to."""
        pairs = zip(stored, self._held, strict=True)
        return [i for i, (new, held) in enumerate(pairs) if new is not held or new is None]

    def _renew(self, shape: tuple[int, int]) -> None:
        config, side = self._config, self._config.embed_size
        whole = (*shape, config.mem_dim, side, side)
        self._ring = DeviceTensor.pooled(self._pool, whole, np.float32, self._stream)
        self._ring.stays = True
        self._held = [None] * (shape[0] * shape[1])

    def _rows_of(self, memories: Sequence[Memory], shape: tuple[int, int]) -> Array:
        """Table rows of memories; in the steady state there is one order for each slot."""
        rows = tuple([memory.row for memory in memories])
        if (rows, shape) not in self._rows:
            if len(self._rows) >= _MOST_ORDERS:
                self._rows.clear()
            self._rows[rows, shape] = np.array(rows, np.int64).reshape(shape)
        return self._rows[rows, shape]

    def _moves_inside(self, memories: Sequence[Any]) -> bool:
        """Whether a memory lies in another slot of this ring than the one it is to go to.

        Another memory might be written over it first: a prompted frame in the steady state shifts
        all slots behind it. Then the memories go to a ring of their own.
        """
        assert self._ring is not None
        for stored, held in zip(memories, self._held, strict=True):
            if stored is held or not isinstance(stored, SlotTensor):
                continue
            if stored.owner is self._ring.owner:
                return True
        return False

    def place(self, selections: Sequence[Selection], frame_idx: int) -> list[Any] | None:
        """Slots for the memories of `frame_idx`, those of one round before: a tensor an object.

        To be called after :meth:`load` of the same selections. None while the ring still grows.
        A memory that lay in such a slot counts as forgotten from here on; work enqueued before
        still sees it.
        """
        ring, places = self._ring, []
        if ring is None:
            return None
        for row, order in enumerate(self._ordered):
            at = self._of_last_round(order, frame_idx)
            if at is None:
                return None
            places.append((row * ring.shape[1] + at, order[at]))
        slots: list[Any] = []
        for i, oldest in places:
            slot = SlotTensor(
                self._address(i), ring.shape[2:], ring.dtype, ring.owner, self._stream
            )
            gone = oldest.output.memory
            if isinstance(gone, SlotTensor) and gone.pointer == slot.pointer:
                oldest.output.memory = None
            self._held[i] = slot  # type: ignore[call-overload]
            slots.append(slot)
        return slots

    def _of_last_round(self, order: Sequence[Memory], frame_idx: int) -> int | None:
        prompted = self._config.num_maskmem - 1
        for i, memory in enumerate(order):
            if memory.row != prompted and memory.frame_idx == frame_idx - prompted:
                return i
        return None

    def _address(self, i: int) -> int:
        assert self._ring is not None
        return self._ring.pointer + i * (self._ring.nbytes // len(self._held))

    def _store(self, address: int, stored: Any) -> None:
        if isinstance(stored, DeviceTensor):
            cuda.copy(address, stored.pointer, stored.nbytes, self._stream)
            return
        memory = np.ascontiguousarray(restore_memory(stored))
        cuda.copy(address, memory.ctypes.data, memory.nbytes, self._stream)
        # the host array may go away before the copy has run
        self._stream.synchronize()
