"""The memory bank: what is remembered of each object, and what a frame may attend to.

Plain data, no backend. The selection rules are those of the original's
``_prepare_memory_conditioned_features`` (SAM 2 paper, section 4, "Memory bank"): all prompted
frames (or the closest few), the six newest other frames, and up to sixteen object pointers.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..configs.errors import StateError
from ..configs.models import ModelConfig, pointer_distance_scale, pointer_limit
from .arrays import Array, Embedding, Logits, Pointers, check_numbers


@dataclass
class FrameOutput:
    """What one object got on one frame.

    mask_logits: [1, 4h, 4w] float32, low resolution, holes filled; None once forgotten.
    obj_ptr: [C] float32. object_score, iou: logits > 0 mean present; IoU in 0..1.
    memory: [c, h, w] in the bank's storage dtype; None before it is encoded or once forgotten.
    """

    mask_logits: Logits | None
    obj_ptr: Pointers
    object_score: float
    iou: float
    memory: Array | None = None

    def check(self, frame_idx: int, obj_id: int) -> None:
        """SessionError, naming frame and object, where the graphs gave what is no number."""
        check_numbers(
            f"frame {frame_idx}, object {obj_id}",
            mask_logits=self.mask_logits,
            object_score=self.object_score,
            iou=self.iou,
        )


class LateOutput(FrameOutput):
    """The result in row `row` of what graphs gave, whose numbers are still on their way.

    They are waited for when one of them is first looked at; from then on it is a FrameOutput.
    """

    _out: tuple[Mapping[str, Any], int]

    def __init__(
        self, out: Mapping[str, Any], row: int, mask_logits: Logits, memory: Array | None
    ) -> None:
        self._out = out, row
        self.mask_logits, self.memory = mask_logits, memory

    def __getattr__(self, name: str) -> Any:
        if name not in ("obj_ptr", "object_score", "iou"):
            raise AttributeError(name)
        out, row = self.__dict__.pop("_out")
        self.obj_ptr, self.object_score, self.iou = numbers_of(out, row)
        self.__class__ = FrameOutput  # type: ignore[assignment]
        return self.__dict__[name]


def numbers_of(out: Mapping[str, Any], row: int) -> tuple[Pointers, float, float]:
    """Pointer, object score and predicted IoU of an object in a row of what graphs gave."""
    # a copy: a view would keep the whole group's array alive for one object
    pointer = out["obj_ptr"][row].copy()
    return pointer, float(out["object_score"][row, 0]), float(out["iou"][row, 0])


@dataclass
class ObjectHistory:
    """The outputs of one object, by frame: prompted ones (`cond`) apart from tracked ones."""

    cond: dict[int, FrameOutput] = field(default_factory=dict)
    non_cond: dict[int, FrameOutput] = field(default_factory=dict)

    def at(self, frame_idx: int) -> FrameOutput | None:
        return self.cond.get(frame_idx) or self.non_cond.get(frame_idx)

    def forget_unreachable(self, config: ModelConfig, next_frame: int, max_cond: int) -> None:
        """Drop what forward tracking from `next_frame` on can never attend to again."""
        spatial = next_frame - (config.num_maskmem - 1)
        pointers = next_frame - (config.max_obj_ptrs - 1)
        gone = []
        for idx, output in self.non_cond.items():
            output.mask_logits = None
            if idx < spatial:
                output.memory = None
                if idx < pointers:
                    gone.append(idx)
        for idx in gone:
            del self.non_cond[idx]
        for output in self.cond.values():
            output.mask_logits = None
        if max_cond > 0:
            # frames only move away from prompted ones in the past: the newest stay closest
            for idx in sorted(self.cond)[:-max_cond]:
                if idx < pointers:
                    del self.cond[idx]


class Memory(NamedTuple):
    """One spatial memory as a frame sees it: `row` of the temporal table, and where it lies."""

    frame_idx: int
    row: int
    output: FrameOutput


@dataclass(frozen=True)
class Selection:
    """What one object attends to on one frame: prompted frames first, then oldest first."""

    memories: tuple[Memory, ...]
    #: (signed frame distance, pointer output)
    pointers: tuple[tuple[int, FrameOutput], ...]

    @property
    def size(self) -> tuple[int, int]:
        """(M, K): objects with equal sizes can share one call."""
        return len(self.memories), len(self.pointers)


def closest_cond_frames(
    cond: dict[int, FrameOutput], frame_idx: int, limit: int
) -> dict[int, FrameOutput]:
    """The `limit` prompted frames nearest to `frame_idx` (-1: all), by frame number.

    The nearest one before and the nearest one at or after are in, then the closest others. The
    original keeps the order of prompting; attention does not care, and ours depends on frame
    numbers alone.
    """
    if limit == -1 or len(cond) <= limit:
        return dict(sorted(cond.items()))
    chosen: list[int] = []
    if before := [t for t in cond if t < frame_idx]:
        chosen.append(max(before))
    if after := [t for t in cond if t >= frame_idx]:
        chosen.append(min(after))
    rest = sorted((t for t in cond if t not in chosen), key=lambda t: abs(t - frame_idx))
    chosen += rest[: limit - len(chosen)]
    return {t: cond[t] for t in sorted(chosen)}


def select(
    history: ObjectHistory,
    frame_idx: int,
    config: ModelConfig,
    *,
    reverse: bool = False,
    num_frames: int | None = None,
    max_cond: int = -1,
) -> Selection:
    """Memories and pointers frame `frame_idx` attends to; num_frames None for a live stream.

    Raises StateError when the object has no prompted frame.
    """
    if not history.cond:
        raise StateError("an object without a prompted frame cannot be tracked: prompt it first")
    step = 1 if reverse else -1
    chosen = closest_cond_frames(history.cond, frame_idx, max_cond)
    last, limit = config.num_maskmem - 1, pointer_limit(config, num_frames)
    newer: list[Memory] = []
    others: list[tuple[int, FrameOutput]] = []
    # of pointers, which end with the video
    end = limit
    for distance in range(1, max(limit, last + 1)):
        t = frame_idx + step * distance
        if t < 0 or (num_frames is not None and t >= num_frames):
            end = min(end, distance)
        # a frame can be in both; the tracked output wins, as in the original
        output = history.non_cond.get(t) or (None if t in chosen else history.cond.get(t))
        if output is None:
            continue
        if distance <= last and output.memory is not None:
            newer.append(Memory(t, distance - 1, output))
        if distance < end:
            others.append((distance, output))
    memories = [Memory(t, last, o) for t, o in chosen.items()]
    newer.reverse()
    pointers = [
        (-step * (frame_idx - t), o) for t, o in chosen.items() if -step * (frame_idx - t) >= 0
    ]
    return Selection(tuple(memories + newer), tuple(pointers + others))


class SlotBuffer:
    """Memories of a group of objects in one preallocated array [N, M, c, h, w].

    The slot of a memory depends on its frame number alone (prompted frames first, then others
    by frame number modulo the ring's length), so a new memory overwrites the oldest in place,
    nothing is ever shifted, and the same frames give the same order of summation whichever
    way they were reached.
    """

    def __init__(self, config: ModelConfig) -> None:
        self._config = config
        self._buffer = np.empty(0, np.float32)
        self._held: list[Array | None] = []
        self._shape: tuple[int, int] = (0, 0)

    def load(self, selections: Sequence[Selection]) -> tuple[Embedding, Array]:
        """The memories [N, M, c, h, w] float32 and their table rows [N, M] int64.

        The array is valid until the next call. Only memories that are not already in their
        slot are copied.
        """
        ordered = [self._slot_order(s.memories) for s in selections]
        shape = (len(ordered), len(ordered[0]))
        slots = self._reshape(shape)
        memories = [memory for row in ordered for memory in row]
        for i, memory in enumerate(memories):
            stored = memory.output.memory
            if stored is None:
                raise StateError(f"the memory of frame {memory.frame_idx} was not kept")
            if self._held[i] is not stored:
                slots[i] = restore_memory(stored)
                self._held[i] = stored
        side = self._config.embed_size
        tpos = np.array([[m.row for m in row] for row in ordered], np.int64).reshape(shape)
        return slots.reshape(*shape, self._config.mem_dim, side, side), tpos

    def place(self, selections: Sequence[Selection], frame_idx: int) -> list[Embedding] | None:
        """Where the memory encoder may write the memories of `frame_idx`; None: not in here."""
        return None

    def _slot_order(self, memories: Iterable[Memory]) -> list[Memory]:
        last = self._config.num_maskmem - 1
        cond, slots = [], {}
        for memory in memories:
            if memory.row == last:
                cond.append(memory)
            else:
                # the newest memories are of as many frames: each has a slot of its own
                slots[memory.frame_idx % last] = memory
        return cond + [slots[slot] for slot in sorted(slots)]

    def _reshape(self, shape: tuple[int, int]) -> Embedding:
        count = shape[0] * shape[1]
        token = self._config.mem_dim * self._config.embed_size**2
        if self._buffer.size < count * token:
            self._buffer = np.empty(count * token, np.float32)
            self._held = []
        if shape != self._shape or not self._held:
            self._held = [None] * count
            self._shape = shape
        return (
            self._buffer[: count * token]
            .reshape(count, -1)
            .reshape(count, self._config.mem_dim, self._config.embed_size, self._config.embed_size)
        )


def pointer_arrays(
    selections: Sequence[Selection], config: ModelConfig, num_frames: int | None
) -> tuple[Pointers, Array]:
    """Pointers [N, K, C] float32 and their positions [N, K] float32 (distance / scale)."""
    n, k = len(selections), len(selections[0].pointers)
    scale = np.float32(pointer_distance_scale(config, num_frames))
    rows = [output.obj_ptr for selection in selections for _, output in selection.pointers]
    distances = [distance for selection in selections for distance, _ in selection.pointers]
    positions = np.array(distances, np.float32).reshape(n, k) / scale
    if not rows:
        return np.empty((n, k, config.hidden_dim), np.float32), positions
    return np.concatenate(rows).reshape(n, k, config.hidden_dim), positions


MEMORY_DTYPES = (None, "float32", "float16", "bfloat16")


def store_memory(memory: Embedding, dtype: str | None) -> Array:
    """`memory` (float32) in its storage form: float32, float16, or bfloat16 bits as uint16.

    The original always stores bfloat16, even in float32; rounding is to nearest, ties to even.
    """
    if dtype in (None, "float32"):
        return memory
    if dtype == "float16":
        return memory.astype(np.float16)
    bits = np.ascontiguousarray(memory, np.float32).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    high: Array = (rounded >> np.uint32(16)).astype(np.uint16)
    return high


def restore_memory(stored: Array) -> Embedding:
    """The float32 form of what :func:`store_memory` gave."""
    if stored.dtype == np.uint16:
        widened: Embedding = (stored.astype(np.uint32) << np.uint32(16)).view(np.float32)
        return widened
    return np.asarray(stored, np.float32)
