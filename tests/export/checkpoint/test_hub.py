"""Bundles of the hub, against a local server that answers as it does."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from fake_bundle import write_bundle
from hub_server import COMMIT, Hub, hub_of

import sam2rt
from sam2rt.cli import main as cli
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import BundleError, CheckpointError, InputError, Sam2rtError
from sam2rt.configs.formats.manifest import MANIFEST, digest_of
from sam2rt.export.checkpoint import transfer, web
from sam2rt.export.checkpoint.hub import download_bundle
from sam2rt.export.checkpoint.official import HubName, hub_name
from sam2rt.export.checkpoint.transfer import Remote, fetch
from sam2rt.runtime.predictors.pretrained import pretrained_bundle

NAME = "someone/bundle"


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """The repository holds a bundle, weights of 200 kB that lie in a store, and a README."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(transfer.time, "sleep", lambda seconds: None)
    folder = tmp_path / "served"
    write_bundle(folder)
    monkeypatch.setenv("SAM2RT_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    with hub_of(folder) as state:
        state.large = 200
        (folder / "README.md").write_text("not listed")
        monkeypatch.setenv("HF_ENDPOINT", state.url)
        yield state


def _fetched() -> Bundle:
    bundle = download_bundle(NAME)
    assert bundle is not None
    return bundle


def _files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _refused(kind: type[Sam2rtError], work: Callable[[], Any], cache: Path) -> str:
    with pytest.raises(kind) as caught:
        work()
    assert "\n" not in str(caught.value)
    assert list((cache / "hub").glob("bundles/*/*")) == []
    assert list((cache / "hub").glob(".manifest-*")) == []
    return str(caught.value)


def test_a_bundle_is_fetched_once_and_only_what_it_lists(hub: Hub, tmp_path: Path) -> None:
    bundle = _fetched()
    expected = _files(hub.folder)
    del expected["README.md"]
    assert _files(bundle.path) == expected
    digest = hashlib.sha256(expected[MANIFEST]).hexdigest()[:32]
    assert bundle.path == tmp_path / "cache" / "hub" / "bundles" / digest
    assert [path for path in hub.asked() if "README" in path] == []
    # every file of the commit that the manifest is of
    resolved = [path for path in hub.asked() if path.startswith("/someone")]
    assert resolved[0] == f"/someone/bundle/resolve/main/{MANIFEST}"
    assert all(path.startswith(f"/someone/bundle/resolve/{COMMIT}/") for path in resolved[1:])
    count = len(hub.requests)
    assert _fetched().path == bundle.path
    again = [f"/someone/bundle/resolve/main/{MANIFEST}", f"/store/{MANIFEST}"]
    assert hub.asked()[count:] == again


@pytest.mark.parametrize(
    "load",
    [
        lambda: Bundle.load(NAME),
        lambda: sam2rt.Bundle.load(f"{NAME}@v1"),
        lambda: pretrained_bundle(NAME),
    ],
)
def test_names_of_the_hub_are_bundles(load: Callable[[], Bundle], hub: Hub) -> None:
    assert load().checkpoint_sha256 == "c0" * 32
    assert len(_files(load().path)) == len(_files(hub.folder)) - 1


def test_a_folder_of_that_name_comes_first(hub: Hub, tmp_path: Path) -> None:
    shutil.copytree(hub.folder, tmp_path / NAME)
    assert Bundle.load(NAME).path == tmp_path / NAME
    # a typing error in a path asks nobody, nor does a Path
    with pytest.raises(BundleError, match="found no such folder"):
        Bundle.load("someone/bundel")
    with pytest.raises(BundleError, match="found no such folder"):
        Bundle.load(Path("nobody/bundle"))
    assert hub.requests == []


def test_a_commit_needs_no_network_twice(hub: Hub) -> None:
    name = f"{NAME}@{COMMIT}"
    first = download_bundle(name)
    assert first is not None
    hub.requests.clear()
    again = download_bundle(name)
    assert again is not None
    assert (again.path, hub.requests) == (first.path, [])
    # a damaged copy is fetched again
    (first.path / "mask_decoder.onnx").unlink()
    assert download_bundle(name) is not None
    assert _files(first.path)["mask_decoder.onnx"] == _files(hub.folder)["mask_decoder.onnx"]


@pytest.mark.parametrize(
    "said",
    ["x/../../../../outside", "../../x", "main", "", f"{COMMIT}\u0661", COMMIT.upper(), "a" * 41],
)
def test_a_commit_that_is_none_names_nothing(said: str, hub: Hub, tmp_path: Path) -> None:
    """A server's header becomes no path: not one out of the cache, and none in it."""
    hub.commit = said.encode().decode("latin-1")
    before = set(tmp_path.iterdir())
    _fetched()
    assert set(tmp_path.iterdir()) - before == {tmp_path / "cache"}
    assert sorted(path.name for path in (tmp_path / "cache").iterdir()) == ["hub"]
    assert sorted(path.name for path in (tmp_path / "cache" / "hub").iterdir()) == [
        "blobs", "bundles",
    ]  # fmt: skip
    assert all("/resolve/main/" in path for path in hub.asked() if "/resolve/" in path)


def test_a_dropped_connection_goes_on(hub: Hub) -> None:
    (hub.folder / "README.md").unlink()
    hub.cut_after = [100_000, 120]
    assert _files(_fetched().path) == _files(hub.folder)
    assert [wanted for _, wanted in hub.requests if wanted]


@pytest.mark.parametrize("large", [100_000, 200])
def test_a_manifest_that_the_hub_has_another_hash_of(large: int, hub: Hub, tmp_path: Path) -> None:
    """Of small files the hub gives git's sha1, of large ones the sha256."""
    hub.large = large
    size = 40 if large == 100_000 else 64
    hub.hashes[MANIFEST] = "a" * size
    line = _refused(CheckpointError, lambda: download_bundle(NAME), tmp_path / "cache")
    kind = "git's sha1" if size == 40 else "sha256"
    start = f"{hub.url}/someone/bundle/resolve/main/manifest.json has {kind} "
    assert line.startswith(start)
    assert line.endswith(
        f", the hub says {'a' * size}: it is not the file it should be, nothing was kept; try again"
    )


def test_a_file_that_is_not_what_the_manifest_says(hub: Hub, tmp_path: Path) -> None:
    path = hub.folder / "mask_decoder.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    line = _refused(CheckpointError, lambda: download_bundle(NAME), tmp_path / "cache")
    assert "mask_decoder.onnx has sha256 " in line
    assert line.endswith("nothing was kept; try again or another source")


def test_a_manifest_that_leaves_the_folder(hub: Hub, tmp_path: Path) -> None:
    text = (hub.folder / MANIFEST).read_text()
    (hub.folder / MANIFEST).write_text(text.replace("proof/clip.npz", "../../clip.npz"))
    line = _refused(BundleError, lambda: download_bundle(NAME), tmp_path / "cache")
    assert "was edited" in line
    _sign_hashes(hub.folder, text, "../")
    line = _refused(BundleError, lambda: download_bundle(NAME), tmp_path / "cache")
    assert "expected a sha256 in hexadecimal" in line


def _sign_hashes(folder: Path, text: str, start: str) -> None:
    """A manifest whose hashes begin otherwise, by someone who can sign it."""
    (folder / MANIFEST).write_text(text)
    data = json.loads(text)
    for graph in data["graphs"].values():
        graph["sha256"] = start + graph["sha256"]
    (folder / MANIFEST).write_text(json.dumps({**data, "digest": digest_of(data)}))


def test_what_the_hub_does_not_have(hub: Hub, tmp_path: Path) -> None:
    def ask(name: str) -> str:
        return _refused(CheckpointError, lambda: download_bundle(name), tmp_path / "cache")

    assert ask("nobody/none") == (
        f"cannot download {hub.url}/nobody/none/resolve/main/manifest.json (401 Unauthorized): "
        "check the name, the hub has no such public repository; of a private or gated one fetch "
        "the files yourself and name their folder"
    )
    assert ask(f"{NAME}@v9") == (
        f"cannot download {hub.url}/{NAME}/resolve/v9/manifest.json (404 Not Found): check the "
        "revision, the repository has no such branch, tag or commit"
    )
    (hub.folder / MANIFEST).unlink()
    assert download_bundle(NAME) is None
    with pytest.raises(BundleError) as refused:
        Bundle.load(NAME)
    assert str(refused.value) == (
        f"expected a bundle at {NAME}, found neither a folder of that name nor a manifest.json in "
        "that repository of the hub: make it again with 'sam2rt export CHECKPOINT -o BUNDLE'"
    )


def test_without_a_network(hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    line = _refused(CheckpointError, lambda: download_bundle(NAME), tmp_path / "cache")
    assert line == (
        f"cannot download http://127.0.0.1:1/{NAME}/resolve/main/manifest.json ([Errno 111] "
        "Connection refused): check the connection and try again"
    )


def test_a_full_disk_is_told_at_once(hub: Hub, tmp_path: Path) -> None:
    target = Path("/dev/full")
    if not target.exists():
        pytest.skip("no /dev/full here")
    (tmp_path / "full.part").symlink_to(target)
    with target.open("wb") as file:
        moving = transfer._Transfer(Remote(hub.url), file, lambda *_: None, 1.0)
        with pytest.raises(CheckpointError) as refused:
            moving._write(bytes(1 << 20))
    assert str(refused.value) == (
        "cannot write to /dev (No space left on device): make room, or name another folder, with "
        "-o or in SAM2RT_CACHE"
    )


@pytest.mark.parametrize(
    ("url", "origin", "allowed"),
    [
        ("https://a.example/x", None, True),
        ("http://a.example/x", None, False),
        ("http://127.0.0.1:8/x", None, True),
        ("http://[::1]:8/x", None, True),
        ("http://localhost/x", None, True),
        ("http://127.0.0.1.a.example/x", None, False),
        ("ftp://a.example/x", None, False),
        ("file:///etc/passwd", None, False),
        ("https://b.example/x", "https://a.example/x", True),
        ("http://b.example/x", "https://a.example/x", False),
        ("http://127.0.0.1/x", "https://a.example/x", False),
        ("http://a.example/x", "http://127.0.0.1/x", False),
        ("http://localhost/x", "http://127.0.0.1/x", True),
    ],
)
def test_https_alone(url: str, origin: str | None, allowed: bool) -> None:
    if allowed:
        web.check_url(url, from_url=origin)
        return
    with pytest.raises(CheckpointError, match="expected https: nothing is fetched without it"):
        web.check_url(url, from_url=origin)


def test_no_redirect_to_http(hub: Hub, tmp_path: Path) -> None:
    """The rule of every download: checkpoints and bundles."""
    hub.store = "http://store.example"
    remote = Remote(f"{hub.url}/{NAME}/resolve/main/image_encoder.data")
    with pytest.raises(CheckpointError) as refused:
        fetch(remote, tmp_path / "x")
    assert str(refused.value) == (
        f"{remote.url} leads to http://store.example/store/image_encoder.data, expected https: "
        "nothing is fetched without it"
    )
    assert not (tmp_path / "x").exists()
    with pytest.raises(CheckpointError, match=r"^http://mirror\.example/w\.pt, expected https"):
        fetch(Remote("http://mirror.example/w.pt"), tmp_path / "x")


def test_the_command(hub: Hub, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as done:
        cli(["download", NAME, "-o", str(tmp_path / "here")])
    out, err = capsys.readouterr()
    assert (done.value.code, err) == (0, "")
    place, said = out.splitlines()
    assert Path(place).parent == tmp_path / "here" / "hub" / "bundles"
    assert said == "bundle of micro, fp32"
    assert _files(Path(place)).keys() == _files(hub.folder).keys() - {"README.md"}


def test_official_names_hold_no_bundle(hub: Hub) -> None:
    assert download_bundle("facebook/sam2.1-hiera-tiny") is None
    assert hub.requests == []
    with pytest.raises(InputError, match="'a/b/c' is no name on the hub"):
        download_bundle("a/b/c")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a/b", HubName("a/b", "main")),
        ("a/b@v1.0", HubName("a/b", "v1.0")),
        ("a/b@refs/pr/1", HubName("a/b", "refs/pr/1")),
        ("a/b@", None),
        ("a/b@../x", None),
        ("a", None),
        ("a/b.pt", None),
    ],
)
def test_names(text: str, expected: HubName | None) -> None:
    assert hub_name(text) == expected


def test_addresses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("HF_ENDPOINT", raising=False)
    assert HubName("a/b", "refs/pr/1").url("x y/z") == (
        "https://huggingface.co/a/b/resolve/refs%2Fpr%2F1/x%20y/z"
    )
