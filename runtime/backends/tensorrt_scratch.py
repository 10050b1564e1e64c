"""Activations of execution contexts: one block of memory for all that run on one stream.

On a stream one engine runs after the other, so their activations may lie in the same place; each
context alone would take the largest of its profiles for itself. A thread that encodes frames
ahead has a stream, and so a block, of its own.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any

from ...configs.errors import SessionError
from ..gpu import cuda
from ..gpu.graphs import GraphCache


class Scratch:
    """Makes the contexts of one stream; where TensorRT lets us, they share their activations."""

    def __init__(self, trt: ModuleType, stream: cuda.Stream) -> None:
        strategies = getattr(trt, "ExecutionContextAllocationStrategy", None)
        self._strategy = getattr(strategies, "USER_MANAGED", None)
        self._stream = stream
        self._block: cuda.Buffer | None = None
        self._needed = 0
        self._contexts: list[Any] = []
        self._graphs: list[GraphCache] = []

    def watch(self, graphs: GraphCache) -> None:
        """CUDA graphs hold addresses: these are given up when the block moves."""
        self._graphs.append(graphs)

    def context(self, engine: Any, nbytes: int, graph: str) -> Any:
        """A context of an engine whose activations take `nbytes` at most; SessionError without."""
        if self._strategy is None:
            cuda.require_memory(nbytes, f"running {graph}")
            return self._checked(engine.create_execution_context(), graph)
        before = self._needed
        self._needed = max(before, nbytes)
        try:
            self._fit(graph)
        except BaseException:
            # what ran before still can
            self._needed = before
            raise
        made = self._checked(engine.create_execution_context(self._strategy), graph)
        if self._block is not None:
            made.set_device_memory(self._block.pointer, self._block.nbytes)
        self._contexts.append(made)
        return made

    def ready(self, graph: str) -> None:
        """To be called before a context runs: a block that could not grow is taken again."""
        if self._contexts:
            self._fit(graph)

    def close(self) -> None:
        self._contexts.clear()
        if self._block is not None:
            self._block.close()
            self._block = None

    def _fit(self, graph: str) -> None:
        if self._block is not None:
            if self._block.nbytes >= self._needed:
                return
            # engines may still be at work there
            self._stream.synchronize()
            for graphs in self._graphs:
                graphs.close()
            self._block.close()
            self._block = None
        cuda.require_memory(self._needed, f"running {graph}")
        self._block = cuda.Buffer(self._needed)
        for context in self._contexts:
            context.set_device_memory(self._block.pointer, self._needed)

    def _checked(self, context: Any, graph: str) -> Any:
        if context is None:
            raise SessionError(f"TensorRT gives no context for {graph}: free GPU memory")
        return context
