"""The bundle format: what is written comes back, and every bad bundle gets its own message."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sam2rt.configs.bundle import Bundle, TensorSpec, file_sha256, write_manifest
from sam2rt.configs.errors import BundleError
from sam2rt.configs.graphs import graph_specs
from sam2rt.configs.models import model_config

REMEDY = "make it again with 'sam2rt export CHECKPOINT -o BUNDLE'"
Manifest = dict[str, Any]


def edit(bundle: Path, change: Callable[[Manifest], None], *, sign: bool = True) -> None:
    """Change the manifest as a careful editor would: with `sign`, the digest made to match."""
    path = bundle / "manifest.json"
    data = json.loads(path.read_text())
    change(data)
    if sign:
        del data["digest"]
        text = json.dumps(data, sort_keys=True, separators=(",", ":"))
        data["digest"] = hashlib.sha256(text.encode()).hexdigest()
    path.write_text(json.dumps(data))


def message(bundle: Path) -> str:
    with pytest.raises(BundleError) as caught:
        Bundle.load(bundle)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_round_trip(bundle_path: Path) -> None:
    bundle = Bundle.load(bundle_path)
    model = model_config("micro")
    assert bundle.model == model
    assert {name: entry.spec for name, entry in bundle.graphs.items()} == graph_specs(model)
    assert (bundle.precision, bundle.opset, bundle.generator) == ("fp32", 18, "test")
    assert bundle.checkpoint_sha256 == "c0" * 32
    assert bundle.proof == {"status": "passed", "worst": 1.5e-7}
    external = bundle.graphs["image_encoder"].external[0]
    assert external.sha256 == hashlib.sha256(bytes(range(256))).hexdigest()
    assert (external.path, external.size) == ("image_encoder.data", 256)
    assert bundle.proof_files["clip"].sha256 == hashlib.sha256(b"recorded").hexdigest()
    assert bundle.graph_path("mask_decoder") == bundle_path / "mask_decoder.onnx"
    assert len(list(bundle.files())) == 8


def test_a_bundle_moves_and_loads_through_a_link(bundle_path: Path, tmp_path: Path) -> None:
    moved = tmp_path / "elsewhere" / "b"
    shutil.copytree(bundle_path, moved)
    link = tmp_path / "link"
    link.symlink_to(moved, target_is_directory=True)
    same = dataclasses.replace(Bundle.load(moved), path=bundle_path)
    assert same == Bundle.load(bundle_path)
    assert Bundle.load(link).model == same.model


def test_the_digest_is_of_what_decides_results(bundle_path: Path, tmp_path: Path) -> None:
    bundle = Bundle.load(bundle_path)
    moved = Bundle.load(shutil.copytree(bundle_path, tmp_path / "moved"))
    assert moved.digest == bundle.digest
    assert len(bundle.digest) == 64
    proved = dataclasses.replace(bundle, proof={"other": 1}, generator="another")
    assert proved.digest == bundle.digest
    name, entry = next(iter(bundle.graphs.items()))
    file = dataclasses.replace(entry.file, sha256="0" * 64)
    graphs = {**bundle.graphs, name: dataclasses.replace(entry, file=file)}
    model = dataclasses.replace(bundle.model, num_maskmem=bundle.model.num_maskmem - 1)
    for changed in (
        dataclasses.replace(bundle, graphs=graphs),
        dataclasses.replace(bundle, model=model),
    ):
        assert changed.digest != bundle.digest


def test_missing_folder(tmp_path: Path) -> None:
    path = tmp_path / "absent"
    assert message(path) == f"expected a bundle at {path}, found no such folder: {REMEDY}"


def test_missing_manifest(tmp_path: Path) -> None:
    expected = f"expected a bundle at {tmp_path}, found a folder without manifest.json: {REMEDY}"
    assert message(tmp_path) == expected


def test_broken_json(bundle_path: Path) -> None:
    path = bundle_path / "manifest.json"
    path.write_text(path.read_text()[:100])
    found = message(bundle_path)
    assert found.startswith(f"cannot read {path} (")
    assert found.endswith(f"): {REMEDY}")


@pytest.mark.parametrize("text", [b"\xff\xfe\x00", b"[" * 100_000], ids=["binary", "nested"])
def test_manifest_that_is_no_json(bundle_path: Path, text: bytes) -> None:
    (bundle_path / "manifest.json").write_bytes(text)
    assert message(bundle_path).startswith(f"cannot read {bundle_path / 'manifest.json'} (")


@pytest.mark.parametrize(("value", "shown"), [(2, "2"), (None, "None"), ("1", "'1'")])
def test_other_schema(bundle_path: Path, value: object, shown: str) -> None:
    edit(bundle_path, lambda m: m.update(schema=value), sign=False)
    where = bundle_path / "manifest.json"
    assert message(bundle_path) == f"{where} has schema {shown}, expected 1: {REMEDY}"


def test_manifest_that_is_a_list(bundle_path: Path) -> None:
    (bundle_path / "manifest.json").write_text("[1]")
    where = bundle_path / "manifest.json"
    assert message(bundle_path) == f"{where} has schema None, expected 1: {REMEDY}"


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["model"].update(num_maskmem=6),
        lambda m: m["proof"].update(status="not run"),
        lambda m: m["graphs"]["mask_decoder"].update(sha256="0" * 64),
        lambda m: m.pop("checkpoint_sha256"),
        lambda m: m.update(digest="0" * 64),
        lambda m: m.pop("digest"),
        lambda m: m.update(added=1),
    ],
)
def test_any_edited_value(bundle_path: Path, change: Callable[[Manifest], None]) -> None:
    edit(bundle_path, change, sign=False)
    where = bundle_path / "manifest.json"
    assert message(bundle_path) == f"{where} was edited (its digest does not match): {REMEDY}"


def test_reformatting_the_manifest_is_no_edit(bundle_path: Path) -> None:
    edit(bundle_path, lambda m: None, sign=False)
    assert Bundle.load(bundle_path).generator == "test"


def _first_file(m: Manifest) -> dict[str, Any]:
    entry: dict[str, Any] = m["graphs"]["image_encoder"]
    return entry


_ILLEGAL = "image size 1000 is not legal: expected a multiple of 32, at least 64"
_FORMED = "is not well formed"
_FIRST = "graphs['image_encoder']"


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda m: m["model"].update(image_size=1000), f"was edited ({_ILLEGAL})"),
        (
            lambda m: m.update(precision="int4"),
            f"{_FORMED} (precision is 'int4': expected 'fp32' or ",
        ),
        (lambda m: m.pop("model"), f"{_FORMED} (it lacks 'model')"),
        (
            lambda m: m.update(graphs=3),
            f"{_FORMED} (graphs is 3: expected an object of at most ",
        ),
        (lambda m: m["model"].pop("family"), f"{_FORMED} (model lacks 'family')"),
        (
            lambda m: m["model"].update(colour="red"),
            f"{_FORMED} (model has 'colour', which is no part of it)",
        ),
        (lambda m: _first_file(m).update(size="big"), f"{_FORMED} ({_FIRST}.size is 'big': "),
        (lambda m: _first_file(m).update(sha256=7), f"{_FORMED} ({_FIRST}.sha256 is 7: "),
        (
            lambda m: (m["graphs"].pop("mask_prompt"), m["graphs"].pop("memory_encoder")),
            "lacks the graphs mask_prompt, memory_encoder",
        ),
        (
            lambda m: m["model"].update(image_size=512),
            ": inputs or outputs of image_encoder, memory_attention, mask_decoder, mask_prompt, "
            "memory_encoder, track_step are not what this version expects of model micro",
        ),
    ],
)
def test_signed_but_unusable(
    bundle_path: Path, change: Callable[[Manifest], None], expected: str
) -> None:
    edit(bundle_path, change)
    found = message(bundle_path)
    separator = "" if expected.startswith(":") else " "
    assert found.startswith(f"{bundle_path / 'manifest.json'}{separator}{expected}")
    assert found.endswith(REMEDY)


@pytest.mark.parametrize(
    "path", ["../outside.onnx", "a/../../b", "/etc/passwd", "..\\outside.onnx", "", ".", ".."]
)
@pytest.mark.parametrize("place", ["graph", "external", "proof"])
def test_path_that_leaves_the_folder(bundle_path: Path, path: str, place: str) -> None:
    (bundle_path.parent / "outside.onnx").write_bytes(b"x")

    def change(m: Manifest) -> None:
        entry = _first_file(m)
        target = {"graph": entry, "external": entry["external"][0], "proof": None}[place]
        (target or m["proof_files"]["clip"])["path"] = path

    edit(bundle_path, change)
    where = bundle_path / "manifest.json"
    entry = {"graph": _FIRST, "external": f"{_FIRST}.external[0]", "proof": "proof_files['clip']"}
    expected = "expected a path inside the folder of 1 to 500 characters"
    reason = f"{entry[place]}.path is {path!r}: {expected}"
    assert message(bundle_path) == f"{where} is not well formed ({reason}): {REMEDY}"


def _linked(bundle: Path, store: Path, layout: str) -> None:
    """Move the bundle's files elsewhere and leave links, as stores of data do."""
    store.mkdir()
    if layout == "folder":
        shutil.move(bundle / "proof", store / "proof")
        (bundle / "proof").symlink_to(store / "proof")
        return
    if layout == "volume":
        # Kubernetes: ..data is a link that an update turns to another folder
        for item in list(bundle.iterdir()):
            shutil.move(item, store / item.name)
            item.symlink_to(Path("..data", item.name))
        shutil.move(store, bundle / "..2026_11_30")
        (bundle / "..data").symlink_to("..2026_11_30")
        return
    for file in [path for path in bundle.rglob("*") if path.is_file()]:
        blob = store / file_sha256(file)
        shutil.move(file, blob)
        link = os.path.relpath(blob, file.parent) if layout == "relative" else blob
        file.symlink_to(link)


@pytest.mark.parametrize("layout", ["relative", "absolute", "folder", "volume"])
def test_links_that_leave_the_folder_lead_to_the_files_of_the_manifest(
    bundle_path: Path, tmp_path: Path, layout: str
) -> None:
    before = Bundle.load(bundle_path)
    _linked(bundle_path, tmp_path / "blobs", layout)
    assert Bundle.load(bundle_path) == before
    assert Bundle.load(bundle_path, check_hashes=False) == before


@pytest.mark.parametrize("check_hashes", [True, False])
def test_a_link_that_leaves_the_folder_is_never_taken_without_its_hash(
    bundle_path: Path, tmp_path: Path, check_hashes: bool
) -> None:
    outside = tmp_path / "m.onnx"
    inside = bundle_path / "mask_decoder.onnx"
    shutil.move(inside, outside)
    inside.symlink_to(outside)
    outside.write_bytes(b"x" * outside.stat().st_size)
    with pytest.raises(BundleError, match=rf"^{inside} has sha256 .*, the manifest says"):
        Bundle.load(bundle_path, check_hashes=check_hashes)
    outside.unlink()
    assert message(bundle_path) == f"{inside} is missing: {REMEDY}"
    inside.unlink()
    inside.symlink_to(tmp_path)
    assert message(bundle_path) == f"{inside} is missing: {REMEDY}"


def test_what_was_loaded_stays_where_it_was(
    bundle_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(bundle_path.parent)
    bundle = Bundle.load(bundle_path.name)
    monkeypatch.chdir(tmp_path.parent)
    assert bundle.path == bundle_path
    assert bundle.graph_path("mask_decoder").read_bytes()[2:7] == b"graph"


def test_link_inside_the_folder_is_fine(bundle_path: Path) -> None:
    graph = bundle_path / "mask_decoder.onnx"
    graph.rename(bundle_path / "real.onnx")
    graph.symlink_to("real.onnx")
    assert Bundle.load(bundle_path).graph_path("mask_decoder").read_bytes()[2:7] == b"graph"


def test_missing_file(bundle_path: Path) -> None:
    path = bundle_path / "image_encoder.data"
    path.unlink()
    assert message(bundle_path) == f"{path} is missing: {REMEDY}"


def test_truncated_file(bundle_path: Path) -> None:
    path = bundle_path / "image_encoder.data"
    path.write_bytes(path.read_bytes()[:100])
    expected = f"{path} has 100 bytes, the manifest says 256 (truncated?): {REMEDY}"
    assert message(bundle_path) == expected


def test_changed_byte(bundle_path: Path) -> None:
    path = bundle_path / "memory_encoder.onnx"
    before = file_sha256(path)
    data = bytearray(path.read_bytes())
    data[7] ^= 1
    path.write_bytes(data)
    found = file_sha256(path)
    expected = f"{path} has sha256 {found[:12]}..., the manifest says {before[:12]}...: {REMEDY}"
    assert message(bundle_path) == expected
    # the caller who asks for it may skip the hashes, never the sizes
    assert Bundle.load(bundle_path, check_hashes=False).opset == 18


def test_unknown_graph(bundle_path: Path) -> None:
    bundle = Bundle.load(bundle_path)
    have = "image_encoder, memory_attention, mask_decoder, mask_prompt, memory_encoder, track_step"
    with pytest.raises(BundleError) as caught:
        bundle.graph_path("other_step")
    expected = f"bundle {bundle_path} has no graph 'other_step' (it has {have}): {REMEDY}"
    assert str(caught.value) == expected


def test_frames_can_be_tracked_without_the_fused_graph(bundle_path: Path) -> None:
    edit(bundle_path, lambda m: m["graphs"].pop("track_step"), sign=True)
    assert len(Bundle.load(bundle_path).graphs) == 5


def test_more_graphs_than_the_contract_are_kept(bundle_path: Path) -> None:
    """A later version may add a fused graph; it must not keep this one from loading."""
    bundle = Bundle.load(bundle_path)
    extra = dataclasses.replace(bundle.graphs["mask_decoder"].spec, name="fused")
    extra = dataclasses.replace(extra, inputs=(TensorSpec("x", "float16", (1, "N")),))
    entry = dataclasses.replace(bundle.graphs["mask_decoder"], spec=extra)
    write_manifest(dataclasses.replace(bundle, graphs={**bundle.graphs, "fused": entry}))
    assert Bundle.load(bundle_path).graphs["fused"].spec == extra
