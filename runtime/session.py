"""Sessions: run a bundle's graphs on one backend.

A session is cheap to construct; entering it (or the first ``run``) opens the graphs and
takes the device, leaving it frees both. Arrays are checked at this boundary against the
manifest's contract and trusted inside. One session may serve many trackers.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import TracebackType
from typing import Protocol

import numpy as np

from ..configs.bundle import Bundle
from ..configs.errors import InputError
from ..configs.graphs import GraphSpec
from .arrays import Array


class Session(Protocol):
    """What a backend offers; one file per backend implements it."""

    bundle: Bundle

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        """Run one graph; inputs and outputs by the names of its contract.

        Raises InputError for arrays that do not fit the contract, SessionError when the
        backend fails.
        """
        ...

    def close(self) -> None: ...

    def __enter__(self) -> Session: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


def check_inputs(spec: GraphSpec, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs as C-contiguous arrays of the contract's dtypes, or InputError.

    Names must match exactly, dtypes must match, and one symbol has one size per call.
    """
    expected = {t.name for t in spec.inputs}
    if set(inputs) != expected:
        raise InputError(f"graph {spec.name} takes {sorted(expected)}, got {sorted(inputs)}")
    sizes: dict[str, int] = {}
    checked: dict[str, Array] = {}
    for tensor in spec.inputs:
        array = inputs[tensor.name]
        fits = array.dtype == np.dtype(tensor.dtype) and array.ndim == len(tensor.shape)
        if fits:
            for dim, size in zip(tensor.shape, array.shape, strict=True):
                fits &= size == (sizes.setdefault(dim, size) if isinstance(dim, str) else dim)
        if not fits:
            raise InputError(
                f"{spec.name}.{tensor.name}: expected {tensor.dtype} {list(tensor.shape)} "
                f"with {sizes}, got {array.dtype} {list(array.shape)}"
            )
        # a tensor on a GPU is contiguous, and numpy would download it
        on_gpu = hasattr(array, "__cuda_array_interface__")
        checked[tensor.name] = array if on_gpu else np.ascontiguousarray(array)
    batch = sizes.get("N", 1)
    for symbol in ("I", "G"):
        if sizes.get(symbol, 1) not in (1, batch):
            raise InputError(
                f"graph {spec.name}: {symbol} = {sizes[symbol]} must be 1 or the number of "
                f"objects {batch}"
            )
    return checked
