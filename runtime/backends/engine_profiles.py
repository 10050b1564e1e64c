"""Optimization profiles: which shapes an engine of a graph accepts.

The steady state is a fixed shape of its own, so that its kernels are chosen for exactly that
work and one CUDA graph replays it; the growing phase, prompts and groups of objects share one
dynamic profile.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...configs.errors import InputError
from .engine_record import Ranges

#: tensors TensorRT cannot have a range for: their shape never changes
Shapes = dict[str, tuple[int, ...]]


def is_fixed(profile: Ranges) -> bool:
    return all(least == most for least, _, most in profile.values())


def admits(profile: Ranges, shapes: Mapping[str, tuple[int, ...]]) -> bool:
    """Whether arrays of these shapes fit the profile."""
    return all(
        all(low <= size <= high for low, size, high in zip(least, shapes[name], most, strict=True))
        for name, (least, _, most) in profile.items()
    )


def choose_profile(
    profiles: tuple[Ranges, ...], shapes: Mapping[str, tuple[int, ...]], graph: str
) -> int:
    """Index of the first profile that admits the shapes; InputError says which option helps."""
    for index, profile in enumerate(profiles):
        if admits(profile, shapes):
            return index
    over = [
        f"{name} {list(shapes[name])} (at most {list(most)})"
        for name, (_, _, most) in profiles[-1].items()
        if any(size > high for size, high in zip(shapes[name], most, strict=True))
    ]
    raise InputError(
        f"the engine of {graph} was built for smaller inputs than {', '.join(over)}: build it "
        "with larger --max-objects or --max-memories"
    )
