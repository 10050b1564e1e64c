"""The systems a benchmark compares, each in a process of its own.

Separate processes keep one system's threads and memory out of the other's figures; they are
asked for one frame in rotation, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import time
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any, Protocol

from ....configs.closing import Closing
from ....configs.errors import Sam2rtError, SessionError
from ....configs.systems import peak_memory_bytes
from ....runtime.arrays import Array

#: in the order in which a frame passes them; a fused graph stands for the three before it
STAGES = (
    "image_encoder",
    "memory_attention",
    "mask_decoder",
    "memory_encoder",
    "track_step",
    "other",
)
#: what a frame costs per object: everything but the encoder and what lies between graphs
TRACKING = STAGES[1:-1]
#: frame at which measuring starts: late enough for all memories and pointers to lie before it
LATER = 32
#: before the name of a stage: seconds of processor time, all threads together
CPU = "cpu "


@dataclass(frozen=True)
class Work:
    """What every system of one comparison does, frame by frame."""

    objects: int = 1
    #: memories attended to; below the model's 7 the growing phase is measured
    memories: int = 7
    pointers: int = 16
    threads: int = 2
    #: (height, width) of the frames fed, pixels
    frame_size: tuple[int, int] = (720, 1280)
    #: a video (or folder of images) that frames are taken from; None: noise
    video: str | None = None
    #: frames of the clip whose masks are compared, 0: none
    scored_frames: int = 8


@dataclass(frozen=True)
class Tracked:
    """What a system made of the clip that all systems are scored on."""

    #: [T, N, H, W] bool, at frame size
    masks: Array
    #: which of the decoder's four masks was taken, [T, N]; -1 where that cannot be seen
    choices: Array


class System(Protocol):
    """One way to track; made and used inside its worker process."""

    def load(self) -> dict[str, Any]:
        """Make ready what is needed once; gives facts such as the seconds."""
        ...

    def set_up(self, work: Work) -> dict[str, float]:
        """Start a clip, prompt, fill the memories as `work` says; gives "first_frame_s"."""
        ...

    def frame(self) -> dict[str, float]:
        """Track one frame: seconds per stage and "total"; with CPU before it, the processor's.

        "cpu" alone is the process's time of the whole frame.
        """
        ...

    def tracked(self, work: Work) -> Tracked | None:
        """Track the clip that masks are compared on; None where whole frames are not tracked."""
        ...

    def operations(self) -> dict[str, float]:
        """Matrix operations (two per multiply-add) of the last frame, per stage known."""
        ...


@dataclass
class Measured:
    """What one system gave: facts of its start, and seconds per stage and frame."""

    name: str
    facts: dict[str, Any] = field(default_factory=dict)
    frames: list[dict[str, float]] = field(default_factory=list)

    def stage(self, name: str) -> list[float]:
        """Seconds of each frame that had the stage; "tracking" is the sum over objects' stages."""
        return stage_seconds(self.frames, name)


def stage_seconds(frames: Sequence[Mapping[str, float]], name: str, kind: str = "") -> list[float]:
    """See :meth:`Measured.stage`; `kind` is CPU for processor time."""
    if kind and name in ("total", "cpu"):
        return stage_seconds(frames, "cpu") if name == "total" else []
    if name == "tracking":
        sums = [[f[kind + s] for s in TRACKING if kind + s in f] for f in frames]
        return [sum(parts) for parts in sums if parts]
    return [frame[kind + name] for frame in frames if kind + name in frame]


def whole_frame(stages: Mapping[str, float], total: float, cpu: float) -> dict[str, float]:
    """What a frame took: its stages, wall and CPU, and what lay between them."""
    spent = dict.fromkeys(("", CPU), 0.0)
    for name, seconds in stages.items():
        spent[CPU if name.startswith(CPU) else ""] += seconds
    between = {"other": total - spent[""], CPU + "other": cpu - spent[CPU]}
    return {**stages, **between, "total": total, "cpu": cpu}


class Worker(Closing):
    """A system in a process of its own. Use as a context manager."""

    def __init__(self, name: str, target: str, work: Work, **options: Any) -> None:
        """`target` is "module:Class"; options go to its constructor."""
        self.measured = Measured(name)
        self._work = work
        context = multiprocessing.get_context("spawn")
        self._pipe, far_end = context.Pipe()
        self._process = context.Process(
            target=_serve, args=(far_end, target, work, options), daemon=True
        )

    def __enter__(self) -> Worker:
        self._process.start()
        return self

    def close(self) -> None:
        self._process.terminate()
        self._process.join()

    def load(self) -> None:
        self.measured.facts.update(self._ask("load"))

    def prepare(self) -> None:
        """Load and reach the state that the work asks for; one frame is not counted."""
        self.load()
        start = time.perf_counter()
        self.measured.facts.update(self._ask("set_up", self._work))
        self._ask("frame")
        self.measured.facts["warm_up_s"] = time.perf_counter() - start

    def frame(self) -> None:
        self.measured.frames.append(self._ask("frame"))

    def finish(self) -> None:
        """Note the peak memory so far."""
        self.measured.facts["peak_memory_mib"] = self._ask("memory") / 1024

    def operations(self) -> None:
        self.measured.facts["operations"] = self._ask("operations")

    def set_up(self, work: Work) -> None:
        """Go to other work; one frame is not counted, peak memory starts anew."""
        self._ask("forget_peak")
        self._ask("set_up", work)
        self._ask("frame")

    def extra_frame(self) -> dict[str, float]:
        """A frame of other work: not among those measured."""
        seconds: dict[str, float] = self._ask("frame")
        return seconds

    def peak_memory_mib(self) -> float:
        return float(self._ask("memory")) / 1024

    def clip(self, count: int, prefetch: bool) -> float:
        """See ``Sam2rtSystem.clip``: of sam2rt systems alone."""
        return float(self._ask("clip", count, prefetch))

    def tracked(self) -> Tracked | None:
        found: Tracked | None = self._ask("tracked", self._work)
        return found

    def _ask(self, what: str, *arguments: Any) -> Any:
        name = self.measured.name
        try:
            self._pipe.send((what, arguments))
            answer, error = self._pipe.recv()
        except (EOFError, OSError):
            self._process.join(1)
            code = self._process.exitcode
            raise SessionError(f"the process of '{name}' ended (exit code {code})") from None
        if error is not None:
            raise SessionError(f"'{name}' failed: {error}")
        return answer


def _forget_peak() -> None:
    """Start peak memory anew; where the system does not allow it, it goes on."""
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")


def _serve(pipe: Connection, target: str, work: Work, options: dict[str, Any]) -> None:
    """The worker process: answers requests until its parent goes."""
    module, _, name = target.partition(":")
    system: System | None = None
    while True:
        try:
            what, arguments = pipe.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            if system is None:
                made: System = getattr(importlib.import_module(module), name)(work, **options)
                system = made
            if what == "memory":
                answer: Any = peak_memory_bytes() // 1024
            elif what == "forget_peak":
                _forget_peak()
                answer = None
            else:
                answer = getattr(system, what)(*arguments)
            pipe.send((answer, None))
        except KeyboardInterrupt:
            return
        except Sam2rtError as error:
            pipe.send((None, str(error)))
        except Exception:
            # the parent prints one line: the last of the traceback
            pipe.send((None, traceback.format_exc().strip().splitlines()[-1]))
