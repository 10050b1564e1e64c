"""Temporary names of writers, locked while their process lives: the next run tells what a killed
one left behind, and clears it away.

A name is ``.NAME.XXXXXXXX.part`` for what is being written, ``.old`` for what was replaced.
"""

from __future__ import annotations

import os
import re
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from .errors import InputError

try:
    import fcntl
except ImportError:  # Windows: no lock, hence no clearing of what killed runs left
    fcntl = None  # type: ignore[assignment]

PART, OLD = ".part", ".old"


def new_folder(final: Path, suffix: str) -> tuple[Path, int | None]:
    """A temporary neighbour of `final`, and the descriptor that holds its lock."""
    while True:
        folder = tempfile.mkdtemp(prefix=f".{final.name}.", suffix=suffix, dir=final.parent)
        lock = _lock(Path(folder), wait=True)
        # another run may have taken it for a leftover before the lock was held
        if os.path.isdir(folder):
            return Path(folder), lock
        unlock(lock)


def new_file(final: Path, ending: str = "") -> tuple[Path, int | None]:
    """An empty file beside `final`, and its descriptor, which holds its lock.

    `ending` ends its name, for writers that read the format off it.
    """
    while True:
        descriptor, name = tempfile.mkstemp(
            prefix=f".{final.name}.", suffix=PART + ending, dir=final.parent
        )
        if fcntl is None:
            # an open file cannot be renamed there
            os.close(descriptor)
            return Path(name), None
        # a file system without locks has no leftovers that can be told either
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        if os.path.lexists(name):
            return Path(name), descriptor
        os.close(descriptor)


def dead_folders(final: Path) -> Iterator[tuple[Path, int]]:
    """Temporary folders of `final` whose process has ended, each locked until the next."""
    # eight characters of mkdtemp: ".sam2.1.XXXXXXXX.old" is no leftover of "sam2"
    ours = re.compile(rf"\.{re.escape(final.name)}\.\w{{8}}({re.escape(PART)}|{re.escape(OLD)})")
    yield from _dead(final, ours, stat.S_ISDIR)


def clear_files(final: Path) -> None:
    """Remove the temporary files of `final` whose process has ended.

    Whatever cannot be looked at or removed stays.
    """
    ours = re.compile(rf"\.{re.escape(final.name)}\.\w{{8}}{re.escape(PART)}(\.\w+)?")
    with suppress(OSError):
        for left, _ in _dead(final, ours, stat.S_ISREG):
            with suppress(OSError):
                left.unlink()


def clear_folders(final: Path) -> None:
    """Remove the temporary folders of `final` whose process has ended, as `clear_files`."""
    with suppress(OSError):
        for left, _ in dead_folders(final):
            shutil.rmtree(left, ignore_errors=True)


def _dead(
    final: Path, ours: re.Pattern[str], kind: Callable[[int], bool]
) -> Iterator[tuple[Path, int]]:
    for left in final.parent.iterdir():
        if not ours.fullmatch(left.name) or not _is_ours(left, kind):
            continue
        lock = _lock(left, wait=False)
        if lock is None:
            continue
        try:
            yield left, lock
        finally:
            unlock(lock)


def _is_ours(path: Path, kind: Callable[[int], bool]) -> bool:
    """Of that kind, no link, and made by this user: others' folders may lie beside ours."""
    try:
        found = path.lstat()
    except OSError:
        return False
    own = not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
    return own and kind(found.st_mode)


def owned_folder(folder: Path) -> int | None:
    """Lock a folder for this process, until what is given back is closed (None: no locks here).

    Raises InputError where another process has it.
    """
    descriptor = _lock(folder, wait=False)
    if descriptor is None and fcntl is not None:
        raise InputError(f"{folder} is in use by another process: name another folder, or end it")
    return descriptor


def _lock(path: Path, *, wait: bool) -> int | None:
    """A descriptor holding the lock; None where it is taken or locks do not exist."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def unlock(descriptor: int | None) -> None:
    """Give a lock up."""
    if descriptor is not None:
        os.close(descriptor)
