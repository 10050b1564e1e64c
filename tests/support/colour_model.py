"""A model whose answers are known: it takes everything of the clicked colours for the object.

Speaks the graph contracts of `micro`, so that predictors and trackers run on it unchanged. Boxes
on a grid of 4 pixels in frames of 256 x 256 come out exactly, less their corner pixels. An object
pointer holds the colours of its object, memory attention collects those of all pointers.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from sam2rt.benchmarks.evaluation.datasets import Truth
from sam2rt.configs.errors import MissingExtraError
from sam2rt.configs.graphs import graph_specs
from sam2rt.configs.models import ModelConfig, model_config
from sam2rt.runtime.frames import FrameSource
from sam2rt.runtime.media.sequences import SequenceFrames
from sam2rt.runtime.session import Into, Session, check_inputs

Array = NDArray[Any]
#: no colour: normalised colours lie within +-3
NONE = -9.0


@dataclass(frozen=True)
class ColourBundle:
    model: ModelConfig
    precision: str = "fp32"


class ColourSession(Session):
    """See the module; `calls` counts the runs of each graph."""

    def __init__(self) -> None:
        self.bundle: Any = ColourBundle(model_config("micro"))
        self.calls: dict[str, int] = {}
        self.closed = False

    def run(
        self, graph: str, inputs: Mapping[str, Array], into: Into | None = None
    ) -> dict[str, Array]:
        checked = check_inputs(graph_specs(self.bundle.model)[graph], inputs)
        self.calls[graph] = self.calls.get(graph, 0) + 1
        outputs: dict[str, Array] = getattr(self, "_" + graph)(**checked)
        return outputs

    def _image_encoder(self, image: Array) -> dict[str, Array]:
        colours = np.zeros((len(image), 8, 64, 64), np.float32)
        colours[:, :3] = image[:, :, 2::4, 2::4]
        embed = np.full((len(image), 64, 16, 16), NONE, np.float32)
        middle = np.zeros((len(image), 16, 32, 32), np.float32)
        return {
            "image_embed": embed, "prompt_embed": embed, "high_res_0": colours,
            "high_res_1": middle,
        }  # fmt: skip

    def _memory_attention(self, obj_ptrs: Array, **_: Array) -> dict[str, Array]:
        known = [_unique(np.concatenate([_colours(p) for p in row])) for row in obj_ptrs]
        embed = np.stack([_pointer(colours) for colours in known])
        return {"conditioned_embed": np.tile(embed[:, :, None, None], (1, 1, 16, 16))}

    def _mask_decoder(
        self, conditioned_embed: Array, high_res_0: Array, point_coords: Array,
        point_labels: Array, mask_input: Array, has_mask_input: Array, **_: Array,
    ) -> dict[str, Array]:  # fmt: skip
        rows = [
            self._decoded(
                conditioned_embed[n, :, 0, 0], high_res_0[n % len(high_res_0), :3],
                point_coords[n], point_labels[n], mask_input[n, 0] * has_mask_input[n],
            )
            for n in range(len(point_labels))
        ]  # fmt: skip
        pointers = np.stack([pointer for _, pointer in rows])
        masks = np.stack([mask for mask, _ in rows])
        logits = np.where(masks, np.float32(10), np.float32(-10))[:, None]
        present = masks.any(axis=(1, 2))[:, None]
        ious = np.tile(np.float32([0.5, 0.6, 0.9, 0.7]), (len(rows), 1))
        return {
            "all_mask_logits": np.tile(logits, (1, 4, 1, 1)), "all_ious": ious,
            "mask_logits": np.where(present[..., None, None], logits, np.float32(-1024)),
            "iou": ious[:, 2:3], "obj_ptr": pointers,
            "object_score": np.where(present, np.float32(5), np.float32(-5)),
        }  # fmt: skip

    def _decoded(
        self, known: Array, picture: Array, coords: Array, labels: Array, mask: Array
    ) -> tuple[Array, Array]:
        colours = _colours(known)
        wanted, unwanted = [colours], [np.zeros((0, 3), np.float32)]
        for (x, y), label in _clicks(coords, labels):
            colour = picture[:, min(int(y) // 4, 63), min(int(x) // 4, 63)]
            (wanted if label else unwanted).append(colour[None])
        if not len(coords[labels >= 0]) and (mask > 0).any():
            wanted.append(picture[:, mask > 0].T)
        chosen = _unique(np.concatenate(wanted))
        refused = np.concatenate(unwanted)
        chosen = chosen[[not _near(c, refused).any() for c in chosen]]
        found = np.zeros((64, 64), bool)
        for colour in chosen:
            found |= _near(picture.reshape(3, -1).T, colour[None]).reshape(64, 64)
        return found, _pointer(chosen)

    def _mask_prompt(self, mask: Array) -> dict[str, Array]:
        low = mask[:, :, 2::4, 2::4]
        return {
            "mask_input": low, "mask_logits": low * np.float32(20) - np.float32(10),
            "object_score": np.where(low.any(axis=(2, 3)), np.float32(10), np.float32(-10)),
            "no_obj_ptr": np.full((1, 64), NONE, np.float32),
        }  # fmt: skip

    def _memory_encoder(self, mask_logits: Array, **_: Array) -> dict[str, Array]:
        return {"memory": np.zeros((len(mask_logits), 16, 16, 16), np.float32)}

    def close(self) -> None:
        self.closed = True


def _clicks(coords: Array, labels: Array) -> list[tuple[Array, int]]:
    """Position and label of clicks; a box is a click on its middle."""
    clicks = [(c, int(n)) for c, n in zip(coords, labels, strict=True) if n in (0, 1)]
    corners = coords[np.isin(labels, (2, 3))]
    return [*clicks, (corners.mean(axis=0), 1)] if len(corners) else clicks


def _near(colours: Array, others: Array) -> Array:
    return (np.abs(colours - others) < 0.05).all(axis=-1)


def _unique(colours: Array) -> Array:
    """Colours that differ, at most 21."""
    kept: list[Array] = []
    for colour in colours:
        if not kept or not _near(np.stack(kept), colour).any():
            kept.append(colour)
    return np.stack(kept[:21]) if kept else np.zeros((0, 3), np.float32)


def _colours(pointer: Array) -> Array:
    rows = pointer[:63].reshape(21, 3)
    return rows[rows[:, 0] > NONE + 1]


def _pointer(colours: Array) -> Array:
    pointer = np.full(64, NONE, np.float32)
    pointer[: colours.size] = colours.ravel()
    return pointer


@dataclass(frozen=True)
class ColourOpener:
    """Opens the model in any process; `name` stands for the model, `fails` for how it fails."""

    name: str = "colour"
    fails: str = ""

    def open(self) -> ColourSession:
        if self.fails == "dies":
            os._exit(3)
        if self.fails == "lacks a package":
            raise MissingExtraError("this test", "nothing", "dev")
        return ColourSession()

    def describe(self) -> dict[str, Any]:
        return {"name": self.name}


Box = tuple[int, int, int, int]
Shape = tuple[tuple[int, int, int], Box]
RED, GREEN, BLUE, GREY = (200, 30, 30), (30, 180, 60), (40, 60, 220), (90, 90, 90)


def draw(shapes: Iterable[Shape]) -> Array:
    """A grey frame of 256 x 256 with coloured boxes x0, y0, x1, y1, later ones on top."""
    frame = np.full((256, 256, 3), GREY, np.uint8)
    for colour, (x0, y0, x1, y1) in shapes:
        frame[y0:y1, x0:x1] = colour
    return frame


def box_mask(box: Box | None) -> Array:
    """The mask [256, 256] that the model finds for a box; empty for None."""
    mask = np.zeros((256, 256), bool)
    if box is not None:
        x0, y0, x1, y1 = box
        mask[y0:y1, x0:x1] = True
        # enlarging the model's mask rounds corners off
        for y, x in ((y0, x0), (y0, x1 - 1), (y1 - 1, x0), (y1 - 1, x1 - 1)):
            mask[y, x] = False
    return mask


@dataclass(frozen=True)
class Clip:
    """Frames drawn from coloured boxes; truths: frame -> object id -> box or None for absent."""

    name: str
    shapes: tuple[tuple[Shape, ...], ...]
    truths: dict[int, dict[int, Box | None]]
    spans: dict[int, tuple[int, int]] = field(default_factory=dict)
    size: tuple[int, int] = (256, 256)

    @property
    def frame_names(self) -> tuple[str, ...]:
        return tuple(f"{i:05d}" for i in range(len(self.shapes)))

    def frames(self) -> FrameSource:
        return SequenceFrames([draw(s) for s in self.shapes])

    def truth(self, index: int) -> Truth | None:
        if index not in self.truths:
            return None
        height, width = self.size
        masks = {i: box_mask(b)[:height, :width] for i, b in self.truths[index].items()}
        return Truth(masks)
