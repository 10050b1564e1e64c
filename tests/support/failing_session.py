"""A session that fails once, to see what is left behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sam2rt.runtime.session import Into, Session


class FailingSession(Session):
    """Plain, passes calls on; run number `at` of `graph` raises `error`."""

    def __init__(self, session: Session, graph: str, error: BaseException, at: int = 1) -> None:
        self.session, self.bundle = session, session.bundle
        self.graph, self.error, self.at = graph, error, at

    def run(
        self, graph: str, inputs: Mapping[str, Any], into: Into | None = None
    ) -> dict[str, Any]:
        if graph == self.graph:
            self.at -= 1
            if self.at == 0:
                raise self.error
        return self.session.run(graph, inputs)
