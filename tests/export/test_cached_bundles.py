"""Bundles by name: the cache goes by contents, and only what was made here is replaced."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from fake_bundle import write_bundle

from sam2rt.configs.bundle import Bundle, write_manifest
from sam2rt.configs.errors import BundleError, CheckpointError, InputError
from sam2rt.configs.models import MODELS
from sam2rt.export import bundle as exporting
from sam2rt.export.bundle import bundle_for
from sam2rt.export.checkpoint import load, shards
from sam2rt.export.checkpoint.load import Checkpoint, checkpoint_sha256, load_checkpoint
from sam2rt.export.checkpoint.official import OFFICIAL, names_a_download
from sam2rt.runtime.predictors.pretrained import pretrained_bundle


@pytest.fixture
def exports(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Names that were exported, by an exporter that takes any file; the cache is tmp_path/cache."""
    made: list[str] = []

    def loaded(source: str) -> Checkpoint:
        known = checkpoint_sha256(source)
        return Checkpoint(MODELS["micro"], {}, known, str(source))

    def export(checkpoint: Checkpoint, target: Path) -> Bundle:
        made.append(checkpoint.source)
        write_bundle(target, generator=f"number {len(made)}")
        bundle = replace(Bundle.load(target), checkpoint_sha256=checkpoint.sha256)
        write_manifest(bundle)
        return Bundle.load(target)

    monkeypatch.setenv("SAM2RT_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(exporting, "load_checkpoint", loaded)
    monkeypatch.setattr(exporting, "export_bundle", export)
    return made


def everything(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


@pytest.mark.parametrize("name", [".", "..", "./.", "../..", "/", "a/..", "../bundles", "x\0y", ""])
def test_no_name_removes_anything(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = tmp_path / "cache"
    write_bundle(cache / "bundles" / "one")
    (cache / "sam2.1_hiera_tiny.pt").write_bytes(b"weights")
    (cache / "bundles" / "notes.txt").write_text("mine")
    (tmp_path / "here" / "a").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.setenv("SAM2RT_CACHE", str(cache))
    before = everything(tmp_path)
    with pytest.raises((InputError, CheckpointError)) as refused:
        pretrained_bundle(name)
    assert "\n" not in str(refused.value)
    assert everything(tmp_path) == before


def test_a_checkpoint_trained_further_is_another_one(exports: list[str], tmp_path: Path) -> None:
    file = tmp_path / "best.pt"
    file.write_bytes(b"first")
    first = bundle_for(str(file))
    assert bundle_for(str(file)).path == first.path
    assert exports == [str(file)]
    file.write_bytes(b"second")
    second = bundle_for(str(file))
    assert second.path != first.path
    assert second.checkpoint_sha256 == checkpoint_sha256(str(file))
    file.write_bytes(b"first")
    assert bundle_for(str(file)).generator == "number 1"


def test_the_same_name_in_another_folder_is_another_one(
    exports: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        monkeypatch.chdir(tmp_path / folder)
        Path("best.pt").write_text(folder)
        found.append(bundle_for("best.pt").generator)
    assert found == ["number 1", "number 2"]
    # the same weights under another name need no second export
    shutil.copyfile("best.pt", "renamed.pt")
    assert bundle_for("renamed.pt").generator == "number 2"


def test_a_folder_named_like_an_official_model_is_itself(
    exports: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sam2.1_hiera_tiny").mkdir()
    Path("sam2.1_hiera_tiny/mine.pt").write_text("mine")
    made = bundle_for("sam2.1_hiera_tiny")
    assert made.checkpoint_sha256 != OFFICIAL["sam2.1_hiera_tiny"].sha256


def test_a_cached_official_bundle_needs_no_checkpoint(
    exports: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def offline(*_: Any, **__: Any) -> Path:
        pytest.fail("must not be downloaded")

    monkeypatch.setattr(load, "download_checkpoint", offline)
    first = bundle_for("facebook/sam2.1-hiera-tiny")
    assert first.checkpoint_sha256 == OFFICIAL["sam2.1_hiera_tiny"].sha256
    assert bundle_for("sam2.1_hiera_t").path == first.path
    assert len(exports) == 1


@pytest.mark.parametrize("changed", ["VERSION", "SCHEMA", "DEFAULT_OPSET"])
def test_another_exporter_makes_another_bundle(
    changed: str, exports: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w.pt").write_text("w")
    first = bundle_for(str(tmp_path / "w.pt"))
    monkeypatch.setattr(exporting, changed, 99)
    assert bundle_for(str(tmp_path / "w.pt")).path != first.path


def test_a_damaged_bundle_is_made_again_and_nothing_else(
    exports: list[str], tmp_path: Path
) -> None:
    (tmp_path / "w.pt").write_text("w")
    path = bundle_for(str(tmp_path / "w.pt")).path
    (path / "mask_decoder.onnx").write_bytes(b"broken")
    assert bundle_for(str(tmp_path / "w.pt")).generator == "number 2"
    (path / "mask_decoder.onnx").write_bytes(b"broken")
    (path / "notes.txt").write_text("mine")
    with pytest.raises(BundleError) as refused:
        bundle_for(str(tmp_path / "w.pt"))
    assert str(refused.value) == (
        f"folder {path} holds notes.txt, which is no part of a bundle: move it, or name another "
        "folder"
    )
    assert (path / "notes.txt").read_text() == "mine"
    assert (path / "mask_decoder.onnx").read_bytes() == b"broken"


@pytest.mark.parametrize(
    ("extra", "found"),
    [
        ("engines/sm_90/notes.txt", "engines/sm_90/notes.txt"),
        ("proof/mine.txt", "proof/mine.txt"),
        ("deep.onnx/mine.txt", "deep.onnx"),
    ],
)
def test_foreign_files_count_at_any_depth(tmp_path: Path, extra: str, found: str) -> None:
    target = tmp_path / "bundle"
    write_bundle(target)
    (target / extra).parent.mkdir(parents=True, exist_ok=True)
    (target / extra).write_text("mine")
    with pytest.raises(BundleError, match=f"holds {found}, which is no part of a bundle"):
        write_bundle(target)
    assert (target / extra).read_text() == "mine"


def test_a_manifest_of_another_program_is_foreign(tmp_path: Path) -> None:
    target = tmp_path / "app"
    target.mkdir()
    (target / "manifest.json").write_text('{"icons": [{"path": "icon.png"}]}')
    (target / "icon.png").write_bytes(b"mine")
    with pytest.raises(BundleError, match=r"holds manifest\.json, which is no part of a bundle"):
        write_bundle(target)
    assert everything(target) == ["icon.png", "manifest.json"]


def test_a_file_in_the_place_of_a_folder_is_left(exports: list[str], tmp_path: Path) -> None:
    (tmp_path / "w.pt").write_text("w")
    path = bundle_for(str(tmp_path / "w.pt")).path
    shutil.rmtree(path)
    path.write_text("mine")
    with pytest.raises(BundleError, match="is a file: name a folder for the bundle"):
        bundle_for(str(tmp_path / "w.pt"))
    assert path.read_text() == "mine"


@pytest.mark.parametrize(
    "name", ["a/..", "a/.", "a/b..c", "a--b/c", "a/b--c", "a/-b", "a/b.", "ä/b", "a/" + "b" * 97]
)
def test_what_the_hub_refuses_is_no_hub_id(name: str) -> None:
    assert not names_a_download(name)


@pytest.mark.parametrize("source", ["", "a\0b", 7])
def test_what_is_no_path_is_no_checkpoint(source: Any) -> None:
    with pytest.raises(InputError, match="expected a file, a folder or a name"):
        load_checkpoint(source)
    with pytest.raises(InputError, match="expected the folder of a bundle"):
        Bundle.load(source)


def test_a_name_too_long_for_the_system_is_no_checkpoint() -> None:
    with pytest.raises(CheckpointError, match="is neither a file nor a folder"):
        load_checkpoint("x" * 300)


def test_a_checkpoint_that_may_not_be_read_is_one_line(
    exports: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "w.pt").write_text("w")

    def refused(path: Path) -> str:
        raise PermissionError(13, "Permission denied", os.fspath(path))

    monkeypatch.setattr(shards, "file_sha256", refused)
    with pytest.raises(CheckpointError, match=r"w\.pt cannot be read \(Permission denied\)"):
        bundle_for(str(tmp_path / "w.pt"))
