"""The user's cache: folders that nobody else could have written in, and no more than their size."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sam2rt.runtime.caches import cache_root, keep_within, private_folder, read_own

posix = pytest.mark.skipif(os.name != "posix", reason="modes and owners are POSIX's")
as_root = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs root to give files away"
)


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sam2rt"


def test_where_it_lies(root: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert cache_root() == root
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_root() == tmp_path / "home" / ".cache" / "sam2rt"
    assert not (tmp_path / "home").exists()


@posix
def test_a_new_folder_is_the_users_alone(root: Path) -> None:
    before = os.umask(0)
    try:
        assert private_folder("models") == root / "models"
    finally:
        os.umask(before)
    assert (root / "models").stat().st_mode & 0o777 == 0o700
    assert private_folder("models") == root / "models"


@posix
@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
def test_a_folder_that_others_can_write_is_not_used(root: Path, mode: int) -> None:
    (root / "models").mkdir(parents=True)
    (root / "models").chmod(mode)
    assert private_folder("models") is None


def test_neither_is_a_link_or_a_file(root: Path, tmp_path: Path) -> None:
    root.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir(mode=0o700)
    (root / "models").symlink_to(tmp_path / "elsewhere")
    (root / "file").write_text("")
    assert private_folder("models") is None
    assert private_folder("file") is None


def test_without_a_place_there_is_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert private_folder("models") is None
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc/nowhere")
    assert private_folder("models") is None


@as_root
def test_what_belongs_to_others_is_not_used(root: Path) -> None:
    folder = private_folder("models")
    assert folder is not None
    (folder / "own").write_bytes(b"own")
    (folder / "foreign").write_bytes(b"foreign")
    os.chown(folder / "foreign", 12345, 12345)
    assert read_own(folder / "own") == b"own"
    assert read_own(folder / "foreign") is None
    os.chown(folder, 12345, 12345)
    assert private_folder("models") is None


def test_files_that_are_read(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"abc")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    assert read_own(tmp_path / "file") == b"abc"
    assert [read_own(tmp_path / name) for name in ("link", "folder", "missing")] == [None] * 3


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert read_own(tmp_path / "pipe") is None


def test_what_was_unused_for_longest_goes_first(tmp_path: Path) -> None:
    for age, name in enumerate(("d", "b", "a", "c")):
        (tmp_path / f"{name}.model").write_bytes(b"0123456789")
        os.utime(tmp_path / f"{name}.model", ns=(0, 10**9 * (100 - age)))
    (tmp_path / "other").write_bytes(b"0" * 1000)
    keep_within(tmp_path, "*.model", 40)
    assert len(list(tmp_path.glob("*.model"))) == 4
    keep_within(tmp_path, "*.model", 29)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["b.model", "d.model", "other"]
