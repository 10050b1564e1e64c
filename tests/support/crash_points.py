"""Cuts a process off right before one of the steps that change a folder, as a lost machine would.

The steps are what Python's audit events name (opening a file to write, renaming, removing, making
folders, permissions), and flushes to disk.
"""

from __future__ import annotations

import os
import sys
from typing import Any

#: code of a process that was cut off
CUT = 86
_EVENTS = {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.truncate", "os.link"}


def watch(folder: str, cut_at: int) -> None:
    """From now on, end the process before step number `cut_at` in `folder`; for ever."""
    steps = 0

    def step() -> None:
        nonlocal steps
        steps += 1
        if steps == cut_at:
            os._exit(CUT)

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = args
            writes = isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT)
            if not writes or not isinstance(path, (str, bytes)):
                return
        elif event not in _EVENTS:
            return
        if os.fsdecode(args[0]).startswith(folder):
            step()

    fsync = os.fsync

    def flush(descriptor: int) -> None:
        step()
        fsync(descriptor)

    os.fsync = flush
    sys.addaudithook(hook)
