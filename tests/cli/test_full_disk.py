"""A disk that fills up before any write of a command: one line, and everything is as it was."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from faulty_commands import Commands
from scenes import Scene, files_of

pytestmark = pytest.mark.slow

#: steps that find no room on a full disk
_TAKES_ROOM = re.compile(r"open|(p?write(64)?|writev)( half)?|mkdir(at)?|link(at)?|sendfile(64)?")
#: each scene, and every how many of its steps are tried: long commands write in small pieces
STRIDES = {
    "segment": 1, "masks": 1, "track": 2, "eval": 2, "build": 3, "download": 3,
    "download of weights": 1, "download of an official checkpoint": 1, "export": 40, "train": 9,
    "accuracy": 60,
}  # fmt: skip
#: what may stay: what need not be fetched, evaluated or trained again
_KEPT = re.compile(
    r"hub(/(blobs|bundles|commits|someone--bundle)(/.*)?)?|[^.].*\.part|r\.json\.videos(/.*)?"
    r"|masks/.*|work(/.*)?|run/(state\.pt|recipe\.json)"
)


def _check_line(err: str, folder: Path) -> None:
    assert err.count("\n") == 1, err
    assert err.startswith("sam2rt: ")
    assert os.strerror(errno.ENOSPC) in err
    assert str(folder) in err, err
    assert re.search(r"free space on that disk|make room", err), err


@pytest.mark.parametrize("scene", STRIDES, indirect=True)
def test_a_full_disk_is_one_line(scene: Scene, request: pytest.FixtureRequest) -> None:
    name = request.node.callspec.id
    calls = enumerate(scene.whole.calls, 1)
    steps = [step for step, call in calls if _TAKES_ROOM.fullmatch(call)]
    tried = steps[:: STRIDES[name]]
    before = files_of(scene.before)
    for step in tried:
        scene.restore()
        ran = scene.commands.run(scene.new, scene.results, "full", step)
        assert ran.code == 1, (step, scene.whole.calls[step - 1], ran.err)
        _check_line(ran.err, scene.results)
        # a download that is whole may lack its note
        assert scene.which() != "new" or scene.old is None, (step, ran.err)
        left = files_of(scene.results)
        assert {n: c for n, c in left.items() if not _KEPT.fullmatch(n)} == {
            n: c for n, c in before.items() if not _KEPT.fullmatch(n)
        }
    scene.again()
    print(f"{name}: {len(tried)} of {len(steps)} points without room")
    assert len(tried) >= 8


@contextmanager
def _small_disk(folder: Path, size: str) -> Iterator[None]:
    """A disk of that size at the folder; skips where none may be mounted."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("needs root, to mount a small disk")
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size}", "sam2rt-test", folder]
    if subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small disk cannot be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", folder], check=True)


@pytest.mark.parametrize(
    ("scene", "size"),
    [("segment", "8k"), ("track", "16k"), ("export", "1m"), ("train", "4m"), ("download", "8k")],
    indirect=["scene"],
)
def test_a_small_disk_is_one_line(scene: Scene, size: str, commands: Commands) -> None:
    """A real one: what the layer of faults says is what a system says."""
    shutil.rmtree(scene.results)
    scene.results.mkdir()
    with _small_disk(scene.results, size):
        ran = commands.run(scene.new)
        assert ran.code == 1
        _check_line(ran.err, scene.results)
        left = [name for name in files_of(scene.results) if not _KEPT.fullmatch(name)]
        assert [name for name in left if not name.startswith("run")] == []
