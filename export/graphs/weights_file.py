"""One file of weights for all graphs of a bundle.

The same layers stand in several graphs (split and fused, and the variants for engines). Each
distinct tensor is kept once, and the graphs refer to it as ONNX external data: a session maps the
file into memory instead of reading and copying it, and sessions share the pages. This also lifts
the 2 GiB that one protobuf can hold.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

import onnx
from onnx import TensorProto
from onnx.external_data_helper import set_external_data

NAME = "weights.bin"
#: smaller tensors stay in the graph, where shape inference needs them
SMALLEST = 1024
#: a page: what a tensor's offset must be a multiple of to be mapped on every system's CPU
ALIGNMENT = 4096


class WeightsFile:
    """Collects the weights of graphs written beside it. Use as a context manager."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / NAME
        self._file: BinaryIO | None = None
        self._places: dict[str, int] = {}

    def write(self, graph: onnx.ModelProto, path: Path) -> bool:
        """Write `graph` to `path`, its weights to the common file; `graph` loses them.

        True when it has weights there. `path` must lie in this file's folder.
        """
        assert path.parent == self.path.parent
        large = [t for t in graph.graph.initializer if len(t.raw_data) >= SMALLEST]
        for tensor in large:
            self._move(tensor)
        onnx.save_model(graph, path)
        return bool(large)

    def _move(self, tensor: TensorProto) -> None:
        data = tensor.raw_data
        key = hashlib.sha256(data).hexdigest()
        if key not in self._places:
            self._places[key] = self._append(data)
        set_external_data(tensor, NAME, self._places[key], len(data))
        tensor.ClearField("raw_data")

    def _append(self, data: bytes) -> int:
        assert self._file is not None, "used outside its with block"
        self._file.write(b"\0" * (-self._file.tell() % ALIGNMENT))
        place = self._file.tell()
        self._file.write(data)
        return place

    def __enter__(self) -> WeightsFile:
        self._file = self.path.open("wb")
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._file is not None
        self._file.close()
        self._file = None
