"""What all predictors share: a session, owned or lent, closed with the predictor."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

from ...configs.bundle import Bundle
from ...configs.checks import shown
from ...configs.closing import Closing
from ...configs.errors import InputError, StateError
from ...configs.models import ModelConfig
from ..backends.open import open_session
from ..session import Session
from .pretrained import pretrained_bundle

P = TypeVar("P", bound="Predictor")
Method = TypeVar("Method", bound=Callable[..., Any])


class Predictor(Closing):
    """Owns the session it opens; a session passed in is shared and stays open."""

    def __init__(
        self,
        bundle: Bundle | None,
        backend: str = "onnxruntime",
        device: str = "cpu",
        threads: int | None = None,
        session: Session | None = None,
    ) -> None:
        bundle = checked_bundle(bundle)
        if session is not None and not isinstance(session, Session):
            raise InputError(
                f"session is {shown(session)}: expected an open session, or backend and device"
            )
        self._closed = False
        #: held by the thread that is in a method, whose name is kept for messages
        self._using = threading.RLock()
        self._user = ""
        self._owns_session = session is None
        self.session: Session = session or open_session(bundle, backend, device, threads)
        self.device = self.session.device
        self.bundle = bundle
        self.config: ModelConfig = bundle.model

    @classmethod
    def from_pretrained(cls: type[P], model_id: str | os.PathLike[str], **kwargs: Any) -> P:
        """A predictor of a bundle folder or a model name; keywords as for the constructor.

        A name such as ``facebook/sam2.1-hiera-tiny`` is downloaded and exported once, into the
        user's cache, which needs the extra ``export``.
        """
        return cls(bundle=pretrained_bundle(model_id), **kwargs)

    def close(self) -> None:
        """Free the session if this predictor opened it; using it again raises InputError."""
        self._closed = True
        if self._owns_session:
            self.session.close()

    def __enter__(self: P) -> P:
        self._open_still()
        if self._owns_session:
            self.session.__enter__()
        return self

    def _enter_alone(self) -> str:
        """Begin to use it, see :meth:`_alone`; gives who used it, for :meth:`_leave_alone`."""
        here = threading.current_thread().name
        if not self._using.acquire(blocking=False):
            raise StateError(
                f"the {type(self).__name__} is in use by thread {self._user}, this is {here}: make "
                "one for each thread, with session= they share one"
            )
        before, self._user = self._user, here
        return before

    def _leave_alone(self, before: str) -> None:
        self._user = before
        self._using.release()

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """StateError where another thread is in such a block of this predictor."""
        before = self._enter_alone()
        try:
            yield
        finally:
            self._leave_alone(before)

    def _open_still(self) -> None:
        if self._closed:
            raise InputError(f"the {type(self).__name__} is closed: make another one")


def alone(method: Method) -> Method:
    """A method that works on the state: one thread at a time, any other is refused."""

    @wraps(method)
    def checked(self: Predictor, *given: Any, **named: Any) -> Any:
        before = self._enter_alone()
        try:
            return method(self, *given, **named)
        finally:
            self._leave_alone(before)

    return cast(Method, checked)


def steps_alone(method: Method) -> Method:
    """The same for a generator; between two steps others may work."""

    @wraps(method)
    def checked(self: Predictor, *given: Any, **named: Any) -> Iterator[Any]:
        steps = method(self, *given, **named)
        try:
            while True:
                with self._alone():
                    step = next(steps, None)
                if step is None:
                    return
                yield step
        finally:
            steps.close()

    return cast(Method, checked)


def one_bundle(bundle: Bundle | None, name: str, same: Bundle | None) -> Bundle | None:
    """The bundle, under our name or `same` under the original's `name`; InputError for both."""
    if bundle is not None and same is not None:
        raise InputError(f"bundle and {name} were both given: they are one thing, give one")
    return same if bundle is None else bundle


def checked_bundle(bundle: Any) -> Bundle:
    """What was given as a bundle; InputError for anything else."""
    # by what is used of it: tests and tools have bundles of their own
    if not isinstance(getattr(bundle, "model", None), ModelConfig):
        raise InputError(
            f"bundle is {shown(bundle)}: expected what Bundle.load(path) gives, or "
            "use from_pretrained(path)"
        )
    made: Bundle = bundle
    return made
