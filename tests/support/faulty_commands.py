"""Commands that are cut off, killed, or find a full disk, each in a process forked for it.

The processes share what was imported once (tests/support/faults/server.py), so that a run costs
its own work alone.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
#: code of a process that was cut off
CUT = 86
#: what a command imports, and more than it needs: a fork shares it
MODULES = (
    "sam2rt.cli.main", "sam2rt.export.bundle", "sam2rt.export.prove", "sam2rt.training.run",
    "sam2rt.runtime.tasks.track", "sam2rt.runtime.tasks.segment", "sam2rt.runtime.tasks.masks",
    "sam2rt.runtime.backends.onnxruntime_session", "sam2rt.export.engines.build",
    "sam2rt.export.checkpoint.download", "sam2rt.export.checkpoint.hub",
    "sam2rt.cli.commands.evaluate", "cv2", "PIL.Image", "av", "onnxscript",
)  # fmt: skip


@dataclass(frozen=True)
class Ran:
    """How a command ended: code 86 where it was cut off, -9 where it was killed."""

    code: int
    out: str
    err: str
    #: the calls that changed the watched folder, where it came to its end
    calls: list[str]
    seconds: float
    #: whether processes that it started outlived it
    left: bool


@dataclass
class Commands:
    """Runs commands; made by :func:`commands_of`."""

    process: subprocess.Popen[str]
    cwd: Path
    env: dict[str, str] = field(default_factory=dict)
    #: ("module:function", arguments) called in the process before the command
    setup: list[tuple[str, list[Any]]] = field(default_factory=list)

    def run(
        self,
        arguments: Sequence[str | Path],
        folder: Path | None = None,
        mode: str = "count",
        at: int = 0,
        *,
        kept: Path | None = None,
        kill_after: float | None = None,
    ) -> Ran:
        """Run a command line, whose changes of the folder fail as `mode` says.

        mode: "count", "cut" (ends before step `at`), "full" (no room from step `at` on). kept:
        gets a copy of the folder before each step that changes a name in it, or what a reader
        finds. kill_after: seconds until it is killed.
        """
        request = {
            "arguments": [str(a) for a in arguments], "cwd": str(self.cwd), "env": self.env,
            "setup": self.setup, "folder": str(folder) if folder else "", "mode": mode, "at": at,
            "kept": str(kept) if kept else None, "kill_after": kill_after,
        }  # fmt: skip
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(request) + "\n")
        self.process.stdin.flush()
        return Ran(**json.loads(self.process.stdout.readline()))


def _layer(folder: Path) -> Path:
    """The layer of faults, compiled."""
    compiler = shutil.which("cc")
    if compiler is None or not sys.platform.startswith("linux"):
        pytest.skip("needs a C compiler and Linux")
    made = folder / "faults.so"
    source = HERE / "faults" / "layer.c"
    subprocess.run(
        [compiler, "-O1", "-Wall", "-shared", "-fPIC", "-o", made, source, "-ldl"], check=True
    )
    return made


@contextmanager
def commands_of(folder: Path, modules: Sequence[str] = MODULES) -> Iterator[Commands]:
    """A process that runs commands while the block runs; `folder` is theirs to work in."""
    temporary = folder / "tmp"
    temporary.mkdir()
    environment = {
        **os.environ, "LD_PRELOAD": str(_layer(folder)), "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1", "TMPDIR": str(temporary), "PYTHONPATH": str(HERE),
    }  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, str(HERE / "faults" / "server.py"), *modules],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment,
    )  # fmt: skip
    try:
        yield Commands(process, folder)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        process.wait(timeout=60)
