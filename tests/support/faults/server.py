"""Runs commands in processes that are forked after everything was imported, and lets them fail.

A line of JSON in, a line out; started by :mod:`faulty_commands` with the layer of faults loaded.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: how a step fails, as in layer.c
MODES = {"count": 0, "cut": 1, "full": 2}
_SEEN = ctypes.CFUNCTYPE(None, ctypes.c_long, ctypes.c_char_p)
_layer = ctypes.CDLL(None)


def _looks(folder: str) -> dict[str, Any]:
    """All names in a folder; of files that a reader would open, also which and how large."""
    found: dict[str, Any] = {}
    for path in Path(folder).rglob("*"):
        name = path.relative_to(folder)
        hidden = any(part.startswith(".") for part in name.parts)
        about = path.lstat()
        found[str(name)] = None if hidden else (about.st_ino, about.st_size, about.st_mtime_ns)
    return found


def _watched(request: dict[str, Any], calls: list[str]) -> Callable[[], None]:
    """Watch the request's folder; gives what ends it. `calls`: gets the name of each step."""
    folder, kept = request["folder"], request.get("kept")
    last: dict[str, Any] | None = None

    @_SEEN
    def seen(number: int, call: bytes) -> None:
        nonlocal last
        calls.append(call.decode())
        if kept and (now := _looks(folder)) != last:
            last = now
            shutil.copytree(folder, f"{kept}/{number:05d}", symlinks=True)

    arm = _layer.faults_arm
    arm.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_long, _SEEN)
    arm(os.fsencode(folder), MODES[request["mode"]], request["at"], seen)
    # what the layer calls has to live as long as it may
    return lambda: (_layer.faults_disarm(), seen)[0]


def _child(request: dict[str, Any], outputs: list[int]) -> None:
    """The command, in this process, to its end."""
    os.setsid()
    for number, file in enumerate(outputs, 1):
        os.dup2(file, number)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.chdir(request["cwd"])
    os.environ.update(request["env"])
    for name, arguments in request["setup"]:
        module, _, function = name.partition(":")
        getattr(importlib.import_module(module), function)(*arguments)
    calls: list[str] = []
    end = _watched(request, calls) if request["folder"] else lambda: None
    code = 1
    try:
        from sam2rt.cli import main

        main(request["arguments"])
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        # as an interpreter ends
        threading._shutdown()  # type: ignore[attr-defined]
        atexit._run_exitfuncs()
        sys.stdout.flush()
        sys.stderr.flush()
        end()
        Path(request["trace"]).write_text("\n".join(calls))
        os._exit(code)


def _ended(child: int, seconds: float | None) -> int:
    """The child's code once it has ended; killed after so many seconds, with all it started."""
    file = os.pidfd_open(child)
    if not select.select([file], [], [], seconds)[0]:
        # its workers are its own to end
        os.kill(child, signal.SIGKILL)
    status = os.waitpid(child, 0)[1]
    os.close(file)
    return os.waitstatus_to_exitcode(status)


def _group_left(child: int) -> bool:
    """Whether processes of the child's group live on, half a minute after it."""
    for _ in range(300):
        try:
            os.killpg(child, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.1)
    os.killpg(child, signal.SIGKILL)
    return True


def _served(request: dict[str, Any]) -> dict[str, Any]:
    with (
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
        tempfile.NamedTemporaryFile() as trace,
    ):
        start = time.monotonic()
        request["trace"] = trace.name
        child = os.fork()
        if child == 0:
            try:
                _child(request, [out.fileno(), err.fileno()])
            finally:
                os._exit(99)
        code = _ended(child, request["kill_after"])
        seconds = time.monotonic() - start
        left = _group_left(child)
        out.seek(0), err.seek(0)
        return {
            "code": code,
            "out": out.read().decode("utf-8", "backslashreplace"),
            "err": err.read().decode("utf-8", "backslashreplace"),
            "calls": Path(trace.name).read_text().split("\n") if trace.read() else [],
            "seconds": seconds,
            "left": left,
        }


def main() -> None:
    """MODULES...: imported before any request."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for name in sys.argv[1:]:
        importlib.import_module(name)
    for line in sys.stdin:
        print(json.dumps(_served(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
