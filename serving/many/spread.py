"""Items of a work spread over workers, whatever these are: the loop that loses none.

A worker that dies, or fails where another try may help, gives its item back; another worker takes
it up. Each item comes out once, done or failed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ...configs import errors
from ...configs.errors import InputError, Sam2rtError, SessionError
from ...configs.progress import Progress

#: does one item, which can be pickled, and gives what came of it, which can be too
RunItem = Callable[[Any, Progress], Any]
#: workers that may end in a row before one was ready
_STILLBORN = 3


class SpreadWork(Protocol):
    """What is spread: pickled to each worker, which opens it once and runs items of it."""

    def open(self) -> AbstractContextManager[RunItem]: ...


@dataclass(frozen=True)
class Fault:
    """An error of a worker, as it can be sent; again: whether another try may help."""

    kind: str
    message: str
    again: bool

    @classmethod
    def of(cls, error: Exception) -> Fault:
        """What an input is wrong about stays wrong; a machine may recover."""
        return cls(type(error).__name__, str(error), not isinstance(error, InputError))

    def error(self) -> Exception:
        """The error; those with arguments of their own cannot be sent as they are."""
        cls = getattr(errors, self.kind, None)
        if not (isinstance(cls, type) and issubclass(cls, Sam2rtError)):
            kind = MemoryError if self.kind.endswith("MemoryError") else OSError
            return kind(self.message)
        made: Exception = cls.__new__(cls)
        Exception.__init__(made, self.message)
        return made


#: errors of an item that leave its worker whole; any other is a fault of the code
CAUGHT = (Sam2rtError, OSError, MemoryError)


@dataclass(frozen=True)
class Notice:
    """What a worker has to say.

    value: of "at" how much of its item is done and the whole; of "done" what came of it; of
    "failed" the item's Fault, of "unusable" that of opening the work; of "dead" why it ended.
    """

    worker: int
    kind: Literal["ready", "at", "done", "failed", "unusable", "dead"]
    value: Any = None


class Team(Protocol):
    """Workers of one kind; each is a number."""

    def start(self) -> None:
        """Start a worker; "ready" or "unusable" comes of it."""
        ...

    def give(self, worker: int, item: Any) -> None:
        """Hand an item to a worker that is ready or through with its last one."""
        ...

    def notices(self) -> Sequence[Notice]:
        """What is new, after a moment at most."""
        ...

    def close(self) -> None:
        """End all workers."""
        ...


@dataclass(frozen=True)
class Outcome:
    """What came of the item of that index: a value, or a fault, after that many attempts."""

    index: int
    value: Any
    fault: Fault | None
    attempts: int


#: called with (how much is done, the whole) of each item that is under way
Moved = Callable[[Sequence[tuple[int, int]]], None]


def spread(
    team: Team, items: Sequence[Any], workers: int, *, retries: int = 0, moved: Moved
) -> Generator[Outcome, None, None]:
    """Do all items with that many workers, in the order in which they are finished.

    retries: how often an item is tried again. Closing the iterator, an interrupt or an error ends
    the workers. Raises what opening the work raised, SessionError when workers cannot be started.
    """
    run = _Spreading(team, items, retries, moved)
    try:
        for _ in range(min(workers, len(items))):
            team.start()
        while run.unfinished:
            for notice in team.notices():
                if (outcome := run.taken(notice)) is not None:
                    yield outcome
    finally:
        team.close()


class _Spreading:
    """Which worker is at which item, and what waits."""

    def __init__(self, team: Team, items: Sequence[Any], retries: int, moved: Moved) -> None:
        self._team, self._items, self._retries, self._moved = team, items, retries, moved
        #: (index, number of its attempt)
        self._waiting = deque((index, 1) for index in range(len(items)))
        self._busy: dict[int, tuple[int, int]] = {}
        self._shares: dict[int, tuple[int, int]] = {}
        self._idle: list[int] = []
        self._stillborn = 0

    @property
    def unfinished(self) -> bool:
        return bool(self._waiting or self._busy)

    def taken(self, notice: Notice) -> Outcome | None:
        """Act on a notice; the outcome of an item that is finished."""
        worker, kind, value = notice.worker, notice.kind, notice.value
        if kind == "at":
            self._shares[worker] = value
            self._moved(list(self._shares.values()))
            return None
        if kind == "unusable":
            raise value.error()
        outcome = None
        self._shares.pop(worker, None)
        if worker in self._busy:
            index, attempt = self._busy.pop(worker)
            if kind == "done":
                outcome = Outcome(index, value, None, attempt)
            else:
                outcome = self._missed(index, attempt, _fault(value))
        elif kind == "dead":
            self._mourn(worker, value)
        if kind == "dead":
            if self._waiting:
                self._team.start()
        else:
            self._stillborn = 0
            self._idle.append(worker)
        self._hand_out()
        return outcome

    def _missed(self, index: int, attempt: int, fault: Fault) -> Outcome | None:
        if fault.again and attempt <= self._retries:
            # last, so that one that ends each worker keeps no other waiting
            self._waiting.append((index, attempt + 1))
            return None
        return Outcome(index, None, fault, attempt)

    def _mourn(self, worker: int, why: str) -> None:
        """Of a worker that had no item."""
        if worker in self._idle:
            self._idle.remove(worker)
            return
        self._stillborn += 1
        if self._stillborn >= _STILLBORN:
            raise SessionError(f"workers end before they are ready ({why}): is memory short?")

    def _hand_out(self) -> None:
        while self._waiting and self._idle:
            worker = self._idle.pop()
            self._busy[worker] = self._waiting.popleft()
            self._team.give(worker, self._items[self._busy[worker][0]])


def _fault(value: Any) -> Fault:
    return value if isinstance(value, Fault) else Fault("SessionError", str(value), again=True)
