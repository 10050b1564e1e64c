"""The atomic writer and downloads under the rules of Windows, and what differs between systems."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from windows_rules import play_windows

from sam2rt.configs import systems
from sam2rt.configs.errors import InputError, StorageError
from sam2rt.configs.staging import check_file_target, replaced_file, replaced_folder
from sam2rt.configs.systems import refused_name

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="plays Windows by what Linux tells of open files"
)


@pytest.fixture
def pauses(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    return play_windows(monkeypatch)


def _written(path: Path, text: str) -> None:
    with replaced_file(path) as part:
        part.write_text(text)


def _filled(folder: Path, text: str) -> None:
    with replaced_folder(folder) as work:
        (work / "masks.json").write_text(text)


def _names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_files_and_folders_are_replaced(tmp_path: Path, pauses: list[float]) -> None:
    for text in ("first", "second"):
        _written(tmp_path / "file", text)
        _filled(tmp_path / "folder", text)
    assert (tmp_path / "file").read_text() == "second"
    assert (tmp_path / "folder" / "masks.json").read_text() == "second"
    assert _names(tmp_path) == ["file", "folder"]
    assert pauses == []


def test_a_file_that_stays_open_is_left(tmp_path: Path, pauses: list[float]) -> None:
    target = tmp_path / "masks.json"
    target.write_text("old")
    with target.open(), pytest.raises(StorageError) as caught:
        _written(target, "new")
    assert str(caught.value) == (
        f"{target} cannot be written (Permission denied): close the program that has it open, or "
        "name another file"
    )
    assert target.read_text() == "old"
    assert _names(tmp_path) == ["masks.json"]
    assert 0.9 < sum(pauses) < 1.1


def test_a_file_that_a_scanner_holds_for_a_moment_is_replaced(
    tmp_path: Path, pauses: list[float], monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "masks.json"
    target.write_text("old")
    held = target.open()

    def wait(seconds: float) -> None:
        pauses.append(seconds)
        if len(pauses) == 3:
            held.close()

    monkeypatch.setattr(systems.time, "sleep", wait)
    _written(target, "new")
    assert target.read_text() == "new"
    assert len(pauses) == 3


def test_a_protected_file_is_left(tmp_path: Path, pauses: list[float]) -> None:
    """Elsewhere its replacement is protected as it was; there it could not even be removed."""
    target = tmp_path / "masks.json"
    target.write_text("old")
    target.chmod(0o444)
    with pytest.raises(StorageError, match="cannot be written"):
        _written(target, "new")
    assert target.read_text() == "old"
    assert _names(tmp_path) == ["masks.json"]


def test_the_result_for_a_folder_that_stays_open_is_kept_beside_it(
    tmp_path: Path, pauses: list[float]
) -> None:
    """An export may have taken an hour."""
    target = tmp_path / "bundle"
    _filled(target, "old")
    with (target / "masks.json").open(), pytest.raises(InputError) as caught:
        _filled(target, "new")
    assert str(caught.value) == (
        f"{target} is open in another program (Permission denied): it was left as it is, the new "
        f"result is in {target}.new"
    )
    assert (target / "masks.json").read_text() == "old"
    assert (tmp_path / "bundle.new" / "masks.json").read_text() == "new"
    assert _names(tmp_path) == ["bundle", "bundle.new"]


def test_the_result_is_kept_beside_what_came_meanwhile(tmp_path: Path, pauses: list[float]) -> None:
    target = tmp_path / "bundle"
    _filled(target, "old")
    (tmp_path / "bundle.new").mkdir()

    def late() -> None:
        with replaced_folder(target) as work:
            (work / "masks.json").write_text("new")
            (target / "notes").write_text("mine")

    with pytest.raises(InputError, match="holds notes"):
        late()
    assert _names(target) == ["masks.json", "notes"]
    assert (tmp_path / "bundle.new-2" / "masks.json").read_text() == "new"
    assert _names(tmp_path) == ["bundle", "bundle.new", "bundle.new-2"]


_REFUSED = {
    "CON": "Windows keeps that name for a device",
    "nul.txt": "Windows keeps that name for a device",
    "Com7.tar.gz": "Windows keeps that name for a device",
    "aux .json": "Windows keeps that name for a device",
    "lpt².png": "Windows keeps that name for a device",
    "masks.": "Windows takes no name that ends with a dot or a space",
    "masks ": "Windows takes no name that ends with a dot or a space",
    "16:9.json": "Windows takes no ':' in a name",
    "what?.json": "Windows takes no '?' in a name",
    "tab\t.json": "Windows takes no '\\t' in a name",
}


@pytest.mark.parametrize("name", _REFUSED)
def test_names_that_windows_refuses(name: str, tmp_path: Path, pauses: list[float]) -> None:
    assert refused_name(name) == _REFUSED[name]
    wanted = f"{tmp_path / name} cannot be written ({_REFUSED[name]}): name another"
    with pytest.raises(InputError) as caught:
        check_file_target(tmp_path / name)
    assert str(caught.value) == wanted
    with pytest.raises(InputError) as caught:
        _filled(tmp_path / name, "new")
    assert str(caught.value) == wanted
    assert _names(tmp_path) == []


@pytest.mark.parametrize(
    "name",
    ["console.json", "com.json", "com10", ".aux", "größe 模型.json", ".masks", "nul-1", "a b.c"],
)
def test_names_that_windows_takes(name: str) -> None:
    assert refused_name(name) is None


def test_elsewhere_any_name_is_taken(tmp_path: Path) -> None:
    _written(tmp_path / "nul.txt", "new")
    _filled(tmp_path / "16:9", "new")
    assert _names(tmp_path) == ["16:9", "nul.txt"]


def test_cores_where_the_system_tells_no_affinity(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 3, 5})
    assert systems.usable_cores() == 3
    monkeypatch.delattr(os, "sched_getaffinity")
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert systems.usable_cores() == 6
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert systems.usable_cores() == 1
