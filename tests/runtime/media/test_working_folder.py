"""What was opened stays open when the program goes to another working folder."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam2rt.runtime.media.open import open_frames

FRAMES = np.random.default_rng(0).integers(0, 256, (6, 24, 32, 3), np.uint8)
NAMES = [f"{i}.png" for i in range(len(FRAMES))]


def _folder(at: Path) -> Any:
    for name, frame in zip(NAMES, FRAMES, strict=True):
        Image.fromarray(frame).save(at / "frames" / name)
    return "frames"


def _stack(at: Path) -> Any:
    first, *rest = [Image.fromarray(frame) for frame in FRAMES]
    first.save(at / "s.tif", save_all=True, append_images=rest)
    return "s.tif"


def _video(at: Path) -> Any:
    import cv2

    # lossless
    writer = cv2.VideoWriter(str(at / "v.avi"), cv2.VideoWriter.fourcc(*"FFV1"), 25, (32, 24))
    assert writer.isOpened()
    for frame in FRAMES:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return "v.avi"


def _paths(at: Path) -> list[str]:
    return [f"{_folder(at)}/{name}" for name in NAMES]


def _generated(at: Path) -> Iterator[Path]:
    return (Path(path) for path in _paths(at))


SOURCES: dict[str, Callable[[Path], Any]] = {
    "folder": _folder,
    "path": lambda at: Path(_folder(at)),
    "stack": _stack,
    "video": _video,
    "list": _paths,
    "tuple of paths": lambda at: tuple(Path(p) for p in _paths(at)),
    "generator": _generated,
}


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("removed", [False, True])
def test_frames_are_those_that_were_opened(
    kind: str, removed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    for folder in (here / "frames", there / "frames"):
        folder.mkdir(parents=True)
    monkeypatch.chdir(here)
    source = SOURCES[kind](here)
    with open_frames(source) as frames:
        os.chdir(there)
        # another clip of the same name must not be mixed in
        for name in NAMES:
            Image.new("RGB", (32, 24)).save(there / "frames" / name)
        if removed:
            gone = tmp_path / "gone"
            gone.mkdir()
            os.chdir(gone)
            gone.rmdir()
        for i in (5, 0, 3, 1):
            difference = frames.read(i).astype(int) - FRAMES[i]
            assert np.abs(difference).max() <= (3 if kind == "video" else 0)
        assert len(frames) == 6
    os.chdir(here)
