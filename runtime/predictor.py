"""What all predictors share: a session, owned or lent, closed with the predictor."""

from __future__ import annotations

from types import TracebackType
from typing import TypeVar

from ..configs.bundle import Bundle
from ..configs.models import ModelConfig
from .session import Session, open_session

P = TypeVar("P", bound="Predictor")


class Predictor:
    """Owns the session it opens; a session passed in is shared and stays open."""

    def __init__(
        self,
        bundle: Bundle,
        backend: str,
        device: str,
        threads: int | None,
        session: Session | None,
    ) -> None:
        self._owns_session = session is None
        self.session: Session = session or open_session(bundle, backend, device, threads)
        self.bundle = bundle
        self.config: ModelConfig = bundle.model

    def close(self) -> None:
        """Free the session if this predictor opened it."""
        if self._owns_session:
            self.session.close()

    def __enter__(self: P) -> P:
        if self._owns_session:
            self.session.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
