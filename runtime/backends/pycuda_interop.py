"""PyCUDA beside sam2rt: its streams, its context, its arrays; nothing is copied.

PyCUDA's ``GPUArray`` speaks ``__cuda_array_interface__``, so a session takes one as it is. The
other way needs PyCUDA itself, which does not import without a driver; hence only here.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from ...configs.bundle import Bundle
from ...configs.errors import MissingExtraError
from ..gpu.tensor import DeviceTensor

if TYPE_CHECKING:
    from .tensorrt_session import TensorRTSession


def session_on(bundle: Bundle, stream: Any, engines: str | None = None) -> TensorRTSession:
    """A session whose work goes to a ``pycuda.driver.Stream``, in the context that is current.

    Use it from the thread that pushed the context, and close it before the context goes.
    """
    from .tensorrt_session import TensorRTSession

    return TensorRTSession(bundle, engines=engines, stream=int(stream.handle))


def gpuarray_of(tensor: DeviceTensor) -> Any:
    """The tensor as a ``pycuda.gpuarray.GPUArray`` on the same memory, which it keeps alive.

    Read it only. MissingExtraError without PyCUDA.
    """
    try:
        gpuarray = importlib.import_module("pycuda.gpuarray")
    except ImportError:
        raise MissingExtraError("a GPUArray", "pycuda", "pycuda") from None
    return gpuarray.GPUArray(tensor.shape, tensor.dtype, base=tensor, gpudata=tensor.pointer)
