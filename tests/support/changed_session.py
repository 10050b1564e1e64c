"""A session whose outputs are changed on their way."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from sam2rt.export.model.reference import ReferenceSession
from sam2rt.runtime.arrays import Array
from sam2rt.runtime.session import Into, SessionWrapper


class Changed(SessionWrapper):
    """The reference with outputs of one graph changed."""

    def __init__(self, reference: ReferenceSession, graph: str, change: Any) -> None:
        super().__init__(reference)
        self._graph, self._change = graph, change

    def run(
        self, graph: str, inputs: Mapping[str, Array], into: Into | None = None
    ) -> dict[str, Array]:
        outputs = super().run(graph, inputs, into)
        if graph == self._graph:
            self._change(outputs)
        return outputs


def shift(name: str, amount: float) -> Any:
    def change(outputs: dict[str, Array]) -> None:
        outputs[name] = outputs[name] + np.float32(amount)

    return change
