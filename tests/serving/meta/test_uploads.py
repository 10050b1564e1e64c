"""Uploads by Meta's page: what they hold is looked at before a reader opens them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from sam2rt.serving.meta.resolvers import for_upload
from sam2rt.serving.sessions.limits import NotMediaError
from sam2rt.serving.sessions.media import _SAMPLES

CLIP = _SAMPLES / "shapes.mp4"


@pytest.mark.parametrize(
    "text",
    [
        "ffconcat version 1.0\nfile secret.mp4\n",
        "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n",
        "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 5004 RTP/AVP 96\n",
        "<?xml version='1.0'?><MPD></MPD>",
    ],
)
@pytest.mark.parametrize("start", [None, 0.5])
def test_a_file_that_names_others_is_not_opened(
    text: str, start: float | None, tmp_path: Path
) -> None:
    shutil.copy(CLIP, tmp_path / "secret.mp4")
    (tmp_path / "upload").write_text(text)
    with pytest.raises(NotMediaError, match="neither a video nor an image that is known"):
        for_upload(tmp_path / "upload", start, None)


def test_what_cannot_be_read_is_said_without_the_servers_paths(tmp_path: Path) -> None:
    broken = tmp_path / "upload"
    broken.write_bytes(b"RIFF\x10\0\0\0AVI " + b"no frames")
    with pytest.raises(NotMediaError) as caught:
        for_upload(broken, None, None)
    assert str(caught.value).startswith("the file cannot be read: ")
    assert str(tmp_path) not in str(caught.value)


def test_what_browsers_show_stays_as_it_is() -> None:
    assert for_upload(CLIP, None, None) == CLIP.read_bytes()
