"""Work that is enqueued again and again, replayed as a CUDA graph from its third run on."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...configs.errors import SessionError
from . import cuda

#: CUDA graphs kept per engine and thread: a ring has one per slot, a tracker has few rings
MOST_GRAPHS = 64


class Places:
    """Places that results are written to again and again, which a CUDA graph may hold.

    The first few are; a caller that keeps every result has no end of them.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[Any] = set()

    def take(self, place: Any) -> bool:
        """Whether it is one of them."""
        if len(self._known) < self._most:
            self._known.add(place)
        return place in self._known


class GraphCache:
    """CUDA graphs by what they hold: addresses and shapes. The least recently used goes first."""

    def __init__(self, stream: cuda.Stream) -> None:
        self._stream = stream
        #: None after the first run, then its graph
        self.graphs: dict[Any, cuda.Graph | None] = {}
        self._records = True

    def run(self, key: Any, enqueue: Callable[[], None], fixed: bool) -> None:
        """Replay the graph of `key`, or `enqueue`; what is not `fixed` is never recorded.

        The first run is an ordinary one, which sets everything up; the second is recorded. Work
        that cannot be recorded is enqueued each time.
        """
        if (graph := self.graphs.get(key)) is not None:
            self.graphs[key] = self.graphs.pop(key)
            graph.replay(self._stream)
            return
        if fixed and self._records and key in self.graphs:
            graph = self._recorded(enqueue)
            if graph is not None:
                self._remember(key, graph)
                graph.replay(self._stream)
                return
        enqueue()
        if fixed and self._records:
            self._remember(key, None)

    def close(self) -> None:
        for graph in self.graphs.values():
            if graph is not None:
                graph.close()
        self.graphs.clear()

    def _recorded(self, enqueue: Callable[[], None]) -> cuda.Graph | None:
        try:
            return cuda.Graph(self._stream, enqueue)
        except SessionError:
            self._records = False
            return None

    def _remember(self, key: Any, graph: cuda.Graph | None) -> None:
        self.graphs.pop(key, None)
        self.graphs[key] = graph
        while len(self.graphs) > MOST_GRAPHS:
            oldest = self.graphs.pop(next(iter(self.graphs)))
            if oldest is not None:
                oldest.close()
