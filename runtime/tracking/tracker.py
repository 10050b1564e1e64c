"""The tracker core: which memories, which group of objects, which graph calls.

Arithmetic lives in the graphs; here arrays are only chosen, grouped and handed over. One
core serves propagation through a file and live streams, so both give the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...configs.checks import shown, whole_number
from ...configs.errors import InputError
from ...configs.graphs import TRACK_STEP
from ..arrays import Array, Coordinates, Embedding, Logits, MaskPrompt
from ..bank import (
    MEMORY_DTYPES,
    FrameOutput,
    LateOutput,
    ObjectHistory,
    Selection,
    SlotBuffer,
    numbers_of,
    pointer_arrays,
    select,
    store_memory,
)
from ..gpu.arrivals import Late
from ..pixels.mask_output import without_small_holes
from ..session import Session

#: objects of one call on the CPU: more take memory and save no time, unless the session takes
#: them sequentially
OBJECTS_PER_CALL, SEQUENTIAL_OBJECTS_PER_CALL = 4, 64
#: holes that the original's builder has filled, low-resolution pixels
_BUILDERS_HOLE_AREA = 8
#: what the original assigns to masks of absent objects
NO_OBJECT_LOGIT = -1024.0


@dataclass(frozen=True)
class TrackerOptions:
    """Rules of tracking; defaults are the original's.

    max_cond_frames_in_attn: prompted frames a frame may attend to; -1 for all, else >= 2.
    fill_hole_area: holes of at most this many low-resolution pixels are filled; 0 for none.
    memory_dtype: storage of memories: None or "float32", "float16", "bfloat16" (the
    original's), a memory for accuracy trade that halves what is kept.
    objects_per_call: objects handed to one call of a graph at most; bounds working memory. None:
    as many as an engine takes, else OBJECTS_PER_CALL, or SEQUENTIAL_OBJECTS_PER_CALL where the
    session takes them sequentially.
    apply_postprocessing: False leaves out what the original's builder adds beside filled holes:
    several clicks or a box give the first of the four masks, stable or not, and the mask of a
    prompt is remembered with its soft edge instead of as 0 and 1.
    forward_only: no frame before the last one is ever asked for again, so that a memory may be
    written over one that no later frame attends to.
    """

    max_cond_frames_in_attn: int = -1
    fill_hole_area: int = 0
    memory_dtype: str | None = None
    objects_per_call: int | None = None
    forward_only: bool = False
    apply_postprocessing: bool = True

    @classmethod
    def of(
        cls, fill_hole_area: int | None, apply_postprocessing: bool, **others: Any
    ) -> TrackerOptions:
        """fill_hole_area None: what the original's builder sets, 8, or 0 without its rules."""
        if fill_hole_area is None:
            fill_hole_area = _BUILDERS_HOLE_AREA if apply_postprocessing else 0
        return cls(
            fill_hole_area=fill_hole_area, apply_postprocessing=bool(apply_postprocessing), **others
        )

    def __post_init__(self) -> None:
        most = whole_number("max_cond_frames_in_attn", self.max_cond_frames_in_attn)
        if most != -1 and most < 2:
            raise InputError(f"max_cond_frames_in_attn is {most}: expected -1 (all) or at least 2")
        known = isinstance(self.memory_dtype, (str, type(None)))
        if not known or self.memory_dtype not in MEMORY_DTYPES:
            raise InputError(
                f"memory_dtype is {shown(self.memory_dtype)}: expected one of {MEMORY_DTYPES}"
            )
        whole_number("fill_hole_area", self.fill_hole_area, 0, " (0: no hole is filled)")
        if self.objects_per_call is not None:
            whole_number(
                "objects_per_call", self.objects_per_call, 1, ", or None for the session's own"
            )


@dataclass(frozen=True)
class Points:
    """Clicks (and box corners) of one object on one frame.

    coords: [P, 2] float32, x and y in model-input pixels (0..S).
    labels: [P] int32: 1 positive, 0 negative, 2 and 3 box corners, corners first.
    """

    coords: Coordinates
    labels: Array


@dataclass(frozen=True)
class Features:
    """One frame as the image encoder sees it; names as in the graph contract, batch 1."""

    image_embed: Embedding
    prompt_embed: Embedding
    high_res_0: Embedding
    high_res_1: Embedding


@dataclass(frozen=True)
class TrackedObject:
    """An object as the tracker needs it: a stable key and what is remembered of it."""

    key: int
    history: ObjectHistory


class Tracker:
    """Runs the graphs for prompts, tracking and memories of any number of objects.

    Belongs to one thread; the session may be shared.
    """

    def __init__(self, session: Session, options: TrackerOptions) -> None:
        self.session = session
        self.options = options
        self.config = session.bundle.model
        self._slots: dict[tuple[int, ...], SlotBuffer] = {}

    def prompt_points(
        self,
        features: Features,
        points: Points,
        *,
        previous: FrameOutput | None,
        memory: Selection | None,
        num_frames: int | None,
    ) -> FrameOutput:
        """Segment one object from clicks; its memory is not encoded yet.

        `previous` is an earlier result on this frame, fed as mask prompt. `memory` is what the
        object attends to, or None on a frame that was not tracked before.
        """
        if memory is None:
            embed = features.prompt_embed
        else:
            embed = self._attend(features, [memory], self.session.slot_buffer(), num_frames)
        coords, labels = _with_padding(points.coords, points.labels)
        mask_input = None
        if previous is not None and previous.mask_logits is not None:
            mask_input = np.clip(previous.mask_logits, -32.0, 32.0)[None]
        # a single click is ambiguous, a box or several clicks are not
        multimask = len(points.labels) <= 1
        out = self._decode(features, embed, coords, labels, mask_input, multimask)
        return self._outputs(out)[0]

    def prompt_mask(self, features: Features, mask: MaskPrompt) -> FrameOutput:
        """Take `mask` [S, S] (0/1 float32) as the object's mask; memory not encoded yet.

        The decoder makes only the pointer; a present mask whose decoder score is negative has
        the no-object pointer, as in the original.
        """
        made = self.session.run("mask_prompt", {"mask": mask[None, None]})
        out = self._decode(
            features,
            features.image_embed,
            *_with_padding(np.zeros((1, 2), np.float32), np.full(1, -1, np.int32)),
            made["mask_input"],
            multimask=False,
        )
        out["mask_logits"], out["object_score"] = made["mask_logits"], made["object_score"]
        out["iou"] = np.ones_like(out["iou"])
        if made["object_score"][0, 0] <= 0:
            out["obj_ptr"] = made["no_obj_ptr"]
        return self._outputs(out)[0]

    def track(
        self,
        features: Features,
        objects: Sequence[TrackedObject],
        frame_idx: int,
        *,
        reverse: bool = False,
        num_frames: int | None = None,
    ) -> list[FrameOutput]:
        """Track un-prompted objects on one frame, memories encoded; results in their order.

        Objects that attend to equally many memories and pointers share one call of each graph.
        """
        selections = [
            select(
                item.history,
                frame_idx,
                self.config,
                reverse=reverse,
                num_frames=num_frames,
                max_cond=self.options.max_cond_frames_in_attn,
            )
            for item in objects
        ]
        results: dict[int, FrameOutput] = {}
        slots: dict[tuple[int, ...], SlotBuffer] = {}
        for group in self._groups(selections):
            members = tuple(objects[i].key for i in group)
            slots[members] = self._slots.get(members) or self.session.slot_buffer()
            chosen = [selections[i] for i in group]
            outputs = self._track_group(features, chosen, slots[members], frame_idx, num_frames)
            results.update(zip(group, outputs, strict=True))
        self._slots = slots
        return [results[i] for i in range(len(objects))]

    def remember(self, features: Features, output: FrameOutput) -> None:
        """Encode the memory of a prompted frame, of its mask as `apply_postprocessing` says."""
        if output.mask_logits is None:
            raise InputError("cannot encode a memory from a result without mask logits")
        score = np.array([[output.object_score]], np.float32)
        memory = self._encode_memory(
            features,
            output.mask_logits[None],
            score,
            binarize=self.options.apply_postprocessing,
        )
        output.memory = store_memory(memory[0], self.options.memory_dtype)

    def release(self) -> None:
        """Free the buffers that hold what groups of objects attend to; tracking fills new ones."""
        self._slots = {}

    def _groups(self, selections: Sequence[Selection]) -> list[list[int]]:
        if len(selections) == 1:
            return [[0]]
        by_size: dict[tuple[int, int], list[int]] = {}
        for i, selection in enumerate(selections):
            by_size.setdefault(selection.size, []).append(i)
        most = self._objects_per_call()
        return [g[i : i + most] for g in by_size.values() for i in range(0, len(g), most)]

    def _objects_per_call(self) -> int:
        # engines are built for a largest number of objects
        limit = self.session.max_objects
        usual = SEQUENTIAL_OBJECTS_PER_CALL if self.session.per_object else OBJECTS_PER_CALL
        wanted = self.options.objects_per_call or limit or usual
        return min(wanted, limit or wanted)

    def _track_group(
        self,
        features: Features,
        selections: Sequence[Selection],
        slots: SlotBuffer,
        frame_idx: int,
        num_frames: int | None,
    ) -> list[FrameOutput]:
        if self.session.fused:
            inputs = self._remembered(features, selections, slots, num_frames)
            inputs.update(high_res_0=features.high_res_0, high_res_1=features.high_res_1)
            place = self._place(slots, selections, frame_idx)
            if place is None:
                out = self.session.run(TRACK_STEP, inputs)
            else:
                out = self.session.run(TRACK_STEP, inputs, into={"new_memory": place})
            return self._outputs(out, out["new_memory"])
        embed = self._attend(features, selections, slots, num_frames)
        n = len(selections)
        # no prompt: one empty point plus the padding point, both "not a point"
        coords, labels = np.zeros((n, 2, 2), np.float32), np.full((n, 2), -1, np.int32)
        out = self._decode(features, embed, coords, labels, None, multimask=True)
        place = self._place(slots, selections, frame_idx)
        memory = self._encode_memory(
            features, out["mask_logits"], out["object_score"], binarize=False, place=place
        )
        return self._outputs(out, memory)

    def _place(
        self, slots: SlotBuffer, selections: Sequence[Selection], frame_idx: int
    ) -> list[Embedding] | None:
        """Where the memories of a frame may be written over old ones; None: nowhere."""
        as_made = self.options.memory_dtype in (None, "float32")
        if not (self.options.forward_only and as_made):
            return None
        return slots.place(selections, frame_idx)

    def _attend(
        self,
        features: Features,
        selections: Sequence[Selection],
        slots: SlotBuffer,
        num_frames: int | None,
    ) -> Embedding:
        inputs = self._remembered(features, selections, slots, num_frames)
        return self.session.run("memory_attention", inputs)["conditioned_embed"]

    def _remembered(
        self,
        features: Features,
        selections: Sequence[Selection],
        slots: SlotBuffer,
        num_frames: int | None,
    ) -> dict[str, Array]:
        memory, tpos = slots.load(selections)
        pointers, positions = pointer_arrays(selections, self.config, num_frames)
        return {
            "image_embed": features.image_embed,
            "memory": memory,
            "memory_tpos": tpos,
            "obj_ptrs": pointers,
            "obj_ptr_pos": positions,
        }

    def _decode(
        self,
        features: Features,
        embed: Embedding,
        coords: Coordinates,
        labels: Array,
        mask_input: Logits | None,
        multimask: bool,
    ) -> dict[str, Array]:
        n, side = len(embed), self.config.mask_size
        present = mask_input is not None
        if mask_input is None:
            mask_input = np.zeros((n, 1, side, side), np.float32)
        out = self.session.run(
            "mask_decoder",
            {
                "conditioned_embed": embed,
                "high_res_0": features.high_res_0,
                "high_res_1": features.high_res_1,
                "point_coords": coords,
                "point_labels": labels,
                "mask_input": mask_input,
                "has_mask_input": np.full(n, present, np.float32),
                "multimask_output": np.array([multimask]),
            },
        )
        return out if multimask or self.options.apply_postprocessing else _first_of(out)

    def _encode_memory(
        self,
        features: Features,
        mask_logits: Logits,
        score: Array,
        *,
        binarize: bool,
        place: list[Embedding] | None = None,
    ) -> Embedding:
        inputs = {
            "image_embed": features.image_embed,
            "mask_logits": mask_logits,
            "object_score": score,
            "binarize": np.array([binarize]),
        }
        if place is None:
            return self.session.run("memory_encoder", inputs)["memory"]
        return self.session.run("memory_encoder", inputs, into={"memory": place})["memory"]

    def _outputs(self, out: dict[str, Array], memory: Embedding | None = None) -> list[FrameOutput]:
        # holes are filled after a tracked memory was encoded, as in the original
        masks = out["mask_logits"]
        if self.options.fill_hole_area > 0:
            masks = without_small_holes(self.session, masks, self.options.fill_hole_area)
        return [self._output(out, i, masks[i], memory) for i in range(len(masks))]

    def _output(
        self, out: dict[str, Array], i: int, mask: Logits, memory: Embedding | None
    ) -> FrameOutput:
        stored = None
        if memory is not None:
            stored = store_memory(memory[i].copy(), self.options.memory_dtype)
        # a view keeps the whole group's array alive: no matter where no mask is kept
        kept = mask if self.options.forward_only else mask.copy()
        if isinstance(out["iou"], Late):
            return LateOutput(out, i, kept, stored)
        return FrameOutput(kept, *numbers_of(out, i), stored)


def _first_of(out: dict[str, Array]) -> dict[str, Array]:
    """The decoder's outputs with mask 0 in place of the one its stability rule chose."""
    absent = out["object_score"][:, :, None, None] <= 0
    first = np.where(absent, np.float32(NO_OBJECT_LOGIT), np.asarray(out["all_mask_logits"])[:, :1])
    return {**out, "mask_logits": first, "iou": out["all_ious"][:, :1]}


def _with_padding(coords: Coordinates, labels: Array) -> tuple[Coordinates, Array]:
    """One object's points [P, 2], [P] as a batch of one with the padding point appended."""
    coords = np.concatenate([coords, np.zeros((1, 2), np.float32)])[None]
    labels = np.concatenate([labels, np.full(1, -1, np.int32)])[None]
    return coords, labels
