"""Two paths exchanged in one step, on systems that can: no reader ever misses either."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

#: the values of Linux's headers
_AT_FDCWD, _RENAME_EXCHANGE = -100, 2
#: what a kernel or a file system says that cannot do it
_CANNOT = {errno.ENOSYS, errno.EINVAL, errno.ENOTSUP, errno.EPERM}


def exchanged(first: Path, second: Path) -> bool:
    """Exchange two paths of one file system; False, with both as they were, where it cannot be.

    Linux has renameat2, but not for every file system; other systems have nothing of the kind.
    Raises OSError for anything else, FileNotFoundError when one of them is missing.
    """
    rename = _renameat2()
    if rename is None:
        return False
    code = rename(os.fsencode(first), os.fsencode(second))
    if code in _CANNOT:
        return False
    if code:
        raise OSError(code, os.strerror(code), os.fspath(first), None, os.fspath(second))
    return True


@cache
def _renameat2() -> Callable[[bytes, bytes], int] | None:
    """A function that exchanges two paths and gives the error's number, 0 for none."""
    if not sys.platform.startswith("linux"):
        return None
    try:
        call = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return None
    call.argtypes = (ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint)

    def rename(first: bytes, second: bytes) -> int:
        if call(_AT_FDCWD, first, _AT_FDCWD, second, _RENAME_EXCHANGE) == 0:
            return 0
        return ctypes.get_errno()

    return rename
