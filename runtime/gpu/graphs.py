"""Work that is enqueued again and again, replayed as CUDA graphs from its third run on."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

from ...configs.errors import SessionError
from . import cuda

#: CUDA graphs kept per engine and thread: a ring has one per slot, a tracker has few rings
MOST_GRAPHS = 64
_NUMBERS = itertools.count()


class Places:
    """Places that results are written to again and again, which a CUDA graph may hold.

    The first few are; a caller that keeps every result has no end of them.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._known: set[Any] = set()

    def take(self, place: Any) -> bool:
        """Whether it is one of them."""
        if place in self._known:
            return True
        if len(self._known) >= self._most:
            return False
        self._known.add(place)
        return True


class _Entry:
    """What is known of a key: its graph, None after the first run; and when it was last used."""

    __slots__ = ("graph", "used")

    def __init__(self) -> None:
        self.graph: cuda.Graph | None = None
        self.used = 0


class GraphCache:
    """CUDA graphs by what they hold: addresses and shapes. The least recently used goes first."""

    def __init__(self, stream: cuda.Stream) -> None:
        self._stream = stream
        self._entries: dict[Any, _Entry] = {}
        self._runs = 0
        self._records = True
        #: tells keys of different caches apart
        self.number = next(_NUMBERS)

    def recorded(self) -> list[Any]:
        """The keys that have a graph."""
        return [key for key, entry in self._entries.items() if entry.graph is not None]

    def run(self, key: Any, enqueue: Callable[[], None], fixed: bool) -> None:
        """As :meth:`now`, or with other work of a frame at its end; see :class:`Together`."""
        collector = self._stream.collector
        if collector is None:
            self.now(key, enqueue, fixed)
        else:
            collector.put(self, key, enqueue, fixed)

    def now(
        self,
        key: Any,
        enqueue: Callable[[], None],
        fixed: bool,
        otherwise: Callable[[], None] | None = None,
    ) -> None:
        """Replay the graph of `key`, or `enqueue`; what is not `fixed` is never recorded.

        The first run is an ordinary one, which sets everything up; the second is recorded. Work
        that cannot be recorded is enqueued each time, by `otherwise` where that is given.
        """
        entry = self._entries.get(key) if fixed and self._records else None
        if entry is not None:
            if entry.graph is None:
                entry.graph = self._recorded(enqueue)
            if entry.graph is not None:
                self._runs += 1
                entry.used = self._runs
                entry.graph.replay(self._stream)
                return
        (otherwise or enqueue)()
        if fixed and self._records:
            self._remember(key)

    def close(self) -> None:
        for entry in self._entries.values():
            if entry.graph is not None:
                entry.graph.close()
        self._entries.clear()

    def _recorded(self, enqueue: Callable[[], None]) -> cuda.Graph | None:
        try:
            return cuda.Graph(self._stream, enqueue)
        except SessionError:
            self._records = False
            return None

    def _remember(self, key: Any) -> None:
        self._runs += 1
        entry = self._entries.setdefault(key, _Entry())
        entry.used = self._runs
        if len(self._entries) > MOST_GRAPHS:
            oldest = min(self._entries, key=lambda known: self._entries[known].used)
            gone = self._entries.pop(oldest).graph
            if gone is not None:
                gone.close()


class Together:
    """All that is run on a stream while it is open, put off and replayed as one CUDA graph.

    ``with together:`` around the work of a frame. What comes to the stream by another way, such as
    a copy or a wait, lets go what was put off before it. The first time that pieces come together
    they run one by one, from the graphs they have; so do those that cannot be recorded together.
    An error inside drops what was put off.
    """

    def __init__(self, stream: cuda.Stream) -> None:
        self._stream = stream
        self.graphs = GraphCache(stream)
        self._pieces: list[tuple[GraphCache, Any, Callable[[], None], bool]] = []
        self._held: list[Any] = []
        self._depth = 0

    def put(self, graphs: GraphCache, key: Any, enqueue: Callable[[], None], fixed: bool) -> None:
        """Run this at the end, or sooner where something waits for it."""
        self._pieces.append((graphs, key, enqueue, fixed))

    def hold(self, lent: Any) -> None:
        """Keep what is lent until the work is done; the end waits for it."""
        self._held.append(lent)

    def flush(self) -> None:
        """Enqueue what was put off."""
        pieces = self._pieces
        if not pieces:
            return
        self._pieces = []
        if len(pieces) > 1 and all(fixed for _, _, _, fixed in pieces):
            key = tuple([(graphs.number, key) for graphs, key, _, _ in pieces])
            self.graphs.now(key, lambda: _enqueued(pieces), True, lambda: _one_by_one(pieces))
        else:
            _one_by_one(pieces)

    def __enter__(self) -> Together:
        self._depth += 1
        self._stream.collector = self
        return self

    def __exit__(self, kind: Any, *_: Any) -> None:
        self._depth -= 1
        if self._depth:
            return
        try:
            if kind is not None:
                self._pieces.clear()
            if self._held:
                self._stream.synchronize()
            else:
                self.flush()
        finally:
            self._stream.collector = None
            self._held.clear()


def _enqueued(pieces: list[Any]) -> None:
    for _, _, enqueue, _ in pieces:
        enqueue()


def _one_by_one(pieces: list[Any]) -> None:
    for graphs, key, enqueue, fixed in pieces:
        graphs.now(key, enqueue, fixed)
