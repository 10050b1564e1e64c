"""``runtime/cpp/tools/dependencies.sh`` with a Python named as the page on C++ names it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
#: packages without a network: the archive's name, a file for each package, a folder for its content
_APT = """#!/bin/sh
case "$*" in
*indextargets*) echo "Debian https://archive.example" ;;
*download*) touch libonnxruntime-dev.deb nlohmann-json3-dev.deb ;;
esac
"""
_DPKG = '#!/bin/sh\nmkdir -p "$3/usr/include"\n'


@pytest.mark.skipif(sys.platform == "win32", reason="a script for the shell")
@pytest.mark.parametrize("named", ["env/bin/python", "./env/bin/python", "python-of-the-path"])
def test_a_relative_python_is_found_after_the_folder_changed(named: str, tmp_path: Path) -> None:
    tools, package = tmp_path / "tools", tmp_path / "site" / "onnxruntime"
    (package / "capi").mkdir(parents=True)
    library = package / "capi" / "libonnxruntime.so.1.99.0"
    library.touch()
    python = f"#!/bin/sh\necho {package}\n"
    (tmp_path / "env" / "bin").mkdir(parents=True)
    tools.mkdir()
    for path, text in (
        (tools / "apt-get", _APT),
        (tools / "dpkg", _DPKG),
        (tools / "python-of-the-path", python),
        (tmp_path / "env" / "bin" / "python", python),
    ):
        path.write_text(text)
        path.chmod(0o755)
    script = ROOT / "runtime" / "cpp" / "tools" / "dependencies.sh"
    done = subprocess.run(
        ["sh", str(script), "deps", named],
        capture_output=True, text=True, cwd=tmp_path,
        env={"PATH": f"{tools}:{os.environ['PATH']}"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    link = tmp_path / "deps" / "root" / "usr" / "lib" / "libonnxruntime.so.1"
    assert link.readlink() == library
    assert (tmp_path / "deps" / "root" / "usr" / "include").is_dir()
    assert (tmp_path / "deps" / "complete").is_file()
