"""Programs of Windows, run here by Wine."""

from __future__ import annotations

import os
from pathlib import Path

from cpp_build import WINDOWS_HEADERS, built, run, wine


def windows_path(path: Path) -> str:
    """As Wine shows the whole of this machine: as the drive Z."""
    return "Z:" + str(path).replace("/", "\\")


def run_on_windows(home: Path, name: str, *arguments: str | Path) -> str:
    """A test program's output. `home` holds what Wine takes for the disk of Windows, made on first
    use; ONNX Runtime's library is found by the PATH there."""
    emulator = wine()
    assert emulator is not None, "require_windows comes first"
    folder = "examples" if name == "minimal" else "tests"
    libraries = [WINDOWS_HEADERS / "bin", built("windows")]
    given = [windows_path(a) if isinstance(a, Path) else a for a in arguments]
    printed = run(
        [emulator, str(built("windows") / folder / f"{name}.exe"), *given],
        WINEPREFIX=str(home / "prefix"),
        HOME=str(home),
        WINEPATH=";".join(map(windows_path, libraries)),
        # no offers to install a browser, no desktop and services, which start in seconds, and no
        # remarks about what this machine lacks
        WINEDLLOVERRIDES="mscoree,mshtml,winemenubuilder.exe,services.exe,explorer.exe=",
        WINEDEBUG="-all",
        LC_ALL=os.environ.get("LC_ALL", "C.UTF-8"),
    )
    return printed.replace("\r\n", "\n")
