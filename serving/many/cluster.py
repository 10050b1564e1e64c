"""Workers that are Ray's actors, one a device, each with a session it opens once.

What goes through Ray is small: the clip's name and prompts there, a record of numbers back. Frames
and masks never enter its object store. Ray is imported when a cluster is joined, and says nothing
to its makers: usage statistics are off, and no dashboard is started.
"""

from __future__ import annotations

import itertools
import logging
import os
import signal
import socket
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Any

from ...configs.errors import SessionError
from ...configs.extras import extras_of
from ...configs.progress import silent
from ...configs.remedies import line_of
from .processes import shared_cores
from .spread import CAUGHT, Fault, Notice, SpreadWork

#: an address that starts a cluster on this machine, for the time of the run
LOCAL = "local"
#: seconds until one looks again whether workers came
_MOMENT = 1.0
#: seconds in which a cluster has to answer
_PATIENCE = 10.0


@dataclass(frozen=True)
class Cluster:
    """A cluster that this process has joined.

    workers: how many are asked for. threads: of each, None where the backend decides. gpus: that
    each takes.
    """

    ray: Any
    workers: int
    threads: int | None
    gpus: int


def joined_cluster(address: str, workers: int | None, threads: int | None, device: str) -> Cluster:
    """Join a cluster by its address; "local" starts one of this machine's cores.

    workers: None for one a GPU, or, on CPUs, one for each `threads` cores (1 unless given). Raises
    MissingExtraError without Ray, SessionError where there is no cluster.
    """
    with extras_of("a cluster of Ray"):
        import ray
    gpus = 0 if device == "cpu" else 1
    # before Ray reads it: no request leaves the machine
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    options: dict[str, Any] = {}
    if address == LOCAL:
        count, share = shared_cores(workers, device, 1 << 30)
        threads = threads or share
        options = {"include_dashboard": False, "num_cpus": count * (threads or 1)}
    _refuse_silent(address)
    with _own_signals():
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, **options)
        except (OSError, RuntimeError, ValueError) as error:
            raise _no_cluster(address, error) from None
    found = ray.cluster_resources()
    room = found.get("GPU", 0) if gpus else found.get("CPU", 0) // (threads or 1)
    if room < 1:
        what = "a GPU" if gpus else f"{threads or 1} cores"
        ray.shutdown()
        raise SessionError(f"the cluster at {address} has no machine with {what}: add one")
    return Cluster(ray, workers or int(room), threads if gpus else threads or 1, gpus)


def _refuse_silent(address: str) -> None:
    """Ray itself would ask for minutes where nobody answers."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host:
        return
    try:
        if not port.isdecimal():
            raise OSError("no number after the colon")
        socket.create_connection((host, int(port)), _PATIENCE).close()
    except (OSError, OverflowError) as error:
        raise _no_cluster(address, error) from None


def _no_cluster(address: str, error: BaseException) -> SessionError:
    return SessionError(
        f"no cluster of Ray at {address} ({line_of(error)}): expected the address that "
        "'ray start' gave, or 'local'"
    )


@contextmanager
def _own_signals() -> Iterator[None]:
    """Ray puts a handler of its own in the place of ours."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


class RayTeam:
    """A team of actors; see :class:`~sam2rt.serving.many.spread.Team`."""

    def __init__(self, cluster: Cluster, work: SpreadWork) -> None:
        self._ray, self._work = cluster.ray, work
        # an item that its actor's death interrupts is handed out by whoever asks us, not by Ray
        self._actor = cluster.ray.remote(RayWorker).options(
            num_cpus=cluster.threads or 1, num_gpus=cluster.gpus, max_restarts=0
        )
        self._numbers = itertools.count()
        self._actors: dict[int, Any] = {}
        #: what is awaited, and of whom
        self._awaited: dict[Any, int] = {}

    def start(self) -> None:
        number = next(self._numbers)
        self._actors[number] = actor = self._actor.remote(self._work)
        self._awaited[actor.opened.remote()] = number

    def give(self, worker: int, item: Any) -> None:
        self._awaited[self._actors[worker].done.remote(item)] = worker

    def notices(self) -> Sequence[Notice]:
        ready, _ = self._ray.wait(list(self._awaited), num_returns=1, timeout=_MOMENT)
        return [self._notice(reference) for reference in ready]

    def _notice(self, reference: Any) -> Notice:
        number = self._awaited.pop(reference)
        try:
            kind, value = self._ray.get(reference)
        except self._ray.exceptions.RayError as error:
            self._end(self._actors.pop(number))
            return Notice(number, "dead", f"its actor ended ({_reason(error)})")
        return Notice(number, kind, value)

    def close(self) -> None:
        for actor in self._actors.values():
            self._end(actor)
        self._actors.clear()
        self._ray.shutdown()

    def _end(self, actor: Any) -> None:
        with suppress(self._ray.exceptions.RayError, ValueError):
            self._ray.kill(actor)


class RayWorker:
    """The actor: opens the work when it is made, and does one item after the other."""

    def __init__(self, work: SpreadWork) -> None:
        self._notice: tuple[str, Any] = "ready", None
        # open until the actor ends
        self._opened = work.open()
        try:
            self._run = self._opened.__enter__()
        except CAUGHT as error:
            self._notice = "unusable", Fault.of(error)

    def opened(self) -> tuple[str, Any]:
        """Whether the work could be opened."""
        return self._notice

    def done(self, item: Any) -> tuple[str, Any]:
        """What came of an item."""
        try:
            return "done", self._run(item, silent)
        except CAUGHT as error:
            return "failed", Fault.of(error)


def _reason(error: BaseException) -> str:
    """The first line of Ray's account, which has many."""
    return line_of(error).partition(". ")[0][:200]
