"""Which backends can run a bundle on this machine, found out by opening its graphs there.

What a library lists says little: ONNX Runtime names CUDA's provider where none of its libraries
loads, and the CPU's where half precision has no kernels.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass

from ...configs.bundle import Bundle
from ...configs.errors import Sam2rtError
from .open import open_session

#: backends and devices that are tried, the default first
PLACES = (
    ("onnxruntime", "cpu"),
    ("onnxruntime", "cuda"),
    ("onnxruntime", "tensorrt"),
    ("openvino", "cpu"),
    ("tensorrt", "cuda"),
)


@dataclass(frozen=True)
class Usability:
    """Whether a bundle runs on a backend and device; `why` not and what fixes it, else empty."""

    backend: str
    device: str
    why: str = ""
    remedy: str = ""

    @property
    def usable(self) -> bool:
        return not self.why

    def __str__(self) -> str:
        return f"{self.backend} {self.device}"


def usable_backends(bundle: Bundle) -> Iterator[Usability]:
    """One answer per place of PLACES. Raises nothing of ours: what goes wrong is the answer.

    Graphs and engines are opened, nothing is run.
    """
    for backend, device in PLACES:
        try:
            with closing(open_session(bundle, backend, device)) as session:
                session.check_graphs()
        except Sam2rtError as error:
            why, _, remedy = str(error).rpartition(": ")
            yield Usability(backend, device, why, remedy)
        else:
            yield Usability(backend, device)
