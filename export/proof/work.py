"""What a proof runs: a clip for the closed loop and inputs for each graph, all from a seed.

numpy only, so that a machine with neither torch nor the checkpoint can run the same work
again on the graphs or engines it has, and compare with what the reference gave.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from ...configs.graphs import TensorSpec, graph_specs
from ...configs.models import ModelConfig
from ...runtime.arrays import Array, Frame, Logits, Scores
from ...runtime.predictors.stream import StreamTracker
from ...runtime.session import Into, Session, SessionWrapper

#: channel means and deviations of a tensor, [2, channels]
Statistics = dict[str, Array]
#: tensors whose values in a closed loop set the scale of random inputs
_MEASURED = (
    "image_embed", "prompt_embed", "high_res_0", "high_res_1", "conditioned_embed", "memory",
    "obj_ptr", "all_mask_logits",
)  # fmt: skip
_STATISTICS_OF = {"obj_ptrs": "obj_ptr", "mask_logits": "all_mask_logits"}


@dataclass(frozen=True)
class Case:
    """One call of one graph: sizes of its dynamic dimensions and its switches."""

    graph: str
    sizes: Mapping[str, int]
    #: multimask_output or binarize
    switch: bool = False

    @property
    def key(self) -> str:
        sizes = "".join(f" {name}{size}" for name, size in self.sizes.items())
        return f"{self.graph}{sizes}{' on' if self.switch else ''}"


CASES = (
    Case("image_encoder", {"B": 2}),
    Case("memory_attention", {"I": 1, "N": 2, "M": 3, "K": 2}),
    Case("memory_attention", {"I": 2, "N": 2, "M": 1, "K": 0}),
    Case("memory_attention", {"I": 1, "N": 1, "M": 7, "K": 16}),
    Case("mask_decoder", {"N": 2, "G": 1, "P": 2}, True),
    Case("mask_decoder", {"N": 2, "G": 2, "P": 4}),
    Case("mask_decoder", {"N": 1, "G": 1, "P": 0}, True),
    Case("mask_prompt", {"N": 2}),
    Case("memory_encoder", {"I": 1, "N": 2}),
    Case("memory_encoder", {"I": 2, "N": 2}, True),
    Case("track_step", {"I": 1, "G": 1, "N": 2, "M": 3, "K": 2}),
    # where objects are taken sequentially, this is the graph itself
    Case("track_step", {"I": 1, "G": 1, "N": 1, "M": 7, "K": 16}),
    # new ones come last, so that inputs of the others stay what records were made with
    Case("mask_decoder", {"N": 2, "G": 1, "P": 5}),
)
#: kinds of points: a negative and a positive click, corners of a box
_LABELS = (0, 1, 2, 3)
#: logits as they are compared and as they are handed out may differ by this share of the largest
_ROUNDING = 1e-4


def case_inputs(
    case: Case, config: ModelConfig, statistics: Statistics, seed: int
) -> dict[str, Array]:
    """Inputs of `case` as its graph takes them; the same for the same arguments."""
    stream = np.random.default_rng([seed, CASES.index(case)])
    spec = graph_specs(config)[case.graph]
    return {t.name: _input(t, case, config, statistics, stream) for t in spec.inputs}


def _input(
    tensor: TensorSpec, case: Case, config: ModelConfig, statistics: Statistics,
    stream: np.random.Generator,
) -> Array:  # fmt: skip
    shape = tuple(case.sizes[d] if isinstance(d, str) else d for d in tensor.shape)
    name = tensor.name
    if name in ("multimask_output", "binarize"):
        return np.array([case.switch])
    if name == "memory_tpos":
        # the first is a prompted frame's, the others those of recent frames
        rows = stream.integers(0, config.num_maskmem - 1, shape)
        rows[:, :1] = config.num_maskmem - 1
        return rows
    if name == "point_labels":
        labels = stream.choice(_LABELS, shape).astype(np.int32)
        if shape[1] > len(_LABELS):
            labels[:, : len(_LABELS)] = _LABELS
        labels[:, -1:] = -1
        return labels
    if name in ("point_coords", "obj_ptr_pos"):
        most = config.image_size if name == "point_coords" else 1
        return (stream.random(shape) * most).astype(np.float32)
    if name in ("has_mask_input", "object_score"):
        # one object with a mask prompt or absent, the others without or present
        first, others = (0.0, 1.0) if name == "has_mask_input" else (3.0, -3.0)
        return (
            np.where(np.arange(shape[0]) % 2 == 0, first, others).astype(np.float32).reshape(shape)
        )
    if name == "mask":
        mask = np.zeros(shape, np.float32)
        mask[::2] = smooth_noise(mask[::2].shape, stream) > 0.3
        return mask
    noise = smooth_noise(shape, stream)
    if name == "image":
        return noise
    mean, deviation = statistics["all_mask_logits" if name == "mask_input" else
                                 _STATISTICS_OF.get(name, name)]  # fmt: skip
    if case.graph == "memory_encoder" and case.switch and name == "mask_logits":
        # binarised at four times the size, where halves of +-1 never meet 0: rounding flips nothing
        hard: Array = np.where(noise > 0, deviation.max(), -deviation.max())
        return hard
    axes = (-1,) if name == "obj_ptrs" else (-1, 1, 1)
    result: Array = noise * deviation.reshape(axes) + mean.reshape(axes)
    return result


def smooth_noise(shape: tuple[int, ...], stream: np.random.Generator) -> Array:
    """Unit-variance float32 noise, half of it in blobs: neither flat nor mere grain."""
    fine = stream.standard_normal(shape, np.float32)
    if len(shape) < 4:
        return fine
    side = shape[-1]
    coarse = stream.standard_normal((*shape[:-2], 8, 8), np.float32)
    spread = np.arange(side) * 8 // side
    mixed: Array = (fine + coarse[..., spread[:, None], spread]) * np.float32(0.5**0.5)
    return mixed


@dataclass(frozen=True)
class Clip:
    """Frames [T, H, W, 3] uint8 of two textured discs that move over a textured ground."""

    frames: Frame
    #: centres of the discs in pixels, [T, 2, 2] as x, y
    centres: Array
    radius: float


def make_clip(config: ModelConfig, frames: int, seed: int) -> Clip:
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
    return Clip(video, centres, radius)


def _texture(side: int, stream: np.random.Generator) -> Array:
    noise = smooth_noise((1, 3, side, side), stream)[0].transpose(1, 2, 0)
    pixels: Array = (noise * 20 + stream.uniform(60, 196, 3)).clip(0, 255).astype(np.uint8)
    return pixels


@dataclass
class LoopFrame:
    """What a tracker gave on one frame of N objects."""

    #: [N, H, W] float32
    logits: Logits
    #: object scores, [N] float32
    scores: Scores
    #: predicted IoUs of the four masks, [N, 4] float32
    ious: Array
    #: which of the four was chosen, [N]
    choices: Array
    #: as :func:`lawful_choices`, [N]; a record has no use for it
    lawful: Array | None = None


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
            lawful = lawful_choices(outputs, several, self.bundle.model).tolist()
            choices = chosen_masks(outputs).tolist()
            self.decided += zip(outputs["all_ious"], choices, lawful, strict=True)
        return outputs


def chosen_masks(decoded: Mapping[str, Array]) -> Array:
    """Which of the four masks the decoder chose, [N]: the one whose IoU it gave."""
    distance = np.abs(decoded["all_ious"] - decoded["iou"])
    choice: Array = distance.argmin(axis=1)
    return choice


def lawful_choices(decoded: Mapping[str, Array], multimask: bool, config: ModelConfig) -> Array:
    """Whether the decoder's own outputs lead to its taking mask 0 or passing it over, [N] bool.

    Mask 0 is never taken where several masks are asked for, and else exactly if it is stable.
    """
    distance = np.abs(decoded["all_ious"] - decoded["iou"])
    # masks of equal IoU cannot be told apart
    perhaps = distance == distance.min(axis=1, keepdims=True)
    zero, other = perhaps[:, 0], perhaps[:, 1:].any(axis=1)
    if multimask:
        return np.asarray(other)
    masks = np.asarray(decoded["all_mask_logits"])[:, 0]
    ranges = np.array([_stability_range(logits, config.stability_delta) for logits in masks])
    least, most = ranges.T
    threshold = config.stability_threshold
    return np.asarray((zero & (most >= threshold)) | (other & (least < threshold)))


def _stability_range(logits: Array, delta: float) -> tuple[float, float]:
    """Least and largest share of a mask's pixels above -delta that are above delta too."""
    error = _ROUNDING * float(np.abs(logits).max())

    def share(inner: float, outer: float) -> float:
        whole = np.count_nonzero(logits > outer)
        return np.count_nonzero(logits > inner) / whole if whole else 1.0

    return share(delta + error, -delta - error), share(delta - error, -delta + error)


def closed_loop(listener: Listener, clip: Clip) -> Iterator[LoopFrame]:
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
        ious, choices, lawful = (np.stack(values) for values in zip(*decided, strict=True))
        yield LoopFrame(np.asarray(result.logits), result.object_scores, ious, choices, lawful)


def statistics_of(heard: Mapping[str, Array]) -> Statistics:
    """Scale of the tensors that passed: per channel for feature maps, overall for the rest."""
    found: Statistics = {}
    for name in _MEASURED:
        values = heard[name].astype(np.float64)
        if name in ("obj_ptr", "all_mask_logits"):
            found[name] = np.array([[0.0], [np.sqrt((values**2).mean())]], np.float32)
        else:
            axes = (0, 2, 3)
            found[name] = np.stack((values.mean(axes), values.std(axes))).astype(np.float32)
    return found
