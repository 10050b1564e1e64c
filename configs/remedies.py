"""What fixes an error of the system: too many open files are no fault of the file at hand."""

from __future__ import annotations

import errno
import os

_REMEDIES = {
    errno.EMFILE: "close files and videos, or raise this process's limit, 'ulimit -n'",
    errno.ENFILE: "close other programs, or raise this machine's limit of open files",
    errno.ENOMEM: "free memory, or ask for less at a time",
    errno.EACCES: "ask its owner for the right to read it, or copy it",
    errno.EPERM: "ask its owner for the right to read it, or copy it",
    errno.ENOSPC: "free space on that disk",
    errno.EDQUOT: "free space, the quota on that disk is used up",
    errno.EIO: "check that disk or network drive",
}


def remedy_of(error: BaseException, otherwise: str, *, writing: bool = False) -> str:
    """What fixes the error where the machine is its cause; else `otherwise`, about the file.

    writing: rights are a matter of the place then, hence of `otherwise`.
    """
    code = error.errno if isinstance(error, OSError) else None
    if writing and code in (errno.EACCES, errno.EPERM):
        return otherwise
    return _REMEDIES.get(code, otherwise) if code is not None else otherwise


def machine_failed(error: BaseException) -> bool:
    """Whether the error says something about the machine, and nothing about the file."""
    return remedy_of(error, "") != ""


def opening_error(path: str | os.PathLike[str]) -> OSError | None:
    """Why the system does not open the file; None where it does.

    For libraries that say only that they could not.
    """
    try:
        with open(path, "rb"):
            return None
    except OSError as error:
        return error


def line_of(error: BaseException) -> str:
    """What the error says, as one line, without its number and its path."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return " ".join(text.split()) or type(error).__name__
