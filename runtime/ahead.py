"""Throughput mode: later frames are read, resized and encoded while the present one is tracked."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from contextlib import closing
from dataclasses import dataclass
from typing import TypeVar

from ..configs.errors import InputError
from .frames import look_ahead
from .session import Session
from .tracker import Features

T = TypeVar("T")


@dataclass(frozen=True)
class EncodedFrame:
    """A frame that was encoded ahead; ``StreamTracker.step`` takes it in the frame's place.

    size: (height, width) of the frame, pixels.
    """

    size: tuple[int, int]
    features: Features


def check_throughput(session: Session) -> None:
    """InputError for a session whose graphs are queued on a GPU: nothing is left to overlap."""
    if getattr(session, "slot_buffer", None) is not None:
        raise InputError(
            "throughput=True overlaps work on the CPU, this session runs on a GPU: leave it out"
        )


def encoded_ahead(
    encode: Callable[[T], Features], items: Iterable[T]
) -> Generator[tuple[T, Features], None, None]:
    """Each item with its features, made by a thread one or two items ahead.

    An error is raised where its item would have come; closing the generator stops the thread.
    """
    with closing(look_ahead(((item, encode(item)) for item in items), depth=1)) as pairs:
        yield from pairs
