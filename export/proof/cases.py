"""Single calls of graphs that a proof compares, and their inputs, all from a seed.

numpy only, so that a machine with neither torch nor the checkpoint can make the same calls
again on the graphs or engines it has, and compare with what the reference gave.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np

from ...configs.graphs import TensorSpec, graph_specs
from ...configs.models import ModelConfig
from ...runtime.arrays import Array
from .noise import smooth_noise

#: channel means and deviations of a tensor, [2, channels]
Statistics = dict[str, Array]
#: tensors whose values in a closed loop set the scale of random inputs
_MEASURED = (
    "image_embed",
    "prompt_embed",
    "high_res_0",
    "high_res_1",
    "conditioned_embed",
    "memory",
    "obj_ptr",
    "all_mask_logits",
)
#: inputs that take their scale from a tensor of another name
_SCALED_LIKE = {
    "obj_ptrs": "obj_ptr",
    "mask_logits": "all_mask_logits",
    "mask_input": "all_mask_logits",
}
#: kinds of points: a negative and a positive click, corners of a box
_LABELS = (0, 1, 2, 3)


@dataclass(frozen=True)
class Case:
    """One call of one graph: sizes of its dynamic dimensions and its switches."""

    graph: str
    sizes: Mapping[str, int]
    #: multimask_output or binarize
    switch: bool = False

    @property
    def key(self) -> str:
        """Name of the case in a saved record."""
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
    # where objects are tracked sequentially, this is the graph itself
    Case("track_step", {"I": 1, "G": 1, "N": 1, "M": 7, "K": 16}),
    # new ones come last, so that inputs of the others stay what records were made with
    Case("mask_decoder", {"N": 2, "G": 1, "P": 5}),
)


def case_inputs(
    case: Case, config: ModelConfig, statistics: Statistics, seed: int
) -> dict[str, Array]:
    """Inputs of `case` as its graph takes them; the same for the same arguments."""
    stream = np.random.default_rng([seed, CASES.index(case)])
    inputs = _Inputs(case, config, statistics, stream)
    # in the contract's order: each takes its share of the one stream
    return {t.name: inputs.make(t) for t in graph_specs(config)[case.graph].inputs}


@dataclass(frozen=True)
class _Inputs:
    """Makes inputs of one case from a stream of random numbers."""

    case: Case
    config: ModelConfig
    statistics: Statistics
    stream: np.random.Generator

    def make(self, tensor: TensorSpec) -> Array:
        shape = tuple(self.case.sizes[d] if isinstance(d, str) else d for d in tensor.shape)
        special: dict[str, Callable[[tuple[int, ...]], Array]] = {
            "multimask_output": self._switch,
            "binarize": self._switch,
            "memory_tpos": self._memory_positions,
            "point_labels": self._labels,
            "point_coords": lambda shape: self._uniform(shape, self.config.image_size),
            "obj_ptr_pos": lambda shape: self._uniform(shape, 1),
            # one object with a mask prompt, or absent, the others without, or present
            "has_mask_input": lambda shape: _alternating(shape, 0.0, 1.0),
            "object_score": lambda shape: _alternating(shape, 3.0, -3.0),
            "mask": self._mask,
            "image": lambda shape: smooth_noise(shape, self.stream),
        }
        make = special.get(tensor.name)
        return self._features(tensor.name, shape) if make is None else make(shape)

    def _switch(self, shape: tuple[int, ...]) -> Array:
        return np.array([self.case.switch])

    def _memory_positions(self, shape: tuple[int, ...]) -> Array:
        """The first is a prompted frame's, the others those of recent frames."""
        newest = self.config.num_maskmem - 1
        positions = self.stream.integers(0, newest, shape)
        positions[:, :1] = newest
        return positions

    def _labels(self, shape: tuple[int, ...]) -> Array:
        """Of many points every kind; the last is the padding point."""
        labels = self.stream.choice(_LABELS, shape).astype(np.int32)
        if shape[1] > len(_LABELS):
            labels[:, : len(_LABELS)] = _LABELS
        labels[:, -1:] = -1
        return labels

    def _uniform(self, shape: tuple[int, ...], most: int) -> Array:
        values: Array = (self.stream.random(shape) * most).astype(np.float32)
        return values

    def _mask(self, shape: tuple[int, ...]) -> Array:
        """Blobs for every other object, none for the rest."""
        mask = np.zeros(shape, np.float32)
        mask[::2] = smooth_noise(mask[::2].shape, self.stream) > 0.3
        return mask

    def _features(self, name: str, shape: tuple[int, ...]) -> Array:
        """Noise at the scale the tensor had in the closed loop."""
        noise = smooth_noise(shape, self.stream)
        mean, deviation = self.statistics[_SCALED_LIKE.get(name, name)]
        if self.case.graph == "memory_encoder" and self.case.switch and name == "mask_logits":
            # binarised at four times the size, where halves of +-1 never meet 0: rounding flips
            # nothing
            hard: Array = np.where(noise > 0, deviation.max(), -deviation.max())
            return hard
        axes = (-1,) if name == "obj_ptrs" else (-1, 1, 1)
        result: Array = noise * deviation.reshape(axes) + mean.reshape(axes)
        return result


def _alternating(shape: tuple[int, ...], first: float, second: float) -> Array:
    """One value for objects 0, 2, ..., another for objects 1, 3, ..."""
    even = np.arange(shape[0]) % 2 == 0
    values: Array = np.where(even, first, second).astype(np.float32).reshape(shape)
    return values


def statistics_of(outputs: Mapping[str, Array]) -> Statistics:
    """Scale of the tensors that passed: per channel for feature maps, overall for the rest."""
    found: Statistics = {}
    for name in _MEASURED:
        values = outputs[name].astype(np.float64)
        if name in ("obj_ptr", "all_mask_logits"):
            found[name] = np.array([[0.0], [np.sqrt((values**2).mean())]], np.float32)
        else:
            axes = (0, 2, 3)
            found[name] = np.stack((values.mean(axes), values.std(axes))).astype(np.float32)
    return found
