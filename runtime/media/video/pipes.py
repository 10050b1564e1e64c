"""Sources that can be read only once: named pipes and standard input."""

from __future__ import annotations

import os
import shutil
import stat
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

from ....configs.errors import FrameError
from ....configs.staging import temporary_folder


def is_read_once(path: Path) -> bool:
    """Whether the path is that of a pipe, a terminal or another device. The path must exist."""
    mode = path.stat().st_mode
    return stat.S_ISFIFO(mode) or stat.S_ISCHR(mode) or stat.S_ISSOCK(mode)


def copied(path: Path) -> tuple[str, Callable[[], None]]:
    """Copy a pipe into a temporary file until its writer closes it: its path, what removes it.

    Waits for a writer; Ctrl-C ends that. Raises FrameError for a terminal, another device, a full
    disk.
    """
    if not stat.S_ISFIFO(path.stat().st_mode):
        raise FrameError(
            f"{path} is a terminal or another device: expected a video file, a pipe or a folder "
            "of images"
        )
    with ExitStack() as stack:
        # Python's own reading, unlike FFmpeg's, is interrupted by Ctrl-C
        pipe = stack.enter_context(path.open("rb", buffering=0))
        copy = stack.enter_context((stack.enter_context(temporary_folder()) / "pipe").open("wb"))
        try:
            shutil.copyfileobj(pipe, copy, 1 << 20)
            copy.flush()
        except OSError as error:
            raise FrameError(
                f"{path} cannot be copied to {tempfile.gettempdir()} ({error.strerror}): free "
                "space or set TMPDIR"
            ) from None
        if os.path.getsize(copy.name) == 0:
            raise FrameError(
                f"{path} was closed by its writer with nothing in it: expected a video"
            )
        kept = stack.pop_all()
    return copy.name, kept.close
