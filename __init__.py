"""sam2rt: SAM 2 in production. Export to ONNX with proof, run without torch.

The public names load on first use, so ``import sam2rt`` costs numpy and nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .configs.bundle import Bundle
    from .configs.errors import (
        BundleError,
        CheckpointError,
        FrameError,
        InputError,
        MissingExtraError,
        ProofError,
        Sam2rtError,
        SessionError,
        StateError,
    )
    from .export.bundle import bundle_for
    from .runtime.frames import open_frames
    from .runtime.image import ImagePredictor
    from .runtime.masks import MaskGenerator
    from .runtime.stream import StreamTracker
    from .runtime.video import VideoPredictor

__version__ = "0.1.0"

_HOME = {
    "Bundle": "configs.bundle",
    **dict.fromkeys(
        [
            "BundleError", "CheckpointError", "FrameError", "InputError", "MissingExtraError",
            "ProofError", "Sam2rtError", "SessionError", "StateError",
        ],
        "configs.errors",
    ),
    "ImagePredictor": "runtime.image",
    "bundle_for": "export.bundle",
    "open_frames": "runtime.frames",
    "MaskGenerator": "runtime.masks",
    "StreamTracker": "runtime.stream",
    "VideoPredictor": "runtime.video",
}  # fmt: skip

__all__ = [
    "Bundle",
    "BundleError",
    "CheckpointError",
    "FrameError",
    "ImagePredictor",
    "InputError",
    "MaskGenerator",
    "MissingExtraError",
    "ProofError",
    "Sam2rtError",
    "SessionError",
    "StateError",
    "StreamTracker",
    "VideoPredictor",
    "__version__",
    "bundle_for",
    "open_frames",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
