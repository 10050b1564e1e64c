"""Videos as Meta's page names them: a path, an address to fetch, a poster."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any

from ...configs.staging import temporary_folder
from ...runtime.media.open import open_frames
from ...runtime.media.video.writer import open_video_writer
from ..sessions.limits import NotFoundError
from ..sessions.media import MediaStore, Medium

_PATH = re.compile(r"(gallery|uploads)/([\w-]{1,64})\.mp4", re.A)
_FPS = 25.0


def path_of(medium: Medium, store: MediaStore) -> str:
    """The path by which the page names a medium."""
    folder = "gallery" if medium.media in store.samples else "uploads"
    return f"{folder}/{medium.media}.mp4"


def medium_at(path: str, store: MediaStore) -> Medium:
    """The medium of a path. NotFoundError."""
    if (match := _PATH.fullmatch(path)) is None:
        raise NotFoundError(f"no video {path!r:.80}: expected uploads/ID.mp4 or gallery/NAME.mp4")
    folder, name = match.groups()
    medium = store.sample(name) if folder == "gallery" else store.get(name)
    if medium.kind != "video":
        raise NotFoundError(f"{path} is an image: expected a video")
    return medium


def gallery(store: MediaStore) -> list[Medium]:
    """The videos that the page offers: samples, then uploads."""
    known = [*store.samples.values(), *store.listed()]
    return [medium for medium in known if medium.kind == "video"]


def described(medium: Medium, store: MediaStore, base: str) -> dict[str, Any]:
    """A video's fields; base: the address of this server."""
    path = path_of(medium, store)
    poster = f"posters/{path.rpartition('/')[2].removesuffix('.mp4')}.jpg"
    return {
        "__typename": "Video",
        "id": base64.b64encode(f"Video:{path}".encode()).decode(),
        "path": path,
        "posterPath": poster,
        "width": medium.width,
        "height": medium.height,
        "url": f"{base}/{path}",
        "posterUrl": f"{base}/{poster}",
    }


def for_browsers(source: Path, start: float | None, duration: float | None) -> bytes | None:
    """The video as an MP4 that browsers decode, cut as asked; None where it is one as it is.

    start, duration: seconds. Raises FrameError.
    """
    with source.open("rb") as file:
        as_it_is = file.read(8)[4:] == b"ftyp" and not start and duration is None
    if as_it_is:
        return None
    with open_frames(source) as frames, temporary_folder() as folder:
        fps = frames.fps or _FPS
        first = min(round((start or 0) * fps), frames.num_frames - 1)
        end = frames.num_frames if duration is None else first + max(1, round(duration * fps))
        size = frames.measure()
        with open_video_writer(folder / "video.mp4", fps, size) as writer:
            for index in range(first, min(end, frames.num_frames)):
                writer.write(frames.read(index))
        return (folder / "video.mp4").read_bytes()
