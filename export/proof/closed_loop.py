"""The closed loop of a proof: a clip of moving discs, tracked with what each graph gives the next.

numpy only, so that a machine with neither torch nor the checkpoint can run the same work
again on the graphs or engines it has, and compare with what the reference gave.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ...configs.models import ModelConfig
from ...runtime.arrays import Array
from ...runtime.predictors.stream import StreamTracker
from ...runtime.session import Into, Session, SessionWrapper
from .choices import chosen_masks, valid_choices
from .noise import smooth_noise

#: frames of the loop that are clicked or boxed, each for the object of its own number
CLICKED = (0, 1)


@dataclass(frozen=True)
class ProofClip:
    """Frames [T, H, W, 3] uint8 of two textured discs that move over a textured ground."""

    frames: Array
    #: centres of the discs in pixels, [T, 2, 2] as x, y
    centres: Array
    radius: float


def make_clip(config: ModelConfig, frames: int, seed: int) -> ProofClip:
    """A clip whose side is that of the low-resolution masks: logits need no resizing."""
    stream = np.random.default_rng([seed, 1 << 20])
    side = config.mask_size
    radius = side / 6
    start = stream.uniform(0.25, 0.75, (2, 2)) * side
    step = stream.uniform(-0.04, 0.04, (2, 2)) * side
    centres = start + np.arange(frames)[:, None, None] * step
    ground = _texture(side, stream)
    looks = [_texture(side, stream) for _ in range(2)]
    y, x = np.mgrid[:side, :side]
    video = np.empty((frames, side, side, 3), np.uint8)
    for t in range(frames):
        video[t] = ground
        for look, (cx, cy) in zip(looks, centres[t], strict=True):
            inside = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
            # the texture moves with its disc
            shift = (int(cy - centres[0, 0, 1]), int(cx - centres[0, 0, 0]))
            video[t][inside] = np.roll(look, shift, axis=(0, 1))[inside]
    return ProofClip(video, centres, radius)


def _texture(side: int, stream: np.random.Generator) -> Array:
    noise = smooth_noise((1, 3, side, side), stream)[0].transpose(1, 2, 0)
    pixels: Array = (noise * 20 + stream.uniform(60, 196, 3)).clip(0, 255).astype(np.uint8)
    return pixels


@dataclass
class LoopFrame:
    """What a tracker gave on one frame of N objects."""

    #: [N, H, W] float32
    logits: Array
    #: object scores, [N] float32
    scores: Array
    #: predicted IoUs of the four masks, [N, 4] float32
    ious: Array
    #: which of the four was chosen, [N]
    choices: Array
    #: as :func:`valid_choices`, [N]; a record has no use for it
    valid: Array | None = None


class Listener(SessionWrapper):
    """A session that hears what passes through another one."""

    def __init__(self, session: Session) -> None:
        super().__init__(session)
        #: the last outputs by name
        self.heard: dict[str, Array] = {}
        #: of each object the decoder was called for: IoUs, chosen mask, whether by the rule
        self.decided: list[tuple[Array, int, bool]] = []

    def run(
        self, graph: str, inputs: Mapping[str, Array], into: Into | None = None
    ) -> dict[str, Array]:
        outputs = super().run(graph, inputs, into)
        self.heard.update(outputs)
        if "all_ious" in outputs:
            # frames without prompts are decoded with several masks
            several = bool(np.all(inputs.get("multimask_output", True)))
            valid = valid_choices(outputs, several, self.bundle.model).tolist()
            choices = chosen_masks(outputs).tolist()
            self.decided += zip(outputs["all_ious"], choices, valid, strict=True)
        return outputs


def closed_loop(listener: Listener, clip: ProofClip) -> Iterator[LoopFrame]:
    """Track the clip: a click on frame 0, a box on frame 1, a mask on frame 2."""
    tracker = StreamTracker(
        listener.bundle, session=listener, fill_hole_area=0, num_frames=len(clip.frames)
    )
    side = clip.frames.shape[1]
    for t, frame in enumerate(clip.frames):
        first, second = clip.centres[t].clip(0, side - 1)
        if t == 0:
            tracker.add_points(1, first[None], [1])
        elif t == 1:
            corners = np.stack((second - clip.radius, second + clip.radius)).clip(0, side - 1)
            tracker.add_box(2, corners.ravel())
        elif t == 2:
            y, x = np.mgrid[:side, :side]
            tracker.add_mask(3, (x - first[0]) ** 2 + (y - first[1]) ** 2 < clip.radius**2)
        listener.decided = []
        result = tracker.step(frame)
        # the tracker answers prompts first, then tracks the others in their order
        order = sorted(range(len(result.obj_ids)), key=lambda i, t=t: i != t)  # type: ignore[misc]
        decided = [listener.decided[order.index(i)] for i in range(len(order))]
        ious, choices, valid = (np.stack(values) for values in zip(*decided, strict=True))
        yield LoopFrame(np.asarray(result.logits), result.object_scores, ious, choices, valid)
