"""Optimization profiles that an engine of a graph is built with."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from ...configs.errors import InputError
from ...configs.graphs import GraphSpec
from ...configs.models import ModelConfig
from ...runtime.backends.engine_record import Ranges

#: points of one prompt an engine accepts, the padding point included
MAX_POINTS = 32


@dataclass(frozen=True)
class Limits:
    """Largest sizes of the dynamic dimensions.

    objects: N in one call; memories: M of one object; images: B of the encoder. Profiles reach
    two objects and the model's own number of memories in any case, which the proof needs.
    """

    objects: int = 4
    #: four prompted frames and the six newest: a correction must not need another build
    memories: int = 10
    images: int = 2

    def __post_init__(self) -> None:
        if min(self.objects, self.memories, self.images) < 1:
            raise InputError(
                f"expected at least one object, memory and image, got {self}: raise the limit"
            )


def graph_profiles(spec: GraphSpec, model: ModelConfig, limits: Limits) -> tuple[Ranges, ...]:
    """Profiles of one graph: fixed steady states first, the dynamic one last.

    A graph without dynamic dimensions gets one fixed profile.
    """
    steady = _steady(model, limits, spec)
    fixed = [_ranges(spec, sizes, sizes, sizes) for sizes in steady]
    if not spec.dynamic:
        return tuple(fixed[:1])
    least, most = _bounds(model, limits)
    return (*fixed, _ranges(spec, least, steady[0], most))


def _steady(model: ModelConfig, limits: Limits, spec: GraphSpec) -> list[dict[str, int]]:
    # a tracked frame has one empty point and the padding point
    shared = {"B": 1, "I": 1, "G": 1, "M": model.num_maskmem, "K": model.max_obj_ptrs, "P": 2}
    objects = [1] if limits.objects == 1 or "N" not in spec.dynamic else [1, limits.objects]
    return [{**shared, "N": n} for n in objects]


def _bounds(model: ModelConfig, limits: Limits) -> tuple[dict[str, int], dict[str, int]]:
    least = {"B": 1, "I": 1, "G": 1, "N": 1, "M": 1, "K": 0, "P": 0}
    objects, memories = max(limits.objects, 2), max(limits.memories, model.num_maskmem)
    # every prompted frame in reach gives a pointer beside the newest ones
    pointers = model.max_obj_ptrs + memories - 1
    most = {
        "B": max(limits.images, 2),
        "I": objects,
        "G": objects,
        "N": objects,
        "M": memories,
        "K": pointers,
        "P": MAX_POINTS,
    }
    return least, most


def _ranges(
    spec: GraphSpec, least: Mapping[str, int], usual: Mapping[str, int], most: Mapping[str, int]
) -> Ranges:
    def shape(tensor_shape: tuple[int | str, ...], sizes: Mapping[str, int]) -> tuple[int, ...]:
        return tuple(sizes[d] if isinstance(d, str) else d for d in tensor_shape)

    return {
        t.name: (shape(t.shape, least), shape(t.shape, usual), shape(t.shape, most))
        for t in spec.inputs
    }
