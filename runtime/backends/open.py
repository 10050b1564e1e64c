"""The factory of sessions: one backend by its name."""

from __future__ import annotations

from ...configs.bundle import Bundle
from ...configs.checks import shown
from ...configs.errors import InputError
from ..session import Session

BACKENDS = ("onnxruntime", "openvino", "tensorrt")


def open_session(
    bundle: Bundle, backend: str = "onnxruntime", device: str = "cpu", threads: int | None = None
) -> Session:
    """A session on that backend; nothing is opened before it is entered or run.

    `device` is "cpu", "cuda" or "tensorrt" for onnxruntime (its execution provider); "cpu" or
    what OpenVINO finds ("gpu", "npu") for openvino. The backend tensorrt knows GPUs alone: "cuda"
    or "cuda:1"; "cpu", the default, means the first. `threads` None leaves the number of CPU
    threads to the backend. Raises InputError for an unknown backend or device, MissingExtraError
    when its packages are absent, SessionError when the installed ones or the machine lack the
    device, or what the bundle's precision needs.
    """
    if not isinstance(backend, str):
        raise InputError(f"backend is {shown(backend)}: expected one of {', '.join(BACKENDS)}")
    if not isinstance(device, str):
        raise InputError(f"device is {shown(device)}: expected text such as 'cpu' or 'cuda'")
    if backend == "onnxruntime":
        from .bfloat16_session import Bfloat16Session, has_cpu_variants
        from .onnxruntime_session import OnnxRuntimeSession

        ours = device == "cpu" and has_cpu_variants(bundle)
        session = (Bfloat16Session if ours else OnnxRuntimeSession)(bundle, device, threads)
        # a device that is never there is no matter of the first frame, as with TensorRT
        session.check_device()
        return session
    if backend == "openvino":
        from .openvino_session import OpenVinoSession

        return OpenVinoSession(bundle, device=device, threads=threads)
    if backend == "tensorrt":
        from .tensorrt_session import TensorRTSession

        return TensorRTSession(bundle, device="cuda" if device == "cpu" else device)
    raise InputError(f"unknown backend '{backend}': expected one of {', '.join(BACKENDS)}")
