"""Commands where packages are missing, without an environment of its own for each set of them.

A finder in ``sitecustomize`` hides modules from a process and from all that it starts.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_HIDE = """
import os, sys
_names = set(os.environ["SAM2RT_TEST_HIDDEN"].split())
class _Hiding:
    def __init__(self, finder):
        self._finder = finder
    def __getattr__(self, name):
        return getattr(self._finder, name)
    def find_spec(self, name, path=None, target=None):
        hidden = name.partition(".")[0] in _names
        return None if hidden else self._finder.find_spec(name, path, target)
sys.meta_path[:] = [_Hiding(finder) for finder in sys.meta_path]
"""

#: runs command lines one after the other in one process, as each would run in its own
_RUN = """
import contextlib, io, json, sys, traceback
from sam2rt.cli import main
for args in json.load(sys.stdin):
    out, err = io.StringIO(), io.StringIO()
    code = None
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            main(args)
        except SystemExit as done:
            code = done.code
        except BaseException:
            traceback.print_exc()
    said = {"code": code, "out": out.getvalue(), "err": err.getvalue()}
    print(json.dumps(said), flush=True)
"""


@dataclass(frozen=True)
class Said:
    """How a command line ended: its exit code (None: a traceback) and what it wrote."""

    code: int | None
    out: str
    err: str


def hiding(modules: Iterable[str], folder: Path) -> dict[str, str]:
    """An environment in which top-level `modules` cannot be imported; needs a `folder` to keep."""
    (folder / "sitecustomize.py").write_text(_HIDE)
    path = os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH", "")]))
    return {**os.environ, "PYTHONPATH": path, "SAM2RT_TEST_HIDDEN": " ".join(modules)}


def run_commands(
    lines: Sequence[Sequence[str | Path]],
    environment: Mapping[str, str],
    cwd: Path,
    python: str | Path = sys.executable,
) -> list[Said]:
    """Run command lines of ``sam2rt`` in one fresh process of that interpreter."""
    done = subprocess.run(
        [str(python), "-c", _RUN],
        input=json.dumps([[str(word) for word in line] for line in lines]),
        capture_output=True,
        text=True,
        env=dict(environment),
        cwd=cwd,
    )
    assert done.returncode == 0, done.stderr
    return [Said(**json.loads(line)) for line in done.stdout.splitlines()]
