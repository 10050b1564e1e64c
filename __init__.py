"""sam2rt: SAM 2 in production. Export to ONNX with proof, run without torch.

The public names load on first use, so ``import sam2rt`` costs numpy and nothing else.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from .configs.extras import extras_of
from .configs.version import VERSION as __version__

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
        StorageError,
    )
    from .export.bundle import bundle_for
    from .export.checkpoint.hub import download_bundle
    from .runtime.media.open import open_frames
    from .runtime.predictors.encoder import FrameEncoder
    from .runtime.predictors.image import ImagePredictor
    from .runtime.predictors.mask_generator import MaskGenerator
    from .runtime.predictors.object_state import ObjectState
    from .runtime.predictors.stream import StreamTracker
    from .runtime.predictors.video import VideoPredictor
    from .serving.many import ray

#: the module of each public name; errors have one module
_HOME = {
    "Bundle": "configs.bundle",
    "FrameEncoder": "runtime.predictors.encoder",
    "ImagePredictor": "runtime.predictors.image",
    "bundle_for": "export.bundle",
    "download_bundle": "export.checkpoint.hub",
    "open_frames": "runtime.media.open",
    "MaskGenerator": "runtime.predictors.mask_generator",
    "ObjectState": "runtime.predictors.object_state",
    "StreamTracker": "runtime.predictors.stream",
    "VideoPredictor": "runtime.predictors.video",
}

__all__ = [
    "Bundle",
    "BundleError",
    "CheckpointError",
    "FrameEncoder",
    "FrameError",
    "ImagePredictor",
    "InputError",
    "MaskGenerator",
    "MissingExtraError",
    "ObjectState",
    "ProofError",
    "Sam2rtError",
    "SessionError",
    "StateError",
    "StorageError",
    "StreamTracker",
    "VideoPredictor",
    "__version__",
    "bundle_for",
    "download_bundle",
    "open_frames",
    "ray",
]


def __getattr__(name: str) -> Any:
    if name == "ray":
        # no module of that name lies here: from the checkout it would hide Ray itself
        return importlib.import_module(".serving.many.ray", __name__)
    if name in __all__:
        home = "configs.errors" if name.endswith("Error") else _HOME[name]
        with extras_of(f"{__name__}.{name}"):
            return getattr(importlib.import_module(f".{home}", __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
