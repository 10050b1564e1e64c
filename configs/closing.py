"""Objects that a ``with`` block closes."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

C = TypeVar("C", bound="Closing")
#: seconds to wait for another thread that is to stop
PATIENCE = 2.0


class Closing:
    """Base of what has a :meth:`close`: leaving the ``with`` block calls it."""

    def close(self) -> None:
        raise NotImplementedError

    def __enter__(self: C) -> C:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
