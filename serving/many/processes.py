"""Workers that are processes of this machine, each with a session it opens once."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import time
from collections.abc import Sequence
from contextlib import suppress
from multiprocessing.connection import Connection, wait
from typing import Any

from ...configs.progress import Progress
from .spread import CAUGHT, Fault, Notice, SpreadWork

#: seconds between two reports of a process on how far its item is
REPORT_EVERY = 1.0
#: processes unless said otherwise: each holds a model of its own
_MOST_PROCESSES = 8
#: seconds that a process has to end by itself
_PATIENCE = 5.0


def shared_cores(wanted: int | None, device: str, items: int) -> tuple[int, int | None]:
    """How many processes, and the threads of each (None: the backend decides)."""
    if device != "cpu":
        return wanted or 1, None
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    count = max(min(wanted or min(cores or 1, _MOST_PROCESSES), items), 1)
    return count, max((cores or 1) // count, 1)


class ProcessTeam:
    """A team of processes; see :class:`~sam2rt.serving.many.spread.Team`."""

    def __init__(self, work: SpreadWork) -> None:
        self._work = work
        # forked children of a process with running threads can hang
        self._context = multiprocessing.get_context("spawn")
        self._numbers = itertools.count()
        self._workers: dict[int, tuple[Any, Connection]] = {}

    def start(self) -> None:
        near, far = self._context.Pipe()
        process = self._context.Process(target=serve, args=(far, self._work), daemon=True)
        process.start()
        # only the process holds its end now: when it dies, this one reports the end of file
        far.close()
        self._workers[next(self._numbers)] = process, near

    def give(self, worker: int, item: Any) -> None:
        # of one that has died, the notice comes
        with suppress(OSError):
            self._workers[worker][1].send(("item", item))

    def notices(self) -> Sequence[Notice]:
        numbers = {connection: n for n, (_, connection) in self._workers.items()}
        ready = wait(list(numbers))
        return [self._notice(numbers[connection]) for connection in ready]  # type: ignore[index]

    def _notice(self, number: int) -> Notice:
        process, connection = self._workers[number]
        try:
            kind, value = connection.recv()
        except (EOFError, OSError):
            process.join(_PATIENCE)
            self._end(number)
            return Notice(number, "dead", f"its process ended (exit code {process.exitcode})")
        return Notice(number, kind, value)

    def close(self) -> None:
        for process, _ in self._workers.values():
            process.terminate()
        for number in list(self._workers):
            self._end(number)

    def _end(self, number: int) -> None:
        process, connection = self._workers.pop(number)
        process.join(_PATIENCE)
        if process.is_alive():
            process.kill()
            process.join()
        connection.close()


def serve(connection: Connection, work: SpreadWork) -> None:
    """What a process runs: it opens the work and does items until who started it has gone."""
    # Ctrl-C reaches the whole group; who started us ends us
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        _serve(connection, work)
    except (EOFError, ConnectionError):
        # who started us has gone
        return


def _serve(connection: Connection, work: SpreadWork) -> None:
    opened = False
    try:
        with work.open() as run:
            opened = True
            connection.send(("ready", None))
            while True:
                _, item = connection.recv()
                connection.send(_done(run, item, _reporter(connection)))
    except CAUGHT as error:
        if opened:
            raise
        connection.send(("unusable", Fault.of(error)))


def _done(run: Any, item: Any, report: Progress) -> tuple[str, Any]:
    try:
        return "done", run(item, report)
    except _Gone:
        raise
    except CAUGHT as error:
        return "failed", Fault.of(error)


class _Gone(ConnectionError):
    """Nobody takes reports any more: whatever is under way ends."""


def _reporter(connection: Connection) -> Progress:
    reported = time.monotonic()

    def report(what: str, done: int = 0, total: int | None = None) -> None:
        nonlocal reported
        if total and time.monotonic() - reported >= REPORT_EVERY:
            reported = time.monotonic()
            try:
                connection.send(("at", (done, total)))
            except OSError:
                raise _Gone from None

    return report
