"""Files that name other files are no videos: a stranger's stands for nothing of this machine."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

import sam2rt
from sam2rt.configs.errors import FrameError
from sam2rt.runtime.media.open import open_frames

CLIP = Path(sam2rt.__file__).parent / "serving" / "samples" / "shapes.mp4"


HLS = "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nsecret.mp4\n#EXT-X-ENDLIST\n"


@pytest.mark.parametrize(
    ("name", "text", "kind"),
    [
        ("clip.mp4", "ffconcat version 1.0\nfile secret.mp4\n", "concat"),
        ("clip", "ffconcat version 1.0\nfile secret.mp4\n", "concat"),
        ("clip.m3u8", HLS, "hls"),
    ],
)
def test_a_playlist_is_refused(name: str, text: str, kind: str, tmp_path: Path) -> None:
    shutil.copy(CLIP, tmp_path / "secret.mp4")
    (tmp_path / name).write_text(text)
    with pytest.raises(FrameError) as caught:
        open_frames(tmp_path / name)
    assert str(caught.value) == (
        f"{tmp_path / name} is a playlist ({kind}), which names other files: give the video itself"
    )
    with open_frames(tmp_path / "secret.mp4") as frames:
        assert frames.num_frames == 24
