"""Commands are cut off before each step of writing in turn: results are the old or the new."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
from crash_points import CUT

from sam2rt.configs.bundle import Bundle

pytestmark = pytest.mark.slow

DRIVER = Path(__file__).parents[1] / "support" / "crash_points.py"


def run(folder: Path, step: int, arguments: list[str]) -> tuple[int, str]:
    """The command, cut off before that step in the folder: its code, and its last line."""
    command = [sys.executable, str(DRIVER), str(folder), str(step), *arguments]
    done = subprocess.run(command, capture_output=True, text=True)
    return done.returncode, (done.stderr.splitlines() or [""])[-1]


def content(path: Path) -> str:
    """One hash over a file, or over names and files of a folder; "" where nothing is."""
    if not path.exists():
        return ""
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        digest.update(f"{file.relative_to(path)}\0".encode())
        digest.update(file.read_bytes() if file.is_file() else b"")
    return digest.hexdigest()


@pytest.fixture
def media(tmp_path: Path) -> Path:
    folder = tmp_path / "media"
    (folder / "clip").mkdir(parents=True)
    for t in range(2):
        frame = np.full((48, 64, 3), 40, np.uint8)
        frame[10:30, 10 + 4 * t : 34 + 4 * t] = (60, 190, 230)
        cv2.imwrite(str(folder / "clip" / f"{t}.png"), frame)
    return folder


@pytest.mark.parametrize("command", ["segment", "track", "masks"])
def test_results_are_old_or_new(command: str, bundle: Bundle, media: Path, tmp_path: Path) -> None:
    results = tmp_path / "results"
    results.mkdir()
    target = results / ("o.png" if command == "segment" else "o")
    source = media / ("clip" if command == "track" else "clip/0.png")
    common = [command, str(source), "--bundle", str(bundle.path), "--threads", "1"]
    if command == "masks":
        common += ["--points-per-side", "2"]
        new, old = [*common, "--points-per-side", "2"], [*common, "--points-per-side", "1"]
    else:
        new, old = [*common, "--point", "20,20"], [*common, "--point", "50,40"]
    output = ["-o", str(target)]
    contents = {}
    for name, arguments in (("new", new), ("old", old)):
        code, line = run(results, 0, [*arguments, *output])
        assert code == 0, line
        contents[content(target)] = name
    assert len(contents) == 2
    points = int(run(tmp_path / "none", 0, ["--help"])[1].split()[1])
    assert points == 0
    step, seen = 1, []
    while (code := run(results, step, [*new, *output])[0]) == CUT:
        seen.append(contents[content(target)])
        step += 1
    assert code == 0
    print(f"{command}: {step - 1} points")
    # from one moment on it is the new one
    assert seen == sorted(seen, reverse=True)
    assert seen[0] == "old"
    assert contents[content(target)] == "new"
