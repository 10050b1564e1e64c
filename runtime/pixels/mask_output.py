"""Low-resolution logits to masks of a frame, made where the session's graphs run when it can.

A session with kernels for pixels keeps logits on the GPU; the host then receives masks alone,
and logits at frame size only when it asks for them. Both ways give the same bits.
"""

from __future__ import annotations

import math
import operator
import threading
from collections.abc import Sequence
from typing import Any, cast

import numpy as np

from ..arrays import Array, Embedding, Logits, Mask
from ..gpu.tensor import DeviceTensor
from ..pixel_kernels import PixelKernels
from ..session import Session
from .components import clean_mask, fill_holes
from .upsample import upsample_bilinear, upsample_mask

#: bytes of full-size masks on the device at a time
_MOST_BYTES = 256 << 20


def without_small_holes(session: Session, logits: Logits, area: int) -> Logits:
    """:func:`.components.fill_holes` of logits [..., h, w], where they lie."""
    kernels = session.pixels()
    if kernels is None or not isinstance(logits, DeviceTensor):
        return fill_holes(np.asarray(logits), area)
    return cast(Logits, kernels.fill_holes(logits, area))


def frame_logits(
    session: Session,
    low: Sequence[Logits | None],
    size: tuple[int, int],
    absent: Logits,
    axis: bool = True,
) -> Logits:
    """Logits of N objects at frame size: N x [1, h, w] -> float32 [N, 1, *size].

    `absent` [1, h, w] stands for None. axis False: [N, *size]. With kernels this is a
    :class:`FrameLogits`.
    """
    kernels = session.pixels()
    if kernels is not None and any(isinstance(part, DeviceTensor) for part in low):
        parts = [absent if part is None else part for part in low]
        tensors = [p if isinstance(p, DeviceTensor) else kernels.uploaded(p) for p in parts]
        joined = kernels.joined(tensors)
        planes = joined.reshape(len(low), *absent.shape[1:])
        ready = kernels.foreseen_masks(planes, size)
        return cast(Logits, FrameLogits(kernels, joined if axis else planes, size, ready=ready))
    planes = np.empty((len(low), *absent.shape), np.float32)
    for plane, part in zip(planes, low, strict=True):
        plane[...] = absent if part is None else part
    full = upsample_bilinear(planes, size)
    return full if axis else full[:, 0]


def image_masks(
    session: Session,
    logits: Logits,
    size: tuple[int, int],
    threshold: float,
    hole_area: float,
    sprinkle_area: float,
) -> Mask:
    """Logits [N, C, h, w] without small holes and specks, at image size, as bool [N, C, *size]."""
    kernels = session.pixels()
    if kernels is None:
        cleaned = clean_mask(logits, threshold, hole_area, sprinkle_area)
        return upsample_mask(cleaned, size, threshold)
    on_gpu = kernels.clean(logits, threshold, hole_area, sprinkle_area)
    return _downloaded(kernels, on_gpu, size, threshold)


def repeated(session: Session, array: Embedding, count: int) -> Embedding:
    """An embedding [1, ...] for each of `count` prompts, [count, ...], where it lies."""
    if count == 1:
        return array
    kernels = session.pixels()
    if kernels is None or not isinstance(array, DeviceTensor):
        return np.repeat(np.asarray(array), count, axis=0)
    return cast(Embedding, kernels.joined([array[0]] * count))


class FrameLogits(np.lib.mixins.NDArrayOperatorsMixin):
    """Logits [N, 1, H, W] float32 that are on the GPU, at low resolution, until asked for.

    ``logits > threshold`` is computed there and downloads masks alone; an item of the first axis
    stays there too; anything else works as on the array, which is made on the host then.
    """

    def __init__(
        self,
        kernels: PixelKernels,
        low: DeviceTensor,
        size: tuple[int, int],
        thread: int = 0,
        ready: Any = None,
    ) -> None:
        """ready: masks that come with the frame, :meth:`PixelKernels.foreseen_masks`."""
        self._kernels, self._low, self._size, self._ready = kernels, low, size, ready
        self._thread = thread or threading.get_ident()
        self.shape: tuple[int, ...] = (*low.shape[:-2], *size)
        self.dtype = np.dtype(np.float32)

    @property
    def ndim(self) -> int:
        return len(self.shape)

    def above(self, threshold: float = 0.0) -> DeviceTensor:
        """Masks, bool of this shape, as a tensor on the GPU; on the thread of the session's run."""
        planes = self._low.reshape(math.prod(self.shape[:-2]), *self._low.shape[-2:])
        flat: DeviceTensor = self._kernels.masks(planes, self._size, threshold)
        made = flat.reshape(*self.shape)
        # whoever takes it works on another stream, which does not wait for ours
        made.synchronize()
        return made

    def masks(self, threshold: float = 0.0) -> Mask:
        """Masks, bool of this shape, on the host."""
        elsewhere = self._kernels.closed or threading.get_ident() != self._thread
        if not elsewhere:
            self._kernels.masks_taken(self._size, threshold)
        if self._ready is not None and self._ready.threshold == threshold:
            made: Mask = self._ready.read().reshape(self.shape)
            return made
        if elsewhere:
            # kernels are gone, or belong to another thread's stream
            return upsample_mask(np.asarray(self._low), self._size, threshold)
        return _downloaded(self._kernels, self._low, self._size, threshold)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        full = upsample_bilinear(np.asarray(self._low), self._size)
        return full if dtype is None else full.astype(dtype, copy=False)

    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **options: Any) -> Any:
        if ufunc is np.greater and method == "__call__" and not options and inputs[0] is self:
            level = inputs[1]
            if np.ndim(level) == 0 and _is_float32(level):
                return self.masks(float(level))
        arrays = [np.asarray(x) if isinstance(x, FrameLogits) else x for x in inputs]
        return getattr(ufunc, method)(*arrays, **options)

    def __getitem__(self, index: Any) -> Any:
        first, *rest = index if isinstance(index, tuple) else (index,)
        if self.ndim == 2 or not _is_index(first):
            return np.asarray(self)[index]
        index = operator.index(first)
        ready = None if self._ready is None else self._ready.item(index)
        item = FrameLogits(self._kernels, self._low[index], self._size, self._thread, ready)
        return item[tuple(rest)] if rest else item

    def __len__(self) -> int:
        return self.shape[0]

    def __reduce__(self) -> Any:
        return np.asarray, (np.asarray(self),)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return getattr(np.asarray(self), name)


def _downloaded(
    kernels: PixelKernels, low: DeviceTensor, size: tuple[int, int], threshold: float
) -> Mask:
    shape = (*low.shape[:-2], *size)
    planes = low.reshape(math.prod(low.shape[:-2]), *low.shape[-2:])
    out = np.empty((len(planes), *size), np.bool_)
    step = max(1, _MOST_BYTES // (size[0] * size[1]))
    for top in range(0, len(planes), step):
        part = kernels.masks(planes.rows(top, top + step), size, threshold)
        part.download(out[top : top + step])
    return out.reshape(shape)


def _is_index(value: Any) -> bool:
    return hasattr(value, "__index__") and not isinstance(value, (bool, np.bool_, np.ndarray))


def _is_float32(level: Any) -> bool:
    """Whether comparing float32 with it is a comparison in float32."""
    # Python's own numbers are rounded to the array's type, numpy's are not
    return type(level) in (int, float) or bool(np.float32(level) == level)
