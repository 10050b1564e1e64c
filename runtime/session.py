"""Sessions: run a bundle's graphs on one backend.

A session is cheap to construct; entering it (or the first ``run``) opens the graphs and
takes the device, leaving it frees both. Arrays are checked at this boundary against the
manifest's contract and trusted inside. One session may serve many trackers.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import numpy as np

from ..configs.bundle import Bundle
from ..configs.closing import Closing
from ..configs.errors import InputError
from ..configs.graphs import GraphSpec, graph_specs
from .arrays import Array, lies_on_gpu
from .bank import SlotBuffer
from .pixel_kernels import PixelKernels

#: outputs that a graph writes where :meth:`~sam2rt.runtime.bank.SlotBuffer.place` says: by name,
#: one place an object
Into = Mapping[str, Sequence[Any]]


class Session(Closing, ABC):
    """What a backend offers. To add a backend, fill in this form in a file of its own.

    Must be filled in: `bundle`, which the constructor sets, and :meth:`run`. All else states
    what the backend can do beyond that, and each default means "plain": host memory, one CPU,
    the separate graphs, calls of any size. Trackers and predictors ask nothing but this form.

    Leaving the ``with`` block closes the session. A session that opens graphs does so on
    entering, or at the first ``run`` of each.
    """

    #: what is run
    bundle: Bundle
    #: where graphs run: "cpu", "cuda", "cuda:1" ...
    device: str = "cpu"

    @abstractmethod
    def run(
        self, graph: str, inputs: Mapping[str, Array], into: Into | None = None
    ) -> dict[str, Array]:
        """Run one graph; inputs and outputs by the names of its contract.

        `into` comes to sessions alone whose :meth:`slot_buffer` gives places.
        Raises InputError for arrays that do not fit the contract (:func:`check_inputs`),
        SessionError when the backend fails.
        """

    def close(self) -> None:
        """Free graphs and device. Nothing is held by default."""

    def check_graphs(self) -> None:
        """Open each graph to see that it can run here; SessionError for one that cannot.

        By default as entering does; backends that can tell for less do less.
        """
        self.__enter__()

    @property
    def graphs(self) -> tuple[str, ...]:
        """Names of the contract's graphs that :meth:`run` takes; all of them by default."""
        return tuple(graph_specs(self.bundle.model))

    @property
    def fused(self) -> bool:
        """Whether a frame without prompts is tracked by the one graph ``track_step``.

        By default by the three graphs it stands for, which give the same masks.
        """
        return False

    @property
    def per_object(self) -> bool:
        """Whether ``track_step`` takes its objects sequentially, in the memory of one.

        By default all objects of a call are in memory at once.
        """
        return False

    @property
    def max_objects(self) -> int | None:
        """Objects (or prompts) one call takes at most; larger groups are split. None: no limit."""
        return None

    @property
    def max_images(self) -> int | None:
        """Images one call of the encoder takes at most. None: no limit."""
        return None

    @property
    def overlaps(self) -> bool:
        """Whether calls of two threads run at the same time, so that prefetching saves time.

        False where calls wait in the queue of one GPU.
        """
        return True

    def together(self) -> AbstractContextManager[Any]:
        """Around the work of a frame: it may be put off, to be enqueued as one at the end.

        Numbers of ``track_step`` may then be on their way when :meth:`run` is over: numpy waits for
        them, and they are to be looked at before the next frame. An error inside drops what was
        put off. By default nothing is put off.
        """
        return nullcontext()

    def leave_thread(self) -> None:
        """The calling thread is done with the session: what it held may serve another thread.

        Results that it made stay as they are. Nothing is held by default.
        """

    def slot_buffer(self) -> SlotBuffer:
        """A new buffer for memories, for a tracker of this thread; host memory by default."""
        return SlotBuffer(self.bundle.model)

    def pixels(self) -> PixelKernels | None:
        """Kernels that work on pixels where the graphs run, on this thread's stream.

        None, the default: frames and masks are worked on by the host.
        """
        return None


class SessionWrapper(Session):
    """A session around another one, with its capabilities: to record, time or change calls.

    The session inside belongs to whoever opened it: closing the wrapper leaves it open.
    """

    def __init__(self, session: Session) -> None:
        self.session = session
        self.bundle, self.device = session.bundle, session.device

    def run(
        self, graph: str, inputs: Mapping[str, Array], into: Into | None = None
    ) -> dict[str, Array]:
        return self.session.run(graph, inputs, into)

    @property
    def graphs(self) -> tuple[str, ...]:
        return self.session.graphs

    @property
    def fused(self) -> bool:
        return self.session.fused

    @property
    def per_object(self) -> bool:
        return self.session.per_object

    @property
    def max_objects(self) -> int | None:
        return self.session.max_objects

    @property
    def max_images(self) -> int | None:
        return self.session.max_images

    @property
    def overlaps(self) -> bool:
        return self.session.overlaps

    def together(self) -> AbstractContextManager[Any]:
        return self.session.together()

    def leave_thread(self) -> None:
        self.session.leave_thread()

    def check_graphs(self) -> None:
        self.session.check_graphs()

    def slot_buffer(self) -> SlotBuffer:
        return self.session.slot_buffer()

    def pixels(self) -> PixelKernels | None:
        return self.session.pixels()


def check_inputs(spec: GraphSpec, inputs: Mapping[str, Array]) -> dict[str, Array]:
    """The inputs as C-contiguous arrays of the contract's dtypes, or InputError.

    Names must match exactly, dtypes must match, and one symbol has one size per call.
    """
    expected = {t.name for t in spec.inputs}
    if set(inputs) != expected:
        raise InputError(f"graph {spec.name} takes {sorted(expected)}, got {sorted(inputs)}")
    sizes: dict[str, int] = {}
    checked: dict[str, Array] = {}
    for tensor in spec.inputs:
        array = inputs[tensor.name]
        fits = array.dtype == tensor.dtype and array.ndim == len(tensor.shape)
        if fits:
            for dim, size in zip(tensor.shape, array.shape, strict=True):
                fits &= size == (sizes.setdefault(dim, size) if isinstance(dim, str) else dim)
        if not fits:
            raise InputError(
                f"{spec.name}.{tensor.name}: expected {tensor.dtype} {list(tensor.shape)} "
                f"with {sizes}, got {array.dtype} {list(array.shape)}"
            )
        # a tensor on a GPU is contiguous, and numpy would download it
        checked[tensor.name] = array if lies_on_gpu(array) else np.ascontiguousarray(array)
    batch = sizes.get("N", 1)
    for symbol in ("I", "G"):
        if sizes.get(symbol, 1) not in (1, batch):
            raise InputError(
                f"graph {spec.name}: {symbol} = {sizes[symbol]} must be 1 or the number of "
                f"objects {batch}"
            )
    return checked
