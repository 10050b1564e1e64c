"""What Windows and macOS do otherwise than Linux, where more than one module meets it.

Tests on Linux set `WINDOWS` and play that system's rules; nothing else here asks for the system.
"""

from __future__ import annotations

import ctypes
import os
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from .errors import StorageError
from .remedies import line_of

WINDOWS = os.name == "nt"

#: seconds between attempts, one in all: scanners hold a file that long after it was written
_PAUSES = (0.01, 0.02, 0.05, 0.1, 0.2, 0.6)
#: devices, with any ending
_DEVICES = {"con", "prn", "aux", "nul", "conin$", "conout$"} | {
    port + number for port in ("com", "lpt") for number in "123456789¹²³"
}
_SPECIAL = '<>:"/\\|?*'


def rename(source: Path, target: Path) -> None:
    """`os.rename`, tried for a second where Windows says that another program has one of them open.

    To a free name: what a taken one does differs. Raises OSError as `os.rename`.
    """
    _patiently(lambda: os.rename(source, target))


def replace(source: Path, target: Path) -> None:
    """`os.replace` of a file, tried as `rename`. Raises StorageError where `target` stays open."""
    try:
        _patiently(lambda: os.replace(source, target))
    except PermissionError as error:
        if not WINDOWS:
            raise
        remedy = "close the program that has it open, or name another file"
        raise StorageError(target, line_of(error), remedy) from None


def _patiently(action: Callable[[], None]) -> None:
    for pause in _PAUSES if WINDOWS else ():
        try:
            return action()
        except PermissionError:
            time.sleep(pause)
    return action()


def refused_name(name: str) -> str | None:
    """Why Windows takes no file or folder of that name, one part of a path; None where it does."""
    if name.split(".")[0].rstrip(" ").lower() in _DEVICES:
        return "Windows keeps that name for a device"
    if name != name.rstrip(". "):
        return "Windows takes no name that ends with a dot or a space"
    if found := next((c for c in name if c in _SPECIAL or ord(c) < 32), None):
        return f"Windows takes no {found!a} in a name"
    return None


def memory_bytes() -> int:
    """Of this machine; 0 where the system does not tell."""
    if hasattr(os, "sysconf"):
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    # 64 bytes: their number and the load in the first eight, then sizes, the machine's first
    status = (ctypes.c_uint64 * 8)(64)
    return status[1] if _kernel32().GlobalMemoryStatusEx(ctypes.byref(status)) else 0


def peak_memory_bytes() -> int:
    """The most that this process had in memory at a time; 0 where the system does not tell."""
    with suppress(OSError):
        # not getrusage, which would count the parent's too
        for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    try:
        import resource
    except ImportError:  # Windows: 72 bytes, their number in the first eight, then the peak
        counted = (ctypes.c_uint64 * 9)(72)
        # what stands for this process
        own = ctypes.c_void_p(-1)
        done = _kernel32().K32GetProcessMemoryInfo(own, ctypes.byref(counted), 72)
        return counted[1] if done else 0
    # bytes on macOS, where there is no /proc
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _kernel32() -> Any:
    # only Windows has it
    return getattr(ctypes, "windll").kernel32  # noqa: B009


def usable_cores() -> int:
    """Of the processor, those that this process may use, as far as the system tells."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1
