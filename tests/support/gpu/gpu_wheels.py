"""Packages the GPU code is tested with, each in a folder of its own and never installed.

Two versions of the TensorRT bindings cannot be installed side by side, and Triton would have to
agree with the torch beside it; so ``pip install --target`` fetches each on first use into
``.venv/wheels`` of the checkout (or the folder named by SAM2RT_WHEELS).
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
TRITON = "triton==3.6.0"
TENSORRT = {
    "10.16": "tensorrt-cu13-bindings==10.16.1.11",
    "11.4": "tensorrt-cu13-bindings==11.4.0.106",
}


@cache
def wheel_folder(requirement: str) -> Path:
    """Folder to put on sys.path for `requirement` (``name==version``); skips when unavailable."""
    base = Path(os.environ.get("SAM2RT_WHEELS") or ROOT / ".venv" / "wheels")
    base.mkdir(parents=True, exist_ok=True)
    final = base / requirement.replace("==", "-")
    with (base / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.is_dir():
            _fetch(requirement, final)
    return final


def _fetch(requirement: str, final: Path) -> None:
    part = final.with_name(final.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-compile"]
    done = subprocess.run(
        [*command, "--target", str(part), requirement], capture_output=True, text=True
    )
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        pytest.skip(f"pip cannot fetch {requirement}: {last}")
    part.rename(final)


def environment(*folders: Path, **extra: str) -> dict[str, str]:
    """Environment of a subprocess that imports from `folders` first."""
    path = os.pathsep.join([*map(str, folders), os.environ.get("PYTHONPATH", "")])
    return {**os.environ, "PYTHONPATH": path.rstrip(os.pathsep), **extra}
