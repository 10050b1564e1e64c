"""Downloads against a local server: resumed, checked, atomic, and clear when they fail."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from file_server import FileServer, serving

from sam2rt.configs.errors import CheckpointError, InputError
from sam2rt.configs.models import MODELS
from sam2rt.export.checkpoint import download
from sam2rt.export.checkpoint.download import download_checkpoint
from sam2rt.export.checkpoint.official import OFFICIAL, names_a_download, official_name
from sam2rt.export.checkpoint.transfer import Remote, fetch, sha256_of

CONTENT = np.random.default_rng(5).bytes(3_000_000)
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with serving(CONTENT) as state:
        yield state


def known(server: FileServer) -> Remote:
    return Remote(f"{server.url}/weights.pt", len(CONTENT), SHA256)


def quick(remote: Remote, target: Path, attempts: int = 3) -> Path:
    return fetch(remote, target, attempts=attempts, pause=0.01, timeout=5)


def failure(remote: Remote, target: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        quick(remote, target)
    assert not target.exists()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_official_table() -> None:
    assert set(OFFICIAL) == {n for n in MODELS if n.startswith(("sam2.1_", "sam2_"))}
    for name, remote in OFFICIAL.items():
        date = "092824" if name.startswith("sam2.1") else "072824"
        base = "https://dl.fbaipublicfiles.com/segment_anything_2"
        assert remote.url == f"{base}/{date}/{name}.pt"
        assert re.fullmatch("[0-9a-f]{64}", remote.sha256 or "")
        assert remote.size is not None
    assert len({remote.sha256 for remote in OFFICIAL.values()}) == 8


def test_published_sizes_fit_the_models() -> None:
    """A float32 file is its parameters and under 1 % of names and structure."""
    import torch

    from sam2rt.export.model.sam2 import Sam2

    for name, remote in OFFICIAL.items():
        with torch.device("meta"):
            weights = 4 * sum(p.numel() for p in Sam2(MODELS[name]).parameters())
        assert remote.size is not None
        assert weights < remote.size < 1.01 * weights


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("sam2.1_hiera_tiny", "sam2.1_hiera_tiny"),
        ("sam2_hiera_b+", "sam2_hiera_base_plus"),
        ("facebook/sam2.1-hiera-base-plus", "sam2.1_hiera_base_plus"),
        (OFFICIAL["sam2_hiera_large"].url, "sam2_hiera_large"),
        ("micro", None),
        ("someone/sam2.1-finetuned", None),
        ("https://example.org/sam2.1_hiera_tiny.pt", None),
    ],
)
def test_official_names(source: str, name: str | None) -> None:
    assert official_name(source) == name


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("sam2.1_hiera_t", True),
        ("someone/sam2.1-finetuned", True),
        ("someone/weights.pt", False),
        ("micro", False),
        ("a/b/c", False),
        ("/absolute", False),
        ("https://example.org/x.pt", False),
    ],
)
def test_what_is_a_download(source: str, expected: bool) -> None:
    assert names_a_download(source) is expected


def test_fetches_once(server: FileServer, tmp_path: Path) -> None:
    target = tmp_path / "deep" / "weights.pt"
    seen: list[tuple[str, int, int | None]] = []
    fetch(known(server), target, progress=lambda *given: seen.append(given))
    assert target.read_bytes() == CONTENT
    assert seen[-1] == ("weights.pt", len(CONTENT), len(CONTENT))
    assert [done for _, done, _ in seen] == sorted(done for _, done, _ in seen)
    assert (tmp_path / "deep" / "weights.pt.sha256").read_text() == f"{SHA256}  weights.pt\n"
    assert sorted(p.name for p in target.parent.iterdir()) == ["weights.pt", "weights.pt.sha256"]
    quick(known(server), target)
    assert len(server.requests) == 1


def test_goes_on_after_a_dropped_connection(server: FileServer, tmp_path: Path) -> None:
    server.cut_after = [1_000_000, 500_000]
    target = quick(known(server), tmp_path / "weights.pt")
    assert target.read_bytes() == CONTENT
    wanted = [header for _, header in server.requests]
    assert wanted == [None, "bytes=1000000-", "bytes=1500000-"]


def test_goes_on_after_an_earlier_run(server: FileServer, tmp_path: Path) -> None:
    target = tmp_path / "weights.pt"
    (tmp_path / "weights.pt.part").write_bytes(CONTENT[:2_000_000])
    assert quick(known(server), target).read_bytes() == CONTENT
    assert server.requests == [("/weights.pt", "bytes=2000000-")]


def test_a_complete_part_needs_no_request(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "weights.pt.part").write_bytes(CONTENT)
    assert quick(known(server), tmp_path / "weights.pt").read_bytes() == CONTENT
    assert server.requests == []


def test_a_part_that_is_too_long_starts_over(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "weights.pt.part").write_bytes(CONTENT + b"more")
    assert quick(known(server), tmp_path / "weights.pt").read_bytes() == CONTENT
    assert server.requests == [("/weights.pt", None)]


def test_server_without_ranges_starts_over(server: FileServer, tmp_path: Path) -> None:
    server.ranges = False
    server.cut_after = [1_000_000]
    assert quick(known(server), tmp_path / "weights.pt").read_bytes() == CONTENT
    assert len(server.requests) == 2


def test_file_that_changes_between_two_requests(server: FileServer, tmp_path: Path) -> None:
    server.cut_after = [1_000_000]
    remote = Remote(f"{server.url}/weights.pt")

    def change(name: str, done: int, total: int | None) -> None:
        server.content, server.etag = bytes(2_000_000), '"v2"'

    target = tmp_path / "weights.pt"
    fetch(remote, target, pause=0.01, progress=change)
    assert target.read_bytes() == bytes(2_000_000)


def test_unknown_sha256_never_resumes_another_run(server: FileServer, tmp_path: Path) -> None:
    (tmp_path / "weights.pt.part").write_bytes(b"of an older version")
    remote = Remote(f"{server.url}/weights.pt")
    assert quick(remote, tmp_path / "weights.pt").read_bytes() == CONTENT
    assert server.requests == [("/weights.pt", None)]


def test_trust_on_first_use(server: FileServer, tmp_path: Path) -> None:
    target = tmp_path / "weights.pt"
    remote = Remote(f"{server.url}/weights.pt")
    quick(remote, target)
    target.write_bytes(CONTENT[:-1] + b"x")
    found = hashlib.sha256(target.read_bytes()).hexdigest()
    with pytest.raises(CheckpointError) as caught:
        quick(remote, target)
    assert str(caught.value) == (
        f"{target} has sha256 {found[:12]}..., expected {SHA256[:12]}... "
        "(changed since its download?): delete it and try again"
    )


@pytest.mark.parametrize("content", [b"", b"\n", b"rubbish", b"\xff" * 64, b"ab" * 31, None])
def test_a_hash_file_that_holds_none_is_one_line(content: bytes | None, tmp_path: Path) -> None:
    target = tmp_path / "w.pt"
    record = tmp_path / "w.pt.sha256"
    if content is None:
        expected = (
            f"cannot read {record} (No such file or directory): remove it, and download again"
        )
    else:
        record.write_bytes(content)
        expected = f"{record} holds no sha256: remove it, and download again"
    with pytest.raises(CheckpointError) as refused:
        sha256_of(target)
    assert str(refused.value) == expected
    record.write_text("ab" * 32 + "  w.pt\n")
    assert sha256_of(target) == "ab" * 32


def test_copy_put_there_by_hand_is_checked(server: FileServer, tmp_path: Path) -> None:
    target = tmp_path / "weights.pt"
    target.write_bytes(CONTENT)
    assert quick(known(server), target) == target
    assert server.requests == []
    assert (tmp_path / "weights.pt.sha256").is_file()
    target.write_bytes(b"other")
    with pytest.raises(CheckpointError, match="expected " + SHA256[:12]):
        quick(known(server), target)


def test_wrong_hash_keeps_nothing(server: FileServer, tmp_path: Path) -> None:
    server.content = CONTENT[:-1] + b"x"
    found = hashlib.sha256(server.content).hexdigest()
    message = failure(known(server), tmp_path / "weights.pt")
    assert message == (
        f"{server.url}/weights.pt has sha256 {found}, expected {SHA256}: it is not the file it "
        "should be, nothing was kept; try again or another source"
    )
    assert list(tmp_path.iterdir()) == []


def test_wrong_size_is_noticed_before_the_bytes(server: FileServer, tmp_path: Path) -> None:
    server.content = b"<html>please log in</html>"
    message = failure(known(server), tmp_path / "weights.pt")
    assert message == (
        f"{server.url}/weights.pt has 26 bytes, expected 3000000: it is not the file it should "
        "be; try another source"
    )


def test_truncated_every_time(server: FileServer, tmp_path: Path) -> None:
    server.cut_after = [1_000_000, 0, 0, 0, 0]
    message = failure(known(server), tmp_path / "weights.pt")
    assert message == (
        f"cannot download {server.url}/weights.pt (ended after 1000000 of 3000000 bytes): check "
        "the connection and try again, what has come is kept"
    )
    assert (tmp_path / "weights.pt.part").read_bytes() == CONTENT[:1_000_000]


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (404, "(404 Not Found): check the name"),
        (403, "(403 Forbidden): is it public?"),
        (401, "(401 Unauthorized): is it public?"),
    ],
)
def test_refused(server: FileServer, tmp_path: Path, status: int, expected: str) -> None:
    server.statuses = [status]
    message = failure(known(server), tmp_path / "weights.pt")
    assert message == f"cannot download {server.url}/weights.pt {expected}"
    assert len(server.requests) == 1


def test_busy_server_is_asked_again(server: FileServer, tmp_path: Path) -> None:
    server.statuses = [503, 429]
    assert quick(known(server), tmp_path / "weights.pt").read_bytes() == CONTENT
    server.statuses = [503, 503, 503]
    message = failure(known(server), tmp_path / "other.pt")
    assert "(answered 503 Service Unavailable): check the connection" in message


def test_server_gone(tmp_path: Path) -> None:
    with serving(b"") as state:
        url = state.url
    message = failure(Remote(f"{url}/weights.pt"), tmp_path / "weights.pt")
    assert message == (
        f"cannot download {url}/weights.pt ([Errno 111] Connection refused): check the connection "
        "and try again"
    )


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    remote = Remote("http://127.0.0.1:1/w.pt")
    (tmp_path / "file").touch()
    for folder, why in (
        (Path("/proc/x"), "No such file or directory"),
        (Path("/proc"), "No such file or directory"),
        (tmp_path / "file", "File exists"),
    ):
        with pytest.raises(InputError) as refused:
            quick(remote, folder / "w.pt")
        assert str(refused.value) == (
            f"nothing can be written to {folder} ({why}): name another folder, with -o or in "
            "SAM2RT_CACHE"
        )


def test_no_room(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage)
    message = failure(known(server), tmp_path / "weights.pt")
    assert message == (
        f"{tmp_path} has 1 MB free, 2 MB are needed: make room, or name another folder in "
        "SAM2RT_CACHE"
    )


def test_hub_id(server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    target = download_checkpoint("someone/sam2.1-x", folder=tmp_path)
    assert target == tmp_path / "hub" / "someone--sam2.1-x" / "model.safetensors"
    assert target.read_bytes() == CONTENT
    assert server.requests == [("/someone/sam2.1-x/resolve/main/model.safetensors", None)]


def test_official_hub_id_takes_the_file_whose_sha256_is_known(
    server: FileServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", server.url)
    with pytest.raises(CheckpointError, match="has 3000000 bytes, expected 156008466"):
        download_checkpoint("facebook/sam2.1-hiera-tiny", folder=tmp_path)
    path = "/facebook/sam2.1-hiera-tiny/resolve/main/sam2.1_hiera_tiny.pt"
    assert server.requests == [(path, None)]


def test_unknown_name(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError) as caught:
        download_checkpoint("sam9", folder=tmp_path)
    assert str(caught.value).startswith(
        "nothing to download is called 'sam9': known are sam2.1_hiera_tiny, "
    )


def test_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("SAM2RT_CACHE", str(tmp_path / "mine"))
    assert download.cache_folder() == tmp_path / "mine"
    monkeypatch.delenv("SAM2RT_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert download.cache_folder() == tmp_path / "xdg" / "sam2rt"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert download.cache_folder() == tmp_path / ".cache" / "sam2rt"


_FETCH = """
import sys
from pathlib import Path
from sam2rt.export.checkpoint.transfer import Remote, fetch
fetch(Remote(sys.argv[1], int(sys.argv[2]), sys.argv[3]), Path(sys.argv[4]))
"""


def test_two_processes_fetch_it_once(server: FileServer, tmp_path: Path) -> None:
    target = tmp_path / "weights.pt"
    arguments = [f"{server.url}/weights.pt", str(len(CONTENT)), SHA256, str(target)]
    workers = [subprocess.Popen([sys.executable, "-c", _FETCH, *arguments]) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    assert target.read_bytes() == CONTENT
    assert len(server.requests) == 1


_INTERRUPTED = """
import sys, time
from pathlib import Path
from sam2rt.export.checkpoint.transfer import Remote, fetch
def stop(name, done, total):
    print("ready", flush=True)
    time.sleep(60)
fetch(Remote(sys.argv[1], int(sys.argv[2]), sys.argv[3]), Path(sys.argv[4]), progress=stop)
"""


@pytest.mark.skipif(os.name != "posix", reason="signals are POSIX")
def test_interrupted_run_is_resumed(server: FileServer, tmp_path: Path) -> None:
    target = tmp_path / "weights.pt"
    remote = known(server)
    arguments = [remote.url, str(len(CONTENT)), SHA256, str(target)]
    process = subprocess.Popen(
        [sys.executable, "-c", _INTERRUPTED, *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert process.stdout is not None
    with process.stdout as lines:
        assert lines.readline() == "ready\n"
        time.sleep(0.1)
        process.send_signal(signal.SIGINT)
        assert process.wait() != 0
    assert not target.exists()
    kept = (tmp_path / "weights.pt.part").stat().st_size
    assert kept == 1 << 20
    assert quick(remote, target).read_bytes() == CONTENT
    assert server.requests[-1] == ("/weights.pt", f"bytes={kept}-")


def test_a_start_that_fails_leaves_no_empty_part(server: FileServer, tmp_path: Path) -> None:
    server.statuses += [404]
    assert "404" in failure(known(server), tmp_path / "w.pt")
    assert list(tmp_path.iterdir()) == []
