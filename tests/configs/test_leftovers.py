"""What a killed writer leaves is cleared by the next; what others own stays."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sam2rt.configs import staging
from sam2rt.configs.staging import check_file_target, replaced_file, temporary_folder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks and signals are POSIX")

_WAIT = """
import sys, time
from pathlib import Path
from sam2rt.configs.staging import replaced_file, temporary_folder
work = {
    "file": lambda: replaced_file(Path(sys.argv[2]) / "r.json"),
    "png": lambda: replaced_file(Path(sys.argv[2]) / "r.json", ".png"),
    "folder": lambda: temporary_folder(Path(sys.argv[2])),
}[sys.argv[1]]
with work():
    print("ready", flush=True)
    time.sleep(60)
"""


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def _waiting(kind: str, folder: Path) -> subprocess.Popen[str]:
    """A writer in the middle of its work."""
    command = [sys.executable, "-c", _WAIT, kind, str(folder)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


@pytest.mark.parametrize("kind", ["file", "png", "folder"])
def test_a_living_writer_is_left_alone_and_a_dead_one_is_cleared_away(
    kind: str, tmp_path: Path
) -> None:
    with _waiting(kind, tmp_path) as process:
        try:
            (left,) = _names(tmp_path)
            with replaced_file(tmp_path / "r.json") as part:
                part.write_text("mine")
            with temporary_folder(tmp_path):
                pass
            assert _names(tmp_path) == [left, "r.json"]
        finally:
            process.send_signal(signal.SIGKILL)
    with replaced_file(tmp_path / "r.json") as part, temporary_folder(tmp_path) as folder:
        assert _names(tmp_path) == sorted([part.name, folder.name, "r.json"])
        part.write_text("second")
    assert _names(tmp_path) == ["r.json"]
    assert (tmp_path / "r.json").read_text() == "second"


def test_what_looks_like_a_leftover_and_is_none_stays(tmp_path: Path) -> None:
    """Hidden files of users, other files' leftovers, folders and links of those names."""
    files = [".r.json.original", ".r.json.abcdefgh", ".other.json.abcd1234.part", ".r.json.a.part"]
    for name in files:
        (tmp_path / name).write_text("mine")
    (tmp_path / ".r.json.abcd5678.part").mkdir()
    (tmp_path / ".r.json.link5678.part").symlink_to(tmp_path / files[0])
    (tmp_path / ".sam2rt-work.file1234.part").write_text("mine")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "f").write_text("mine")
    (tmp_path / ".sam2rt-work.link1234.part").symlink_to(tmp_path / "elsewhere")
    before = _names(tmp_path)
    with replaced_file(tmp_path / "r.json") as part, temporary_folder(tmp_path):
        part.write_text("x")
    assert _names(tmp_path) == sorted([*before, "r.json"])
    assert (tmp_path / "elsewhere" / "f").read_text() == "mine"


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to give")
def test_what_another_user_made_stays(tmp_path: Path) -> None:
    for left in (tmp_path / ".r.json.abcd1234.part", tmp_path / ".sam2rt-work.abcd1234.part"):
        left.mkdir() if "work" in left.name else left.write_text("theirs")
        os.chown(left, 12345, 12345)
    before = _names(tmp_path)
    with replaced_file(tmp_path / "r.json") as part, temporary_folder(tmp_path):
        part.write_text("x")
    assert _names(tmp_path) == sorted([*before, "r.json"])


def test_trying_a_target_leaves_nothing_and_takes_no_descriptor(tmp_path: Path) -> None:
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        check_file_target(tmp_path / "r.json")
        with replaced_file(tmp_path / "r.json") as part:
            part.write_text("x")
        with temporary_folder(tmp_path):
            pass
    assert len(os.listdir("/proc/self/fd")) == before
    assert _names(tmp_path) == ["r.json"]


def test_a_temporary_folder_is_private_and_where_the_system_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_folder() as folder:
        assert folder.parent == tmp_path
        assert folder.stat().st_mode & 0o777 == 0o700
    assert _names(tmp_path) == []


def test_temporary_folders_are_made_in_one_place() -> None:
    """Others would stay when a process is killed, since nobody looks for them."""
    root = Path(staging.__file__).parents[1]
    rooms = ("cli", "configs", "export", "runtime", "serving", "training")
    making = re.compile(r"\b(TemporaryDirectory|mkdtemp|mkstemp)\(")
    found = {
        path.relative_to(root).as_posix()
        for room in rooms
        for path in (root / room).rglob("*.py")
        if making.search(path.read_text(encoding="utf-8"))
    }
    assert found == {"configs/leftovers.py"}
