"""Frames that were encoded before the objects on them are worked on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from ...configs.errors import InputError
from .tracker import Features


@dataclass(frozen=True)
class EncodedFrame:
    """A frame encoded before its turn; steps of any object on it take it, and leave it as it is.

    size: (height, width) of the frame, pixels. bundle: whose encoder made the features.
    """

    size: tuple[int, int]
    features: Features
    bundle: Any = None

    def check_bundle(self, bundle: Any) -> None:
        """InputError where another bundle's encoder made the features."""
        if self.bundle is None or self.bundle is bundle:
            return
        if self.bundle.digest != bundle.digest:
            raise InputError(
                f"the frame was encoded by bundle {self.bundle.digest[:12]}, this is "
                f"{bundle.digest[:12]}: encode it with the bundle that tracks"
            )
