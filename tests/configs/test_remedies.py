"""Errors of the machine name the machine; those of a file name the file."""

from __future__ import annotations

import errno
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from fake_bundle import write_bundle
from no_descriptors import no_descriptors

from sam2rt import (
    Bundle,
    BundleError,
    InputError,
    MissingExtraError,
    StateError,
    StorageError,
)
from sam2rt.configs.remedies import line_of, machine_failed, opening_error, remedy_of
from sam2rt.configs.staging import (
    check_file_target,
    replaced_file,
    replaced_folder,
    temporary_folder,
)
from sam2rt.runtime import packages

FULL = "(Too many open files): close files and videos, or raise this process's limit, 'ulimit -n'"


@pytest.mark.parametrize(
    ("code", "remedy"),
    [
        (errno.EMFILE, "close files and videos, or raise this process's limit, 'ulimit -n'"),
        (errno.ENFILE, "close other programs, or raise this machine's limit of open files"),
        (errno.ENOMEM, "free memory, or ask for less at a time"),
        (errno.EACCES, "ask its owner for the right to read it, or copy it"),
        (errno.ENOSPC, "free space on that disk"),
        (errno.ENOENT, "about the file"),
        (errno.EISDIR, "about the file"),
    ],
)
def test_remedies(code: int, remedy: str) -> None:
    error = OSError(code, os.strerror(code), "a/b")
    assert remedy_of(error, "about the file") == remedy
    assert machine_failed(error) == (remedy != "about the file")
    assert line_of(error) == os.strerror(code)


def test_errors_without_a_number_are_of_the_file() -> None:
    for error in (OSError("truncated"), ValueError("two\nlines"), ValueError()):
        assert not machine_failed(error)
    lines = [line_of(e) for e in (OSError("truncated"), ValueError("two\nlines"), ValueError())]
    assert lines == ["truncated", "two lines", "ValueError"]


def test_why_a_file_is_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_text("a")
    assert opening_error(path) is None
    missing = opening_error(tmp_path / "b")
    assert missing is not None
    assert missing.errno == errno.ENOENT
    with no_descriptors():
        full = opening_error(path)
    assert full is not None
    assert full.errno == errno.EMFILE


def test_a_bundle_is_not_to_be_made_again_for_want_of_descriptors(tmp_path: Path) -> None:
    write_bundle(tmp_path / "b")
    with no_descriptors(), pytest.raises(BundleError) as caught:
        Bundle.load(tmp_path / "b")
    assert str(caught.value) == (
        f"cannot read {tmp_path / 'b' / 'manifest.json'} (Too many open files): close files and "
        "videos, or raise this process's limit, 'ulimit -n'"
    )
    Bundle.load(tmp_path / "b")


def test_a_file_of_a_bundle_that_cannot_be_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_bundle(tmp_path / "b")

    def unreadable(self: Path, *_: object, **__: object) -> object:
        raise PermissionError(errno.EACCES, "Permission denied", str(self))

    monkeypatch.setattr(Path, "open", unreadable)
    with pytest.raises(BundleError) as caught:
        Bundle.load(tmp_path / "b")
    assert "(Permission denied): ask its owner for the right to read it" in str(caught.value)


def test_files_of_a_bundle_and_results_without_descriptors(tmp_path: Path) -> None:
    with no_descriptors(), pytest.raises(InputError) as caught, replaced_folder(tmp_path / "out"):
        pass
    assert str(caught.value) == f"{tmp_path / 'out'} cannot be written {FULL}"
    with no_descriptors(), pytest.raises(InputError) as caught:
        check_file_target(tmp_path / "a.json")
    assert str(caught.value) == f"{tmp_path / 'a.json'} cannot be written {FULL}"
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.EIO])
def test_a_full_disk_is_named_with_the_result_that_was_asked_for(code: int, tmp_path: Path) -> None:
    def full() -> None:
        raise OSError(code, os.strerror(code), "somewhere")

    target = tmp_path / "out"
    target.mkdir()
    (target / "old").write_text("old")
    remedy = remedy_of(OSError(code, ""), "")
    assert remedy
    message = f"{target} cannot be written ({os.strerror(code)}): {remedy}"
    with pytest.raises(StorageError) as caught, replaced_folder(target, lambda _: None):
        full()
    assert str(caught.value) == message
    # a file inside of the folder that is being made
    with (
        pytest.raises(StorageError) as caught,
        replaced_folder(target, lambda _: None) as work,
        replaced_file(work / "a.png"),
    ):
        full()
    assert str(caught.value) == message
    with pytest.raises(StorageError) as caught, replaced_file(tmp_path / "a.json"):
        full()
    assert str(caught.value).startswith(f"{tmp_path / 'a.json'} cannot be written (")
    with pytest.raises(OSError, match="other") as other, replaced_file(tmp_path / "a.json"):
        raise OSError(errno.EACCES, "other")
    assert not isinstance(other.value, StorageError)
    assert (target / "old").read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_no_temporary_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))
    with (
        pytest.raises(InputError, match=r"^no temporary folder can be made \(No such file"),
        temporary_folder(),
    ):
        pass
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with temporary_folder() as folder:
        (folder / "a").write_text("a")
    assert list(tmp_path.iterdir()) == []


def test_a_package_that_cannot_be_loaded_now_is_not_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fails(error: Exception) -> Callable[[str], ModuleType]:
        def load(_: str) -> ModuleType:
            raise error

        return load

    text = "libopencv.so: cannot open shared object file: Too many open files"
    for error in (ImportError(text), OSError(errno.EMFILE, "Too many open files")):
        monkeypatch.setattr(packages.importlib, "import_module", fails(error))
        with pytest.raises(StateError, match=r"^cv2 cannot be loaded \(.*Too many open files\): c"):
            packages.opencv("reading video")
    monkeypatch.setattr(
        packages.importlib, "import_module", fails(ModuleNotFoundError("cv2", name="cv2"))
    )
    with pytest.raises(MissingExtraError, match="reading video needs the package 'opencv"):
        packages.opencv("reading video")
