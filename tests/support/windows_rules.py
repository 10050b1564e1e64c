"""The rules of Windows for files, played on Linux: no locks, no rename to a taken name; what is
open is neither moved nor removed, what is protected neither replaced nor removed."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sam2rt.configs import exchange, leftovers, staging, systems
from sam2rt.export.checkpoint import transfer


def open_below(path: str | os.PathLike[str]) -> bool:
    """Whether this process has the file open, or one in that folder."""
    wanted = os.path.abspath(path)
    for descriptor in os.listdir("/proc/self/fd"):
        try:
            opened = os.readlink(f"/proc/self/fd/{descriptor}")
        except OSError:
            continue
        if opened == wanted or opened.startswith(wanted + "/"):
            return True
    return False


def play_windows(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """From now on; gives the list of the pauses that are made, which take no time."""
    real: dict[str, Callable[..., Any]] = {
        name: getattr(os, name) for name in ("rename", "replace", "unlink")
    }

    def refuse(number: int, path: object) -> None:
        raise OSError(number, os.strerror(number), str(path))

    def checked(name: str, *paths: Any, **options: Any) -> Any:
        for path in paths:
            if open_below(path) and (name != "replace" or not Path(path).is_dir()):
                refuse(errno.EACCES, path)
        if name == "rename" and os.path.lexists(paths[1]):
            refuse(errno.EEXIST, paths[1])
        read_only = name != "rename" and os.path.isfile(paths[-1])
        if read_only and not os.stat(paths[-1]).st_mode & 0o200:
            refuse(errno.EACCES, paths[-1])
        return real[name](*paths, **options)

    def of(name: str) -> Callable[..., Any]:
        return lambda *paths, **options: checked(name, *paths, **options)

    for name in real:
        monkeypatch.setattr(os, name, of(name))
    for module in (leftovers, transfer):
        monkeypatch.setattr(module, "fcntl", None)
    monkeypatch.setattr(staging, "exchanged", lambda *_: False)
    monkeypatch.setattr(exchange, "_renameat2", lambda: None)
    monkeypatch.setattr(systems, "WINDOWS", True)
    pauses: list[float] = []
    monkeypatch.setattr(systems.time, "sleep", pauses.append)
    return pauses
