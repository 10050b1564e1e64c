"""What the three models have in common: their start, their end, answers and errors.

The server's module ``triton_python_backend_utils`` exists only in a process of the server. The
written ``model.py`` hands it over as `server`, so that all code here runs without one.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any, ClassVar

import numpy as np

from ...configs.bundle import Bundle
from ...configs.checks import shown_line
from ...configs.errors import InputError, Sam2rtError, StateError, means_low_memory
from ...runtime.arrays import Array
from ...runtime.backends.open import open_session
from ..sessions.limits import StoppingError, TooManyError
from ..sessions.model import Model
from .settings import ModelSettings, settings_of
from .tensors import Inputs


class ServedModel:
    """A model of the server: one instance in one process, with one open bundle."""

    #: the server's module, given by ``model.py``
    server: ClassVar[Any] = None
    #: names of the inputs
    inputs: ClassVar[tuple[str, ...]] = ()

    def initialize(self, arguments: Mapping[str, str]) -> None:
        """Open the bundle. Raises one line where arrays do not pass, or the bundle cannot open."""
        check_arrays(self.server)
        self.name = arguments.get("model_name", "")
        self.settings: ModelSettings = settings_of(arguments)
        self._closing = ExitStack()
        with ExitStack() as stack:
            chosen = self.settings
            session = stack.enter_context(
                open_session(
                    Bundle.load(chosen.bundle), chosen.backend, chosen.device, chosen.threads
                )
            )
            self.model = stack.enter_context(Model(session))
            self.opened(stack, arguments)
            self._closing = stack.pop_all()

    def opened(self, stack: ExitStack, arguments: Mapping[str, str]) -> None:
        """Make what the model needs beside the session; `stack` closes it."""

    def execute(self, requests: Sequence[Any]) -> Any:
        """Answer each request, an error in its place."""
        return [self._answered(request) for request in requests]

    def finalize(self) -> None:
        """Close what is open."""
        self._closing.close()

    def answer(self, request: Any, inputs: Inputs) -> dict[str, Array]:
        """The outputs of one request, by name."""
        raise NotImplementedError

    def response(self, outputs: Mapping[str, Array]) -> Any:
        """The server's response of outputs."""
        tensors = [self.server.Tensor(name, values) for name, values in outputs.items()]
        return self.server.InferenceResponse(output_tensors=tensors)

    def failure(self, error: Exception) -> Any:
        """The server's response of an error: one line; the log gets a fault of ours."""
        kinds = self.server.TritonError
        if isinstance(error, (StoppingError, TooManyError)) or means_low_memory(error):
            code = kinds.UNAVAILABLE
        elif isinstance(error, (InputError, StateError)):
            code = kinds.INVALID_ARG
        else:
            code = kinds.INTERNAL
        if isinstance(error, Sam2rtError):
            line = shown_line(str(error))
        elif means_low_memory(error):
            line = "not enough memory: try again later, or ask for less"
        else:
            logging.getLogger(__name__).error("a request of %s failed", self.name, exc_info=error)
            line = (
                f"a fault of the model ({type(error).__name__}): the server's log has the details"
            )
        return self.server.InferenceResponse(output_tensors=[], error=kinds(line, code))

    def read(self, request: Any) -> dict[str, Array | None]:
        """The inputs of a request by name, None for those left out."""
        found: dict[str, Array | None] = {}
        for name in self.inputs:
            tensor = self.server.get_input_tensor_by_name(request, name)
            found[name] = None if tensor is None else tensor.as_numpy()
        return found

    def _answered(self, request: Any) -> Any:
        try:
            return self.response(self.answer(request, self.read(request)))
        except Exception as error:
            return self.failure(error)


def check_arrays(server: Any) -> None:
    """StateError where arrays come out of the server's tensors as others.

    Servers such as 2.51 are built for NumPy 1: with NumPy 2 all outputs have no bytes, without a
    word. Copied through DLPack, such arrays differ.
    """
    sent = np.arange(1, 8, dtype=np.int32)
    tensor = server.Tensor("CHECK", sent)
    back = server.Tensor.from_dlpack("CHECK", tensor.to_dlpack()).as_numpy()
    if not np.array_equal(sent, back):
        raise StateError(
            f"this server does not read arrays of NumPy {np.__version__}: install 'numpy<2' in the "
            "Python that the server runs"
        )


class Gauges:
    """Figures on the server's page of metrics, where it has one; `values` by name, each time."""

    def __init__(
        self,
        server: Any,
        labels: Mapping[str, str],
        values: Mapping[str, tuple[str, Callable[[], float]]],
    ) -> None:
        self._metrics: list[tuple[Any, Callable[[], float]]] = []
        #: a family lives as long as its metrics
        self._families = []
        for name, (text, value) in values.items():
            try:
                family = server.MetricFamily(
                    name=name, description=text, kind=server.MetricFamily.GAUGE
                )
                metric = family.Metric(labels=dict(labels))
            except server.TritonModelException:
                # a server that was told to keep none
                return
            self._families.append(family)
            self._metrics.append((metric, value))
        self.update()

    def update(self) -> None:
        """Show what the values are now."""
        for metric, value in self._metrics:
            metric.set(value())
