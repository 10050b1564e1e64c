"""A process is cut off before each step of a write in turn: a reader finds the old or the new."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from crash_points import CUT, watch
from fake_bundle import write_bundle

from sam2rt.configs import staging
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.staging import replaced_file, replaced_folder

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


def cut_off(work: Callable[[], object], folder: Path, step: int) -> int:
    """Do the work in another process that ends before that step; its code."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            watch(str(folder), step)
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def every_point(work: Callable[[], object], folder: Path, look: Callable[[], object]) -> int:
    """Cut the work off at each step, look, and do it again to the end; the number of steps."""
    for step in range(1, 1000):
        code = cut_off(work, folder, step)
        assert code in (0, CUT)
        if code == 0:
            return step - 1
        look()
    raise AssertionError("it takes more than a thousand steps")


@pytest.mark.parametrize("swapped", [True, False], ids=["exchanged", "renamed twice"])
def test_a_bundle_is_old_or_new(
    swapped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not swapped:
        monkeypatch.setattr(staging, "exchanged", lambda *_: False)
    target = tmp_path / "b"
    write_bundle(target, generator="old")
    seen = set()

    def look() -> None:
        # without an exchange it may be missing for a moment, and the next run gives it back
        if swapped or target.exists():
            seen.add(Bundle.load(target).generator)
        # the next run ends whatever was left behind
        write_bundle(target, generator="old")
        assert Bundle.load(target).generator == "old"
        assert [p.name for p in tmp_path.iterdir()] == ["b"]

    points = every_point(lambda: write_bundle(target, generator="new"), tmp_path, look)
    print(f"a bundle: {points} points")
    assert points > 20
    assert seen == {"old", "new"}
    assert Bundle.load(target).generator == "new"


def test_a_first_bundle_is_whole_or_not_there(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "b"
    seen = set()

    def look() -> None:
        seen.add(target.exists())
        if target.exists():
            assert Bundle.load(target).generator == "new"
        with replaced_folder(target) as work:
            (work / "f").write_bytes(b"x")
        assert [p.name for p in target.parent.iterdir()] == ["b"]
        (target / "f").unlink()
        target.rmdir()
        target.parent.rmdir()

    points = every_point(lambda: write_bundle(target, generator="new"), tmp_path, look)
    print(f"a first bundle: {points} points")
    assert points > 20
    assert seen == {False, True}


def test_a_file_is_old_or_new(tmp_path: Path) -> None:
    target = tmp_path / "f"
    target.write_bytes(b"old" * 1000)

    def work() -> None:
        with replaced_file(target) as part:
            part.write_bytes(b"new" * 1000)

    def look() -> None:
        assert target.read_bytes() in (b"old" * 1000, b"new" * 1000)

    points = every_point(work, tmp_path, look)
    print(f"a file: {points} points")
    assert points >= 4
    assert target.read_bytes() == b"new" * 1000
