"""Downloads under the rules of Windows, where what is open is neither moved nor removed."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from file_server import FileServer, serving
from windows_rules import play_windows

from sam2rt.configs.errors import CheckpointError
from sam2rt.export.checkpoint.transfer import Remote, fetch, sha256_of

pytestmark = pytest.mark.skipif(
    not sys.platform.startswith("linux"), reason="plays Windows by what Linux tells of open files"
)
CONTENT = bytes(range(256)) * 4000
SHA256 = hashlib.sha256(CONTENT).hexdigest()


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[FileServer]:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    play_windows(monkeypatch)
    with serving(CONTENT) as state:
        yield state


@pytest.mark.parametrize("known", [True, False], ids=["known", "trusted on first use"])
def test_a_file_is_moved_into_place(server: FileServer, tmp_path: Path, known: bool) -> None:
    remote = Remote(f"{server.url}/weights.pt", len(CONTENT), SHA256 if known else None)
    target = fetch(remote, tmp_path / "größe 模型.pt", timeout=5)
    assert target.read_bytes() == CONTENT
    assert sha256_of(target) == SHA256
    assert fetch(remote, target) == target
    names = {"größe 模型.pt", "größe 模型.pt.sha256"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_wrong_file_is_removed(server: FileServer, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="nothing was kept"):
        fetch(Remote(f"{server.url}/weights.pt", len(CONTENT), "0" * 64), tmp_path / "weights.pt")
    assert list(tmp_path.iterdir()) == []


def test_a_start_that_fails_leaves_no_empty_part(server: FileServer, tmp_path: Path) -> None:
    missing = Remote(f"{server.url[:-1]}0/weights.pt", None, None)
    with pytest.raises(CheckpointError):
        fetch(missing, tmp_path / "weights.pt", attempts=1, pause=0.01, timeout=1)
    assert list(tmp_path.iterdir()) == []
