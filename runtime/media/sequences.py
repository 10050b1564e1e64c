"""Frames that come as objects: arrays and lists, and iterables kept in a temporary file."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Generator, Iterable, Sequence
from typing import Any

import numpy as np

from ...configs.checks import shown_line
from ...configs.errors import FrameError, StateError
from ..arrays import Array
from ..frames import FrameSource, NoMoreFrames, OnError
from ..pixels.frame_tensor import check_frame
from .images import read_image


class SequenceFrames(FrameSource):
    """Frames that can be indexed: an array, or a list of frames or of paths of images."""

    def __init__(self, frames: Sequence[Any] | Array, on_error: OnError = "raise") -> None:
        super().__init__(on_error)
        self._frames = frames
        self._folder = working_folder()

    def _count(self) -> int:
        return len(self._frames)

    def name_of(self, index: int) -> str | None:
        item = self._frames[index] if 0 <= index < len(self._frames) else None
        return os.path.basename(item) if isinstance(item, (str, os.PathLike)) else None

    def _load(self, index: int) -> Array:
        if index >= len(self._frames):
            raise NoMoreFrames
        return _frame(self._frames[index], index, self._folder)


def working_folder() -> str:
    """The present one, which may be another when a file is read; empty where it was removed."""
    try:
        return os.getcwd()
    except OSError:
        return ""


def _frame(item: Any, index: int, folder: str) -> Array:
    try:
        if isinstance(item, (str, os.PathLike)):
            return read_image(os.path.join(folder, item))
        return check_frame(item)
    except FrameError as error:
        # before the first there is nothing to hold
        policy = ", or use on_error='skip' or 'hold'" if index else ""
        raise FrameError(f"frame {index}: {error}{policy}") from None


class SpooledFrames(FrameSource):
    """Frames of an iterable, pulled when first asked for and kept in a temporary file.

    An error of the iterable itself, unlike a frame that cannot be used, ends it under every
    policy: asking on raises StateError, since what came before is no whole video.
    """

    def __init__(self, frames: Iterable[Any], on_error: OnError = "raise") -> None:
        super().__init__(on_error)
        self._pull = iter(frames)
        self._folder = working_folder()
        self._file = tempfile.TemporaryFile(prefix="sam2rt-frames-")  # noqa: SIM115
        #: per frame pulled: offset and shape, or why it cannot be used
        self._known: list[tuple[int, tuple[int, ...]] | FrameError] = []
        self._ended = False
        #: what the iterable broke off with; a generator would pass for ended from then on
        self._broken: BaseException | None = None

    def _count(self) -> int:
        while not self._ended:
            self._store_next()
        return len(self._known)

    def _free(self) -> None:
        self._file.close()
        if isinstance(self._pull, Generator):
            self._pull.close()

    def _load(self, index: int) -> Array:
        while index >= len(self._known) and not self._ended:
            self._store_next()
        if index >= len(self._known):
            raise NoMoreFrames
        place = self._known[index]
        if isinstance(place, FrameError):
            raise FrameError(str(place))
        offset, shape = place
        self._file.seek(offset)
        return np.frombuffer(self._file.read(math.prod(shape)), np.uint8).reshape(shape)

    def _broke_off(self) -> StateError:
        what = f"{type(self._broken).__name__}: {self._broken}".rstrip(": ")
        return StateError(
            f"the source broke off before frame {len(self._known)} ({shown_line(what)}): make it "
            "again, and open that"
        )

    def _store_next(self) -> None:
        if self._broken is not None:
            raise self._broke_off() from self._broken
        try:
            item = next(self._pull)
        except StopIteration:
            self._ended = True
            return
        except BaseException as error:
            self._broken = error
            if isinstance(error, FrameError) and self.on_error != "raise":
                # it would pass for a frame that cannot be used
                raise self._broke_off() from error
            raise
        try:
            frame = _frame(item, len(self._known), self._folder)
        except FrameError as error:
            self._known.append(error)
            return
        offset = self._file.seek(0, os.SEEK_END)
        try:
            self._file.write(frame.data)
            self._file.flush()
        except OSError as error:
            # the source does not give it twice: later frames keep their indices
            self._known.append(
                FrameError(
                    f"cannot keep frame {len(self._known)} in {tempfile.gettempdir()} "
                    f"({error.strerror}): free space or set TMPDIR"
                )
            )
            return
        self._known.append((offset, frame.shape))
