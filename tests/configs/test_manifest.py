"""The manifest's text: whatever a stranger writes there gets one line, and nothing is believed."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from odd_manifests import CRAFTED, UNREADABLE, mutated, with_value

from sam2rt.configs.bundle import Bundle, write_manifest
from sam2rt.configs.errors import BundleError
from sam2rt.configs.formats.manifest import LARGEST, MANIFEST, REMEDY

Manifest = dict[str, Any]


def manifest(bundle: Path) -> Manifest:
    loaded: Manifest = json.loads((bundle / MANIFEST).read_text())
    return loaded


def message(bundle: Path, content: bytes) -> str:
    (bundle / MANIFEST).write_bytes(content)
    with pytest.raises(BundleError) as caught:
        Bundle.load(bundle)
    found = str(caught.value)
    # one line, nothing in it that a terminal obeys
    assert found.isprintable()
    assert found.isascii()
    assert found.endswith(f": {REMEDY}")
    return found


@pytest.mark.parametrize(("keys", "value", "expected"), CRAFTED)
def test_crafted_values_are_refused(
    bundle_path: Path, keys: tuple[str | int, ...], value: Any, expected: str
) -> None:
    changed = with_value(manifest(bundle_path), keys, value)
    found = message(bundle_path, json.dumps(changed).encode())
    where = bundle_path / MANIFEST
    verdict = "was edited" if expected.startswith("block") else "is not well formed"
    assert found.startswith(f"{where} {verdict} (")
    assert expected in found


@pytest.mark.parametrize(("content", "why"), UNREADABLE)
def test_what_other_readers_could_take_differently_is_no_manifest(
    bundle_path: Path, content: bytes, why: str
) -> None:
    where = bundle_path / MANIFEST
    assert message(bundle_path, content) == f"cannot read {where} ({why}): {REMEDY}"


def test_an_enormous_file_is_not_read_whole(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with (bundle_path / MANIFEST).open("ab") as file:
        file.truncate(1 << 40)
    with pytest.raises(BundleError, match=rf"\(more than {LARGEST} bytes\)"):
        Bundle.load(bundle_path)


@pytest.mark.parametrize("value", [True, 1.0, [1], {"a": 1}, "1" * 500])
def test_only_the_number_one_is_this_schema(bundle_path: Path, value: Any) -> None:
    changed = with_value(manifest(bundle_path), ("schema",), value)
    shown = {list: "a list", dict: "an object"}.get(type(value), f"{value!r:.60}")
    expected = f"{bundle_path / MANIFEST} has schema {shown}, expected 1: {REMEDY}"
    assert message(bundle_path, json.dumps(changed).encode()) == expected


def test_what_no_reader_takes_is_never_written(bundle_path: Path) -> None:
    bundle = Bundle.load(bundle_path)
    before = (bundle_path / MANIFEST).read_bytes()
    for proof in ({"status": "\x1b[31m"}, {"emulated": 1}, {"worst": float("nan")}):
        with pytest.raises(BundleError, match="the bundle cannot be written"):
            write_manifest(Bundle(**{**vars(bundle), "proof": proof}))
    assert (bundle_path / MANIFEST).read_bytes() == before


def test_mutated_manifests_are_read_or_refused_in_one_line(bundle_path: Path) -> None:
    good = manifest(bundle_path)
    said = []
    for content in mutated(good, seed=1, count=300):
        (bundle_path / MANIFEST).write_bytes(content)
        try:
            Bundle.load(bundle_path, check_hashes=False)
        except BundleError as error:
            said.append(str(error))
    assert all(re.fullmatch(r"[ -~]+", line) for line in said)
    # a harmless change is no reason to refuse
    assert 20 < len(said) < 280
