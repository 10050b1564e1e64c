"""What a part of the GPU report needs, and how it says that it cannot run; nothing heavy here."""

from __future__ import annotations

import importlib
import importlib.util

from ...configs.models import MODELS

#: variants of the 2.1 family, fastest first
VARIANTS = tuple(name for name in MODELS if name.startswith("sam2.1_"))


class CannotRunError(Exception):
    """A part that this machine cannot run; the message says why."""


def one_line(error: Exception) -> str:
    """Kind and message of an unforeseen error, for a report."""
    return f"{type(error).__name__}: {' '.join(str(error).split())[:500]}"


def require(*modules: str) -> None:
    """CannotRunError naming what is not installed."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise CannotRunError(f"not installed: {', '.join(missing)}")


def require_gpu_backend() -> None:
    """CannotRunError when no backend could use a GPU: exporting first would take minutes."""
    if importlib.util.find_spec("tensorrt") is not None:
        return
    require("onnxruntime")
    providers = importlib.import_module("onnxruntime").get_available_providers()
    if "CUDAExecutionProvider" not in providers:
        raise CannotRunError("neither tensorrt nor onnxruntime-gpu is installed")
