"""A clip with its prompts, and the name of its result, which goes by contents."""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...configs.errors import FrameError
from ...configs.remedies import line_of
from ...runtime.frames import OnError
from ...runtime.media.images import image_files
from ...runtime.media.video.container import is_address
from ...runtime.tasks.prompts import ObjectPrompt

#: raised whenever equal contents would give another result
_FORMAT = 1
#: hexadecimal digits of a key that stand in a folder's name: no two of a million clips share them
_DIGITS = 16
#: characters of the clip's own name that stand there; a file system takes 255 bytes
_LONGEST = 48
_BLOCK = 1 << 20


@dataclass(frozen=True)
class Clip:
    """A file, or a folder of images, and what is tracked in it.

    path: absolute. asked: as it was named. place: what errors say before it, such as
    ``clips.jsonl, line 3``.
    """

    path: Path
    prompts: tuple[ObjectPrompt, ...]
    asked: str
    place: str = field(default="", compare=False)

    @property
    def where(self) -> str:
        """What errors call it."""
        return f"{self.place}: {self.asked}" if self.place else self.asked


@dataclass(frozen=True)
class ClipOptions:
    """How each clip is tracked and what is written of it.

    on_error: see :class:`~sam2rt.runtime.frames.FrameSource`. write_masks: a PNG of each mask.
    write_video: an overlay.
    """

    on_error: OnError = "raise"
    non_overlap_masks: bool = False
    write_masks: bool = False
    write_video: bool = False
    backend: str = "onnxruntime"
    device: str = "cpu"


#: masks.json alone, on the CPU
MASKS_ALONE = ClipOptions()


def content_digest(path: Path) -> str:
    """SHA-256, in hex, of a file, or of the names and contents of a folder's images.

    Raises FrameError for what is neither: a pipe or an address would be read twice.
    """
    if is_address(str(path)):
        raise FrameError("an address has no contents to go by: save it as a file")
    try:
        if path.is_dir():
            parts = [(file.name, _file_digest(file)) for file in image_files(path)]
            return hashlib.sha256(json.dumps(parts).encode()).hexdigest()
        if not path.is_file():
            what = "is no regular file" if os.path.lexists(path) else "does not exist"
            raise FrameError(f"{path} {what}: expected a video file or a folder of images")
        return _file_digest(path)
    except OSError as error:
        if isinstance(error, FrameError):
            raise
        raise FrameError(f"{path} cannot be read ({line_of(error)}): expected a clip") from None


def _file_digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        for block in _blocks(file):
            digest.update(block)
    return digest.hexdigest()


def _blocks(file: Any) -> Iterator[bytes]:
    while block := file.read(_BLOCK):
        yield block


def result_name(clip: Clip, content: str, bundle: str, options: ClipOptions) -> str:
    """The folder of a clip's result: the clip's name, and a key of all that decides the result.

    content: :func:`content_digest` of the clip. bundle: the bundle's digest. Equal contents of
    another file name are another result, since ``masks.json`` holds the name.
    """
    parts = [
        _FORMAT,
        clip.path.name,
        content,
        bundle,
        asdict(options),
        [[p.obj_id, p.frame_idx, list(p.points), p.box, p.mask] for p in clip.prompts],
    ]
    key = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
    stem = re.sub(r"[^\w-]+", "_", clip.path.stem, flags=re.ASCII)[:_LONGEST]
    return f"{stem}-{key[:_DIGITS]}"
