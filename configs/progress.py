"""Progress: the one way in which long work says how far it is."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol


class Progress(Protocol):
    """Called with what is being done, how much of it is done and the whole (None: not known)."""

    def __call__(self, what: str, done: int = 0, total: int | None = None) -> None: ...


def silent(what: str, done: int = 0, total: int | None = None) -> None:
    """Progress that nobody reads."""


def steps(progress: Progress, what: str, total: int) -> Callable[[], None]:
    """A function that reports one more step of `what` each time it is called."""
    done = 0

    def step() -> None:
        nonlocal done
        done += 1
        progress(what, done, total)

    return step
