"""Sessions that fail, to see what is left behind."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sam2rt.runtime.session import Into, Session, SessionWrapper


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


class NanSession(SessionWrapper):
    """From the call number `at` on, the output `name` of any graph holds a NaN for each object."""

    fused = per_object = False

    def __init__(self, session: Session, name: str, at: int = 1) -> None:
        super().__init__(session)
        self.name, self.at = name, at

    def run(
        self, graph: str, inputs: Mapping[str, Any], into: Into | None = None
    ) -> dict[str, Any]:
        out = super().run(graph, inputs, into)
        if self.name in out:
            self.at -= 1
            if self.at < 1:
                out[self.name] = np.array(out[self.name])
                out[self.name].reshape(len(out[self.name]), -1)[:, 0] = np.nan
        return out
