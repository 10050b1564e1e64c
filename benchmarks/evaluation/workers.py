"""Videos of a job in processes of their own, each with a session it opens once."""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections import deque
from collections.abc import Callable, Generator
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from typing import TYPE_CHECKING, Any

from ...configs import errors
from ...configs.errors import Sam2rtError, SessionError
from ...configs.progress import Progress

if TYPE_CHECKING:
    from .job import Job


#: (index of a video, its record), in the order in which they are finished
FinishedVideos = Generator[tuple[int, dict[str, Any]], None, None]
#: seconds between two reports of a process on how far its video is
_REPORT_EVERY = 1.0


def in_processes(
    job: Job, todo: list[int], processes: int, moved: Callable[[float], None]
) -> FinishedVideos:
    """Evaluate videos of a job in that many processes at most.

    moved: called with the videos' worth of work done on those that are under way.
    Closing the iterator, an interrupt or an error ends the processes. Raises what a process
    raised, SessionError when one died.
    """
    # forked children of a process with running threads can hang
    context = multiprocessing.get_context("spawn")
    waiting = deque(todo)
    workers: list[_Worker] = []
    try:
        for _ in range(min(processes, len(todo))):
            workers.append(_Worker(context, job))
        busy = {w.connection: w for w in workers}
        for worker in workers:
            worker.send(waiting.popleft())
        while busy:
            for connection in wait(list(busy)):
                worker = busy[connection]  # type: ignore[index]
                record = worker.received()
                if record is None:
                    moved(sum(w.share for w in busy.values()))
                    continue
                yield record
                worker.send(waiting.popleft() if waiting else None)
                if worker.index is None:
                    del busy[worker.connection]
    finally:
        for worker in workers:
            worker.end()


class _Worker:
    def __init__(self, context: SpawnContext, job: Job) -> None:
        self.connection, far_end = context.Pipe()
        self.process = context.Process(target=_serve, args=(far_end, job), daemon=True)
        self.process.start()
        # only the process holds its end now: when it dies, this one reports the end of file
        far_end.close()
        self.index: int | None = None
        #: of its video, as far as it reported
        self.share = 0.0

    def send(self, index: int | None) -> None:
        """Hand over a video, or None when there are no more."""
        self.index, self.share = index, 0.0
        try:
            self.connection.send(index)
        except OSError:
            self._raise_death()

    def received(self) -> tuple[int, dict[str, Any]] | None:
        """The record of its video, None when it reported how far it is."""
        assert self.index is not None
        try:
            kind, *content = self.connection.recv()
        except (EOFError, OSError):
            self._raise_death()
        if kind == "error":
            raise _revived(*content)
        if kind == "at":
            self.share = content[0]
            return None
        return self.index, content[0]

    def end(self) -> None:
        self.process.terminate()
        self.process.join()
        self.connection.close()

    def _raise_death(self) -> None:
        self.process.join(5)
        raise SessionError(
            f"a process evaluating videos ended (exit code {self.process.exitcode}): was memory "
            "short? Run again with fewer --processes, finished videos are kept"
        ) from None


def _serve(connection: Connection, job: Job) -> None:
    """What a process runs: a session, and videos until there are no more."""
    # Ctrl-C reaches the whole group; who started us ends us
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        with job.opener.open() as session:
            while (index := connection.recv()) is not None:
                record = job.record(session, index, _reporter(connection))
                connection.send(("done", record))
    except (EOFError, ConnectionError):
        # who started us has gone
        return
    except (Sam2rtError, OSError, MemoryError) as error:
        connection.send(("error", type(error).__name__, str(error)))


def _reporter(connection: Connection) -> Progress:
    reported = time.monotonic()

    def report(what: str, done: int = 0, total: int | None = None) -> None:
        nonlocal reported
        if total and time.monotonic() - reported >= _REPORT_EVERY:
            reported = time.monotonic()
            connection.send(("at", done / total))

    return report


def _revived(kind: str, message: str) -> Exception:
    """An error of a process; those with arguments of their own cannot be sent as they are."""
    cls = getattr(errors, kind, None)
    if cls is None:
        return MemoryError(message) if kind.endswith("MemoryError") else OSError(message)
    error: Exception = cls.__new__(cls)
    Exception.__init__(error, message)
    return error
