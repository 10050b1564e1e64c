"""Connected components and hole filling on the device, and the numpy reference.

Union-find with atomic minima (Playne and Hawick, "A new algorithm for parallel connected-component
labelling on GPUs", 2018): four launches whatever the mask, so a CUDA graph can hold them.
Labels differ from the CPU's, components and areas cannot.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .kernel import Kernel, Launch

Array = NDArray[Any]


def small_components(mask: Array, area: int) -> Array:
    """Pixels of components (8 neighbours) of at most `area` pixels: bool [h,w] -> bool [h,w]."""
    height, width = mask.shape
    label = np.where(mask.ravel(), np.arange(mask.size), -1)
    for at in np.flatnonzero(mask.ravel()):
        y, x = divmod(int(at), width)
        for dy, dx in ((0, -1), (-1, -1), (-1, 0), (-1, 1)):
            near = (y + dy) * width + x + dx
            if y + dy >= 0 and 0 <= x + dx < width and label[near] >= 0:
                _join(label, int(at), near)
    roots = np.array([_root(label, i) if k >= 0 else -1 for i, k in enumerate(label)])
    counts = np.bincount(roots[roots >= 0], minlength=mask.size)
    small = (roots >= 0) & (counts[roots] <= area)
    result: Array = small.reshape(height, width)
    return result


def _root(label: Array, at: int) -> int:
    while label[at] != at:
        at = int(label[at])
    return at


def _join(label: Array, a: int, b: int) -> None:
    a, b = _root(label, a), _root(label, b)
    label[max(a, b)] = min(a, b)


def fill_small(logits: Array, area: int, threshold: float, value: float) -> Array:
    """Holes of a plane of logits [h,w] get `value`: components of logits <= threshold."""
    filled: Array = logits.copy()
    filled[small_components(logits <= np.float32(threshold), area)] = value
    return filled


_ANY = Launch({"BLOCK": 256}, 4, 1)
_SIZES = {"h": "i32", "w": "i32"}


def _kernel(entry: str, signature: dict[str, str]) -> Kernel:
    return Kernel("component_kernels", entry, signature, {80: (_ANY,)})


#: in the order in which they are launched, grid (tiles of h * w, 1, planes)
KERNELS: dict[str, tuple[str, Kernel]] = {
    "label_pixels": (
        "each pixel of background, or of the mask, its own component",
        _kernel("label_pixels", {
            "logit_ptr": "*fp32", "threshold": "fp32", "above": "i32", **_SIZES,
            "label_ptr": "*i32", "area_ptr": "*i32",
        }),
    ),
    "join_neighbours": (
        "neighbouring components become one",
        _kernel("join_neighbours", {**_SIZES, "label_ptr": "*i32"}),
    ),
    "count_areas": (
        "pixels of each component",
        _kernel("count_areas", {**_SIZES, "label_ptr": "*i32", "area_ptr": "*i32"}),
    ),
    "fill_small": (
        "small components get a value",
        _kernel("fill_small", {
            "logit_ptr": "*fp32", "label_ptr": "*i32", "area_ptr": "*i32", "most": "i32",
            "value": "fp32", **_SIZES, "out_ptr": "*fp32",
        }),
    ),
}  # fmt: skip
