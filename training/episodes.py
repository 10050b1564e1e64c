"""One training step's work: prompts on images, or tracking through short clips.

The model is used as the runtime uses it: same tokens, same memories, same temporal rows. Whether
an object is remembered as present is up to its score, as there; before the score is learned, up to
the truth.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from ..export.model.decoder import DecoderOutput
from ..export.model.sam2 import ABSENT_LOGIT, MASK_BIAS, MASK_SCALE, ImageFeatures, Sam2
from .batches import Batch
from .losses import Scored, score_output
from .prompts import boxes, corrections, first_clicks
from .recipe import LossWeights

PromptKind = Literal["click", "box", "clicks", "mask"]
_CLAMP = 32.0


@dataclass
class Episode:
    """The summed loss of a step and the IoUs seen on the way, by kind of result."""

    loss: Tensor
    ious: dict[str, list[float]] = field(default_factory=dict)
    calls: int = 0

    def add(self, name: str, scored: Scored) -> None:
        self.loss = self.loss + scored.loss
        self.calls += 1
        self.ious.setdefault(name, []).append(scored.chosen_iou)
        self.ious.setdefault(name + "/best", []).append(scored.best_iou)

    @property
    def mean_loss(self) -> Tensor:
        return self.loss / max(self.calls, 1)


@dataclass
class Result:
    """What the decoder gave for N objects on one frame, one mask chosen."""

    output: DecoderOutput
    logits: Tensor
    token: Tensor


class Objects:
    """N objects of a batch: their frames' features, their truth, and calls of the decoder."""

    def __init__(
        self, model: Sam2, batch: Batch, rng: np.random.Generator, weights: LossWeights
    ) -> None:
        self.model, self.rng, self.weights = model, rng, weights
        device = next(model.parameters()).device
        frames = torch.from_numpy(batch.frames).to(device)
        self.length, self.burn_in = frames.shape[1], batch.burn_in
        self.masks = torch.from_numpy(batch.masks).to(device)
        self.present = (self.masks > 0.5).flatten(2).any(2)
        self.clip = torch.from_numpy(batch.clip).to(device)
        same = (self.clip[:, None] == self.clip).to(self.masks)
        others = torch.einsum("nm,mtyx->ntyx", same, self.masks) - self.masks
        self.rivals = others.clamp(0, 1)
        self._features = self._encode(frames)
        self.size = model.config.image_size
        self.episode = Episode(frames.new_zeros(()))

    def _encode(self, frames: Tensor) -> list[ImageFeatures]:
        """Features of each frame, one row a clip; without gradient for burn-in frames."""
        first = 1 + self.burn_in
        scored = torch.cat([frames[:, :1], frames[:, first:]], 1)
        parts = _by_frame(self.model, scored)
        if self.burn_in:
            with torch.no_grad():
                parts[1:1] = _by_frame(self.model, frames[:, 1:first])
        return parts

    def features(self, t: int) -> ImageFeatures:
        """Features of frame t, one row an object."""
        return ImageFeatures(*(f[self.clip] for f in self._features[t]))

    def truth(self, t: int) -> NDArray[np.bool_]:
        return np.asarray((self.masks[:, t] > 0.5).cpu().numpy())

    def decode(
        self,
        name: str | None,
        t: int,
        embed: Tensor,
        points: Tensor,
        labels: Tensor,
        mask_input: Tensor | None,
        multimask: bool,
    ) -> Result:
        """Call the decoder, choose a mask; add its loss under `name` if it has one."""
        f, config = self.features(t), self.model.config
        has = torch.full((len(embed),), float(mask_input is not None), device=embed.device)
        if mask_input is None:
            side = config.mask_size
            mask_input = embed.new_zeros(len(embed), 1, side, side)
        output = self.model.predict_masks(
            embed, f.high_res_0, f.high_res_1, points, labels, mask_input, has
        )
        scored = score_output(
            output, self.masks[:, t], self.rivals[:, t], self.present[:, t], multimask, self.weights
        )
        if name is not None:
            self.episode.add(name, scored)
        rows = torch.arange(len(embed), device=embed.device)
        return Result(
            output,
            output.mask_logits[rows, scored.chosen][:, None],
            output.mask_tokens[rows, scored.chosen],
        )

    def prompt(self, kind: PromptKind, t: int, embed: Tensor, rounds: int) -> Result:
        """Answer a first prompt on frame t, then `rounds` corrective clicks."""
        rng, truth = self.rng, self.truth(t)
        if kind == "mask":
            return self._from_mask(t)
        if kind == "box":
            points, labels = boxes(rng, truth, self.size), np.tile([2, 3], (len(truth), 1))
        else:
            count = 1 if kind == "click" else int(rng.integers(2, 4))
            points = np.stack([first_clicks(rng, truth, self.size) for _ in range(count)], 1)
            labels = np.ones(points.shape[:2], np.int32)
        previous: Tensor | None = None
        result: Result
        for step in range(rounds + 1):
            coords, codes = self._padded(points, labels)
            single = labels.shape[1] == 1
            name = kind if step == 0 else f"{kind}+{step}"
            result = self.decode(name, t, embed, coords, codes, previous, single)
            if step < rounds:
                previous = result.logits.detach().clamp(-_CLAMP, _CLAMP)
                point, label = corrections(rng, self._found(previous), truth, self.size)
                points = np.concatenate([points, point[:, None]], 1)
                labels = np.concatenate([labels, label[:, None]], 1)
        return result

    def _from_mask(self, t: int) -> Result:
        """The object's own mask as the result; the decoder makes only the pointer."""
        full = (self.masks[:, t : t + 1] > 0.5).float()
        made = self.model.prompt_from_mask(F.interpolate(full, (self.size, self.size)))
        embed = self.features(t).image_embed
        empty = np.zeros((len(embed), 1, 2), np.float32)
        coords, codes = self._padded(empty, np.full(empty.shape[:2], -1, np.int32))
        result = self.decode("mask", t, embed, coords, codes, made.mask_input, False)
        return Result(result.output, made.mask_logits, result.token)

    def _found(self, logits: Tensor) -> NDArray[np.bool_]:
        side = self.masks.shape[-1]
        large = F.interpolate(logits, (side, side), mode="bilinear", align_corners=False)
        return np.asarray((large[:, 0] > 0).cpu().numpy())

    def _padded(self, points: NDArray[np.float32], labels: NDArray[Any]) -> tuple[Tensor, Tensor]:
        device = self.masks.device
        coords = np.concatenate([points, np.zeros_like(points[:, :1])], 1, dtype=np.float32)
        codes = np.concatenate([labels, np.full_like(labels[:, :1], -1)], 1, dtype=np.int32)
        return torch.from_numpy(coords).to(device), torch.from_numpy(codes).to(device)


def image_episode(
    model: Sam2,
    batch: Batch,
    rng: np.random.Generator,
    kind: PromptKind,
    rounds: int,
    weights: LossWeights,
) -> Episode:
    """Prompts and corrections on the first frame of each clip."""
    objects = Objects(model, batch, rng, weights)
    objects.prompt(kind, 0, objects.features(0).prompt_embed, rounds)
    return objects.episode


def clip_episode(
    model: Sam2,
    batch: Batch,
    rng: np.random.Generator,
    kind: PromptKind,
    rounds: int,
    weights: LossWeights,
    own_presence: bool = True,
) -> Episode:
    """A prompt on the first frame, then tracking; sometimes a correction on a later frame.

    Frames get numbers with random gaps, so that all rows of the temporal table are learned from
    short clips; with burn-in frames the clip is long enough without. What was done on those, right
    or wrong, fills the memory that the scored ones are tracked from.

    own_presence: the object score decides what is remembered as present, not the truth.
    """
    objects = Objects(model, batch, rng, weights)
    burn_in, length = objects.burn_in, objects.length
    gaps = rng.integers(1, 2 if burn_in else 4, length - 1)
    numbers = np.concatenate([[0], np.cumsum(gaps)])
    tracker = _Tracker(objects, numbers, own_presence)
    first = objects.prompt(kind, 0, objects.features(0).prompt_embed, rounds)
    tracker.remember(0, first, prompted=True)
    tracker.pass_by(1, 1 + burn_in)
    corrected = int(rng.integers(1 + burn_in, length)) if rng.random() < 0.5 else -1
    for t in range(1 + burn_in, length):
        tracker.track("track", t, corrected=t == corrected)
    if corrected > 0 and rng.random() < 0.5:
        # the clip is propagated again: a prompted frame may lie ahead
        tracker.kept = [kept for kept in tracker.kept if kept[1]]
        tracker.pass_by(1, 1 + burn_in)
        for t in (t for t in range(1 + burn_in, length) if t != corrected):
            tracker.track("again", t)
    return objects.episode


def _correct(objects: Objects, t: int, embed: Tensor, result: Result) -> Result:
    previous = result.logits.detach().clamp(-_CLAMP, _CLAMP)
    found, truth = objects._found(previous), objects.truth(t)
    point, label = corrections(objects.rng, found, truth, objects.size)
    coords, codes = objects._padded(point[:, None], label[:, None])
    return objects.decode("track+1", t, embed, coords, codes, previous, True)


class _Tracker:
    """N objects as they are tracked; memories and pointers as the runtime keeps them.

    numbers [T]: the frames' numbers in their video.
    """

    def __init__(self, objects: Objects, numbers: NDArray[Any], own_presence: bool) -> None:
        self.objects, self.model = objects, objects.model
        self.numbers, self.own_presence = numbers.tolist(), own_presence
        self.kept: list[tuple[int, bool, Tensor, Tensor]] = []
        count = len(objects.clip)
        blank = np.zeros((count, 1, 2), np.float32)
        self._no_points = objects._padded(blank, np.full((count, 1), -1, np.int32))

    def track(self, name: str | None, t: int, corrected: bool = False) -> None:
        """Find the objects on frame t, scored under `name`; remember what was found."""
        embed = self.attend(t)
        result = self.objects.decode(name, t, embed, *self._no_points, None, True)
        if corrected:
            result = _correct(self.objects, t, embed, result)
        self.remember(t, result, prompted=corrected)

    def pass_by(self, first: int, end: int) -> None:
        """Track through frames first .. end - 1 without a loss or gradient."""
        with torch.no_grad():
            for t in range(first, end):
                self.track(None, t)

    def remember(self, t: int, result: Result, prompted: bool) -> None:
        present = self.objects.present[:, t, None]
        if self.own_presence:
            present = result.output.object_score > 0
        pointer = torch.where(present, self.model.obj_ptr_proj(result.token), self.model.no_obj_ptr)
        logits = torch.where(present[..., None, None], result.logits, ABSENT_LOGIT)
        score = present.float() * MASK_SCALE + MASK_BIAS
        embed = self.objects.features(t).image_embed
        binarize = torch.tensor([prompted], device=embed.device)
        memory = self.model.encode_memory(embed, logits, score, binarize)
        self.kept.append((self.numbers[t], prompted, memory, pointer))

    def attend(self, t: int) -> Tensor:
        config, number = self.model.config, self.numbers[t]
        last = config.num_maskmem - 1
        spatial = [
            (last if prompted else number - then - 1, memory)
            for then, prompted, memory, _ in self.kept
            if prompted or number - then <= last
        ]
        embed = self.objects.features(t).image_embed
        rows = torch.tensor([row for row, _ in spatial], device=embed.device)
        tpos = rows.expand(len(embed), -1)
        memories = torch.stack([memory for _, memory in spatial], dim=1)
        # pointers come from the past alone
        past = [(number - then, pointer) for then, *_, pointer in self.kept if then <= number]
        pointers = torch.stack([pointer for _, pointer in past], dim=1)
        distances = torch.tensor([distance for distance, _ in past], device=embed.device)
        positions = (distances / (config.max_obj_ptrs - 1)).float().expand(len(embed), -1)
        return self.model.attend_memory(embed, memories, tpos, pointers, positions)


def _by_frame(model: Sam2, frames: Tensor) -> list[ImageFeatures]:
    """Features of frames [V, T, 3, S, S]: T times those of V images."""
    clips, count = frames.shape[:2]
    encoded = model.encode_image(frames.transpose(0, 1).flatten(0, 1))
    parts = [f.reshape(count, clips, *f.shape[1:]) for f in encoded]
    return [ImageFeatures(*(part[t] for part in parts)) for t in range(count)]
