"""The systems a benchmark compares, each in a process of its own.

Separate processes keep one system's threads and memory out of the other's figures; they are
asked for one frame in turn, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import importlib
import multiprocessing
import re
import traceback
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from ..configs.errors import Sam2rtError, SessionError

STAGES = ("image_encoder", "memory_attention", "mask_decoder", "memory_encoder", "other")


@dataclass(frozen=True)
class Work:
    """What every system of one comparison does, frame by frame, in the steady state."""

    objects: int = 1
    #: memories attended to; below the model's 7 the growing phase is measured
    memories: int = 7
    pointers: int = 16
    threads: int = 2
    #: (height, width) of the frames fed, pixels
    frame_size: tuple[int, int] = (720, 1280)


class System(Protocol):
    """One way to track; made and used inside its worker process."""

    def prepare(self) -> dict[str, Any]:
        """Load, prompt, fill the memories; gives facts such as load and first-frame seconds."""
        ...

    def frame(self) -> dict[str, float]:
        """Track one frame in the steady state: seconds per stage, and their sum as "total"."""
        ...


@dataclass
class Measured:
    """What one system gave: facts of its start, and seconds per stage and frame."""

    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    frames: list[dict[str, float]] = field(default_factory=list)

    def stage(self, name: str) -> list[float]:
        return [frame[name] for frame in self.frames if name in frame]


class Worker:
    """A system in a process of its own. Use as a context manager."""

    def __init__(self, name: str, target: str, work: Work, **options: Any) -> None:
        """`target` is "module:Class" below this package; options go to its constructor."""
        self.measured = Measured(name)
        context = multiprocessing.get_context("spawn")
        self._pipe, theirs = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(theirs, target, work, options), daemon=True
        )

    def __enter__(self) -> Worker:
        self._process.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._process.terminate()
        self._process.join()

    def prepare(self) -> None:
        self.measured.facts.update(self._ask("prepare"))

    def frame(self) -> None:
        self.measured.frames.append(self._ask("frame"))

    def finish(self) -> None:
        self.measured.facts["peak_memory_mib"] = self._ask("memory") / 1024

    def _ask(self, what: str) -> Any:
        name = self.measured.name
        try:
            self._pipe.send(what)
            answer, error = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(1)
            code = self._process.exitcode
            raise SessionError(f"the process of '{name}' ended (exit code {code})") from None
        if error is not None:
            raise SessionError(f"'{name}' failed: {error}")
        return answer


def _peak_kib() -> int:
    """Peak resident memory of this process (getrusage would count its parent's too)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    match = re.search(r"VmHWM:\s+(\d+) kB", status)
    return int(match.group(1)) if match else 0


def _serve(pipe: Connection, target: str, work: Work, options: dict[str, Any]) -> None:
    """The worker process: answers requests until its parent goes."""
    module, _, name = target.partition(":")
    system: System | None = None
    while True:
        try:
            what = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            if system is None:
                made: System = getattr(importlib.import_module(module), name)(work, **options)
                system = made
            if what == "memory":
                answer: Any = _peak_kib()
            else:
                answer = getattr(system, what)()
            pipe.send((answer, None))
        except KeyboardInterrupt:
            return
        except Sam2rtError as error:
            pipe.send((None, str(error)))
        except Exception:
            # the parent prints one line; which one is decided by the last of ours
            pipe.send((None, traceback.format_exc().strip().splitlines()[-1]))
