"""Where uploads lie: a full disk, pipes below the root, folders that say another name."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from sam2rt.configs.errors import StorageError
from sam2rt.serving.sessions import media
from sam2rt.serving.sessions.limits import NotFoundError, ServerLimits
from sam2rt.serving.sessions.media import _SAMPLES, MediaStore, Medium
from sam2rt.serving.web.errors import status_of

FULL = Path("/dev/full")
STILL = (_SAMPLES / "still.png").read_bytes()


@pytest.fixture
def store(tmp_path: Path) -> Iterator[MediaStore]:
    (tmp_path / "root").mkdir()
    with closing(MediaStore(tmp_path / "data", tmp_path / "root", ServerLimits())) as made:
        yield made


def uploaded(store: MediaStore) -> Medium:
    with store.upload("still.png", len(STILL)) as upload:
        upload.write(STILL)
        return upload.finish()


def _full(*_: object, **__: object) -> Any:
    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "/srv/data/incoming/x")


@pytest.mark.skipif(not FULL.exists(), reason="needs /dev/full")
@pytest.mark.parametrize("where", ["tempfile.NamedTemporaryFile", "_linked", "at the end"])
def test_a_full_disk_is_said_without_the_servers_paths(
    where: str, store: MediaStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        if where == "at the end":
            # what is written stays in a buffer until it is flushed
            patch.setattr(media.tempfile, "NamedTemporaryFile", lambda dir: FULL.open("wb"))
        else:
            patch.setattr(f"{media.__name__}.{where}", _full)
        with pytest.raises(StorageError) as caught:
            uploaded(store)
    assert str(caught.value) == (
        "the upload cannot be written (No space left on device): free space on that disk"
    )
    assert status_of(caught.value) == 507
    assert store.listed() == []
    assert [
        *(tmp_path / "data" / "incoming").iterdir(),
        *(tmp_path / "data" / "media").iterdir(),
    ] == []
    assert uploaded(store).num_frames == 1


@pytest.mark.timeout(30)
@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_below_the_root_is_no_file(store: MediaStore, tmp_path: Path) -> None:
    """Opening it would wait for somebody to write to it, forever."""
    os.mkfifo(tmp_path / "root" / "pipe.mp4")
    with pytest.raises(NotFoundError, match=r"no file .pipe\.mp4. below the root"):
        store.below_root("pipe.mp4")


def test_a_folder_that_says_another_name_is_none_of_ours(store: MediaStore, tmp_path: Path) -> None:
    made = uploaded(store)
    store.close()
    place = tmp_path / "data" / "media" / made.media
    (tmp_path / "data" / "mine").mkdir()
    fields = json.loads((place / "medium.json").read_text())
    other = tmp_path / "data" / "media" / "other"
    shutil.copytree(place, other)
    (other / "medium.json").write_text(json.dumps({**fields, "media": "../mine"}))
    with closing(MediaStore(tmp_path / "data", None, ServerLimits())) as again:
        assert [medium.media for medium in again.listed()] == [made.media]
        with pytest.raises(NotFoundError):
            again.remove("../mine")
    assert (tmp_path / "data" / "mine").is_dir()
