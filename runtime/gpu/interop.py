"""Arrays of other libraries in and ours out: ``__cuda_array_interface__`` and DLPack.

torch, CuPy, numba, PyCUDA and hardware decoders speak one of the two. Nothing is copied here:
a view names an address, a shape and a dtype, and keeps its owner alive.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...configs.errors import InputError
from ..arrays import lies_on_gpu

#: dlpack.h: device kinds and type codes
CPU, CUDA, CUDA_HOST = 1, 2, 3
_CODES = {0: "int", 1: "uint", 2: "float", 6: "bool"}


@dataclass(frozen=True)
class DeviceView:
    """Memory of a GPU as an array, C-contiguous.

    dtype: a numpy name. stream: handle of the stream its content is ready on, None when it is
    ready. owner keeps the memory alive.
    """

    pointer: int
    shape: tuple[int, ...]
    dtype: str
    owner: Any = None
    stream: int | None = None
    device: int = 0

    @property
    def nbytes(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * np.dtype(self.dtype).itemsize

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        return {
            "version": 3,
            "shape": self.shape,
            "typestr": np.dtype(self.dtype).str,
            "data": (self.pointer, False),
            "strides": None,
            "stream": self.stream,
        }

    def __dlpack_device__(self) -> tuple[int, int]:
        return (CUDA, self.device)

    def __dlpack__(self, *, stream: int | None = None, **_: Any) -> Any:
        """A DLPack capsule; the consumer's `stream` is its own affair, ours is synchronised."""
        return capsule_of(self, *self.__dlpack_device__())


def device_view(array: Any, stream: int | None = None) -> DeviceView:
    """`array` of another library as a view; InputError for what is no GPU array.

    Takes C-contiguous arrays with ``__cuda_array_interface__`` or DLPack on CUDA. With the handle
    of the consuming `stream`, an interface that names no stream of its own yields to DLPack,
    whose producer makes `stream` wait for the content.
    """
    interface = getattr(array, "__cuda_array_interface__", None)
    dlpack = hasattr(array, "__dlpack__") and array.__dlpack_device__()[0] in (CUDA, CUDA_HOST)
    # the default streams are named by 1 and 2, which are no handles to wait for
    names_stream = interface is not None and interface.get("stream") not in (None, 1, 2)
    if dlpack and (interface is None or (stream is not None and not names_stream)):
        capsule = array.__dlpack__() if stream is None else array.__dlpack__(stream=stream)
        return view_of_capsule(capsule, array)
    if interface is not None:
        return _from_interface(array, interface)
    raise InputError(
        f"expected a GPU array (__cuda_array_interface__ or DLPack), got {type(array).__name__}: "
        "give a numpy array, or a torch, CuPy or PyCUDA array on the GPU"
    )


def is_device_array(array: Any) -> bool:
    """Whether `array` lies on a GPU and is no numpy array."""
    # most are none, and asking numpy for what it has not is slow
    if isinstance(array, np.ndarray):
        return False
    try:
        if lies_on_gpu(array):
            return True
    except RuntimeError:
        # torch shows no tensor that requires grad, and no frame does
        return False
    try:
        return hasattr(array, "__dlpack_device__") and array.__dlpack_device__()[0] == CUDA
    except (ValueError, BufferError):
        # a device that DLPack has no number for
        return False


def _from_interface(array: Any, interface: dict[str, Any]) -> DeviceView:
    shape = tuple(interface["shape"])
    kind = np.dtype(interface["typestr"])
    strides = interface.get("strides")
    _contiguous(shape, None if strides is None else tuple(s // kind.itemsize for s in strides))
    pointer, _ = interface["data"]
    stream = interface.get("stream")
    # 1 and 2 name the default streams, whose work the caller must have finished
    own = stream if stream not in (None, 0, 1, 2) else None
    return DeviceView(int(pointer or 0), shape, kind.name, array, own)


def _contiguous(shape: tuple[int, ...], strides: tuple[int, ...] | None) -> None:
    expected, step = [], 1
    for size in reversed(shape):
        expected.append(step)
        step *= size
    wrong = strides is not None and any(
        size > 1 and stride != right
        for size, stride, right in zip(shape, strides, reversed(expected), strict=True)
    )
    if wrong:
        raise InputError(
            f"expected a C-contiguous GPU array, got shape {shape} with strides {strides} "
            "(in elements): make it contiguous first"
        )


class _Device(ctypes.Structure):
    _fields_ = [("kind", ctypes.c_int32), ("index", ctypes.c_int32)]


class _Type(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", ctypes.c_void_p),
        ("device", _Device),
        ("ndim", ctypes.c_int32),
        ("dtype", _Type),
        ("shape", ctypes.POINTER(ctypes.c_int64)),
        ("strides", ctypes.POINTER(ctypes.c_int64)),
        ("byte_offset", ctypes.c_uint64),
    ]


class _Managed(ctypes.Structure):
    """DLManagedTensor of dlpack.h, the unversioned form every library takes and gives."""


_DELETER = ctypes.CFUNCTYPE(None, ctypes.POINTER(_Managed))
_Managed._fields_ = [
    ("tensor", _Tensor),
    ("context", ctypes.c_void_p),
    ("deleter", _DELETER),
]

_NAME, _USED = b"dltensor", b"used_dltensor"
_new = ctypes.pythonapi.PyCapsule_New
_new.restype, _new.argtypes = (
    ctypes.py_object,
    [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p],
)
_get = ctypes.pythonapi.PyCapsule_GetPointer
_get.restype, _get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
_is_valid = ctypes.pythonapi.PyCapsule_IsValid
_is_valid.restype, _is_valid.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]
_rename = ctypes.pythonapi.PyCapsule_SetName
_rename.restype, _rename.argtypes = ctypes.c_int, [ctypes.py_object, ctypes.c_char_p]

#: what capsules handed out need until their consumer calls the deleter, by address
_handed_out: dict[int, tuple[Any, ...]] = {}


def capsule_of(view: DeviceView, kind: int, index: int) -> Any:
    """A DLPack capsule of `view` on device (`kind`, `index`)."""
    dtype = np.dtype(view.dtype)
    code = next(c for c, name in _CODES.items() if dtype.name.rstrip("0123456789") == name)
    shape = (ctypes.c_int64 * max(len(view.shape), 1))(*view.shape)
    managed = _Managed()
    managed.tensor = _Tensor(
        view.pointer,
        _Device(kind, index),
        len(view.shape),
        _Type(code, dtype.itemsize * 8, 1),
        shape,
        None,
        0,
    )
    managed.deleter = _release
    address = ctypes.addressof(managed)
    _handed_out[address] = (managed, shape, view)
    return _new(address, _NAME, None)


def _forget(managed: Any) -> None:
    _handed_out.pop(ctypes.addressof(managed.contents), None)


_release = _DELETER(_forget)


class _Held:
    """A tensor taken from a capsule; gives it back when nobody looks at it any more."""

    def __init__(self, managed: _Managed, owner: Any, release: Callable[..., None]) -> None:
        self.managed, self.owner, self._release = managed, owner, release

    def __del__(self) -> None:
        if self.managed.deleter:
            self._release(ctypes.byref(self.managed))


def view_of_capsule(capsule: Any, owner: Any = None) -> DeviceView:
    """The memory a DLPack capsule names; the capsule is used up."""
    if not _is_valid(capsule, _NAME):
        raise InputError("expected a fresh DLPack capsule, got one that was used: export it again")
    managed = ctypes.cast(_get(capsule, _NAME), ctypes.POINTER(_Managed)).contents
    tensor = managed.tensor
    shape = tuple(tensor.shape[i] for i in range(tensor.ndim))
    strides = tuple(tensor.strides[i] for i in range(tensor.ndim)) if tensor.strides else None
    _contiguous(shape, strides)
    name = _CODES.get(tensor.dtype.code)
    if name is None or tensor.dtype.lanes != 1:
        raise InputError(f"DLPack type code {tensor.dtype.code} is not supported: cast it first")
    _rename(capsule, _USED)
    dtype = "bool" if name == "bool" else f"{name}{tensor.dtype.bits}"
    held = _Held(managed, owner, managed.deleter)
    pointer = (tensor.data or 0) + tensor.byte_offset
    return DeviceView(pointer, shape, dtype, held, None, tensor.device.index)
