"""Folders of the user's cache, for what is expensive to make and can be made again.

A folder that others can write, or that belongs to another user, is not used: what lies in it may
come from anyone.
"""

from __future__ import annotations

import functools
import operator
import os
import stat
from contextlib import suppress
from pathlib import Path

_PRIVATE = 0o700
#: group and others may write
_OPEN = stat.S_IWGRP | stat.S_IWOTH
#: no link is followed, no pipe waited for; some systems lack a flag
_FLAGS = ("O_NOFOLLOW", "O_NONBLOCK", "O_BINARY")
_READING = functools.reduce(
    operator.or_, (int(getattr(os, name, 0)) for name in _FLAGS), os.O_RDONLY
)


def cache_root() -> Path:
    """Where the user's caches of this program lie; nothing is made."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sam2rt"


def private_folder(name: str) -> Path | None:
    """The folder `name` of the user's cache, made with mode 0700 where it is missing.

    None where it cannot be made, where it is a link, or where others could have written in it.
    """
    try:
        folder = cache_root() / name
        folder.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileExistsError):
            folder.mkdir(mode=_PRIVATE)
        found = folder.lstat()
    except (OSError, RuntimeError):  # RuntimeError: no home folder is known
        return None
    if not stat.S_ISDIR(found.st_mode) or not _own(found):
        return None
    shared = os.name == "posix" and found.st_mode & _OPEN
    return None if shared else folder


def read_own(path: Path) -> bytes | None:
    """A file of a private folder; None where it is missing, a link, or another user's."""
    try:
        descriptor = os.open(path, _READING)
    except OSError:
        return None
    try:
        found = os.fstat(descriptor)
        if not stat.S_ISREG(found.st_mode) or not _own(found):
            return None
        with open(descriptor, "rb", closefd=False) as file:
            return file.read()
    except OSError:
        return None
    finally:
        os.close(descriptor)


def keep_within(folder: Path, pattern: str, size: int) -> None:
    """Remove files of a private folder, those unused for longest first, down to `size` bytes."""
    files = []
    for path in folder.glob(pattern):
        # another process may have removed it
        with suppress(OSError):
            found = path.lstat()
            files.append((found.st_mtime_ns, found.st_size, path))
    total = sum(one for _, one, _ in files)
    for _, one, path in sorted(files):
        if total <= size:
            return
        with suppress(OSError):
            path.unlink()
        total -= one


def _own(found: os.stat_result) -> bool:
    return not hasattr(os, "geteuid") or found.st_uid == os.geteuid()
