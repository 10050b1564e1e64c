"""Outputs that stay on the GPU: what one graph gives and the next takes is never copied twice.

A :class:`DeviceTensor` has numpy's shape and dtype, downloads itself when numpy asks for it, and
hands its memory back to a pool when nobody looks at it any more. Content is ready for work on the
stream it is made on; whoever takes it elsewhere waits for that stream.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..arrays import Array
from . import cuda
from .interop import DeviceView, device_view, is_device_array

#: what TensorRT asks of addresses
ALIGNED = 256


#: sets of shapes whose places in a block are remembered
_MOST_LAYOUTS = 256
#: shapes and dtypes of tensors that lie together
Parts = Sequence[tuple[tuple[int, ...], Any]]


class _Layout:
    """Where tensors of those shapes and dtypes lie in one piece of memory."""

    def __init__(self, parts: Parts) -> None:
        self.nbytes, self.parts = 0, []
        for shape, dtype in parts:
            kind = np.dtype(dtype)
            self.parts.append((self.nbytes, tuple(shape), kind))
            end = self.nbytes + math.prod(shape) * kind.itemsize
            self.nbytes = -(-end // ALIGNED) * ALIGNED


class Pool:
    """Device memory by size; what comes back is handed out again, in the order of one stream."""

    def __init__(self) -> None:
        self._free: dict[tuple[str, int], list[cuda.Buffer]] = {}
        self._layouts: dict[tuple[Any, ...], _Layout] = {}
        self._closed = False

    def take(self, nbytes: int, use: str = "") -> cuda.Buffer:
        free = self._free.get((use, nbytes))
        return free.pop() if free else cuda.Buffer(nbytes)

    def block(self, parts: Parts, stream: cuda.Stream, use: str) -> list[DeviceTensor]:
        """Tensors of undefined content, by shape and dtype, that lie and are freed together.

        Freed blocks are taken again for the same use, newest first: work that gives back what it
        takes, as each frame of a stream does, finds the same addresses.
        """
        key = tuple(parts)
        layout = self._layouts.get(key)
        if layout is None:
            if len(self._layouts) >= _MOST_LAYOUTS:
                self._layouts.clear()
            layout = self._layouts[key] = _Layout(parts)
        owner = _Owner(self, self.take(layout.nbytes, use), use, once=True)
        first = owner.buffer.pointer
        return [
            DeviceTensor(first + start, shape, dtype, owner, stream)
            for start, shape, dtype in layout.parts
        ]

    def give(self, buffer: cuda.Buffer, use: str = "") -> None:
        if self._closed:
            buffer.close()
        else:
            self._free.setdefault((use, buffer.nbytes), []).append(buffer)

    def close(self) -> None:
        """Free what is unused; what is still looked at is freed when it comes back."""
        self._closed = True
        for buffer in (b for free in self._free.values() for b in free):
            buffer.close()
        self._free.clear()


class _Owner:
    """Keeps pooled memory until the last tensor that lies in it is gone.

    once: its content is made once, before anybody else sees it.
    """

    def __init__(
        self, pool: Pool, buffer: cuda.Buffer, use: str = "", *, once: bool = False
    ) -> None:
        self.pool, self.buffer, self._use = pool, buffer, use
        self._awaited: list[cuda.Stream] | None = [] if once else None

    def awaited_on(self, stream: cuda.Stream) -> bool:
        """Whether later work on `stream` waits for the content already; from now on it does."""
        if self._awaited is None:
            return False
        if stream in self._awaited:
            return True
        self._awaited.append(stream)
        return False

    def __del__(self) -> None:
        self.pool.give(self.buffer, self._use)


class DeviceTensor:
    """A C-contiguous array on the GPU; read-only. numpy functions take it by downloading it.

    ``__cuda_array_interface__`` and ``__dlpack__`` give its memory to torch, CuPy and PyCUDA
    without a copy; keep the tensor while they look at it.
    """

    #: whether later tensors of the same use lie here too, so that a graph may hold the address
    stays = False
    #: see :func:`~sam2rt.runtime.arrays.lies_on_gpu`
    always_on_gpu = True

    def __init__(
        self, pointer: int, shape: tuple[int, ...], dtype: Any, owner: Any, stream: cuda.Stream
    ) -> None:
        kind = dtype if isinstance(dtype, np.dtype) else np.dtype(dtype)
        self.pointer, self.shape, self.dtype = pointer, shape, kind
        self._owner, self._stream = owner, stream
        self._host: Array | None = None

    @classmethod
    def pooled(
        cls, pool: Pool, shape: tuple[int, ...], dtype: Any, stream: cuda.Stream
    ) -> DeviceTensor:
        """A tensor of undefined content in memory of `pool`."""
        nbytes = math.prod(shape) * np.dtype(dtype).itemsize
        owner = _Owner(pool, pool.take(nbytes))
        return cls(owner.buffer.pointer, shape, dtype, owner, stream)

    @classmethod
    def adopted(cls, array: Any, stream: cuda.Stream) -> DeviceTensor:
        """An array of another library; `stream` waits for the one its content is made on."""
        view = device_view(array, stream.handle)
        if view.stream is not None and view.stream != stream.handle:
            with cuda.Event() as event:
                event.record(cuda.Stream(view.stream))
                stream.wait(event)
        return cls(view.pointer, view.shape, view.dtype, view, stream)

    def made_on(self, stream: cuda.Stream) -> bool:
        """Whether later work on `stream` finds the content without waiting for another."""
        return self._stream is stream

    @property
    def owner(self) -> Any:
        """What keeps the memory."""
        return self._owner

    def lent_to(self, stream: cuda.Stream) -> bool:
        """Whether the memory may be taken back while `stream` still works on it.

        Another library's is, and that of another stream, whose pool knows nothing of this one.
        """
        return isinstance(self._owner, DeviceView) or self._stream is not stream

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def nbytes(self) -> int:
        return math.prod(self.shape) * int(self.dtype.itemsize)

    def __len__(self) -> int:
        return int(self.shape[0])

    def download(self, out: Array | None = None) -> Array:
        """The content as an array of its own, to be written at will, or in `out` (contiguous)."""
        host = np.empty(self.shape, self.dtype) if out is None else out
        cuda.copy(host.ctypes.data, self.pointer, self.nbytes, self._stream)
        self._stream.synchronize()
        return host

    def forget_host(self) -> None:
        """Content changed in place: what numpy saw before is out of date."""
        self._host = None

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if self._host is None:
            self._host = self.download()
            self._host.flags.writeable = False
        if copy or (dtype is not None and np.dtype(dtype) != self.dtype):
            return self._host.astype(dtype or self.dtype)
        return self._host

    def __getitem__(self, index: Any) -> Any:
        """One item of the first axis, or None, stays on the device; other indices download."""
        if index is None:
            shape = (1, *self.shape)
            return DeviceTensor(self.pointer, shape, self.dtype, self._owner, self._stream)
        if not isinstance(index, int):
            return np.asarray(self)[index]
        if not -len(self) <= index < len(self):
            raise IndexError(f"index {index} of an axis of {len(self)}")
        step = self.nbytes // len(self)
        pointer = self.pointer + (index % len(self)) * step
        return DeviceTensor(pointer, self.shape[1:], self.dtype, self._owner, self._stream)

    def reshape(self, *shape: int) -> DeviceTensor:
        """The same memory under another shape of as many elements."""
        if math.prod(shape) != math.prod(self.shape):
            raise ValueError(f"cannot reshape {self.shape} into {shape}")
        return DeviceTensor(self.pointer, shape, self.dtype, self._owner, self._stream)

    def rows(self, start: int, stop: int) -> DeviceTensor:
        """Items of the first axis from `start` to before `stop`, the same memory."""
        count = min(stop, len(self)) - start
        pointer = self.pointer + start * (self.nbytes // len(self))
        shape = (count, *self.shape[1:])
        return DeviceTensor(pointer, shape, self.dtype, self._owner, self._stream)

    def followed_by(self, others: Sequence[DeviceTensor]) -> bool:
        """Whether the others lie right behind it, one after the other, in the same memory."""
        return all(
            other.owner is self._owner
            and other.pointer == self.pointer + (i + 1) * self.nbytes
            and other.shape == self.shape
            for i, other in enumerate(others)
        )

    def copy(self) -> DeviceTensor:
        """A tensor in memory of its own, so that one object does not keep a whole group's."""
        if not isinstance(self._owner, _Owner) or self._owner.buffer.nbytes == self.nbytes:
            return self
        made = DeviceTensor.pooled(self._owner.pool, self.shape, self.dtype, self._stream)
        cuda.copy(made.pointer, self.pointer, self.nbytes, self._stream)
        return made

    def astype(self, dtype: Any, copy: bool = True) -> Any:
        same = np.dtype(dtype) == self.dtype
        return self if same and not copy else np.asarray(self).astype(dtype)

    def synchronize(self) -> None:
        """Wait until the content is there."""
        self._stream.synchronize()

    def await_on(self, stream: cuda.Stream) -> None:
        """Let later work on `stream` wait until the content is there."""
        made_on = self._stream
        # a closed stream is done
        if made_on is not stream and made_on.handle and made_on.handle != stream.handle:
            if isinstance(self._owner, _Owner) and self._owner.awaited_on(stream):
                return
            with cuda.Event() as event:
                event.record(made_on)
                stream.wait(event)

    def address(self) -> cuda.Address:
        return cuda.Address(self.pointer)

    def _view(self) -> DeviceView:
        # whoever takes it waits for kernels that may still be writing; a closed stream is done
        self._stream.flush()
        stream, device = self._stream.handle or None, self._stream.device
        return DeviceView(self.pointer, self.shape, self.dtype.name, self._owner, stream, device)

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return self._view().__cuda_array_interface__

    def __dlpack_device__(self) -> tuple[int, int]:
        return self._view().__dlpack_device__()

    def __dlpack__(self, **options: Any) -> Any:
        self.synchronize()
        return self._view().__dlpack__(**options)


def on_device(array: Any, stream: cuda.Stream) -> Any:
    """`array` as a DeviceTensor when it lies on the GPU, else as it is.

    `stream` waits for what another one may still be writing there.
    """
    if isinstance(array, DeviceTensor):
        array.await_on(stream)
        return array
    if not is_device_array(array):
        return array
    return DeviceTensor.adopted(array, stream)
