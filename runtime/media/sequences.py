"""Frames that come as objects: arrays and lists, and iterables kept in a temporary file."""

from __future__ import annotations

import math
import os
import shutil
import tempfile
from collections.abc import Generator, Iterable, Sequence
from functools import cached_property
from typing import IO, Any, NoReturn

import numpy as np

from ...configs.checks import shown_line
from ...configs.errors import FrameError, StateError
from ...configs.remedies import line_of, remedy_of
from ..arrays import Array, Frame
from ..frames import FrameSource, NoMoreFrames, OnError
from ..pixels.frame_tensor import check_frame
from .images import read_image

#: bytes between two looks at what is free on the disk, and what is left free at least
_ASK_EVERY, _ROOM = 64 << 20, 256 << 20
#: frames in a row that cannot be kept before the disk is taken for full
_MOST_LOST = 100


class SequenceFrames(FrameSource):
    """Frames that can be indexed: an array, or a list of frames or of paths of images."""

    def __init__(self, frames: Sequence[Any] | Array, on_error: OnError = "raise") -> None:
        super().__init__(on_error)
        self._frames = frames
        self._folder = working_folder()
        #: where a sequence ended that had said it was longer
        self._end: int | None = None

    def _count(self) -> int:
        try:
            return len(self._frames) if self._end is None else self._end
        except (TypeError, ValueError, OverflowError) as error:
            raise FrameError(
                f"the frames' length cannot be told ({shown_line(str(error))}): expected a "
                "sequence, or give iter(frames)"
            ) from None

    def name_of(self, index: int) -> str | None:
        names = self._names
        return names[index] if 0 <= index < len(names) else None

    @cached_property
    def _names(self) -> list[str]:
        if not isinstance(self._frames, (list, tuple)):
            # looking at the items of other sequences may cost as much as reading them
            return []
        paths = [item for item in self._frames if isinstance(item, (str, os.PathLike))]
        names = {os.path.basename(path): None for path in paths}
        return list(names) if len(names) == len(self._frames) else []

    def _load(self, index: int) -> Array:
        count = self._count()
        if index >= count:
            raise NoMoreFrames
        try:
            item = self._frames[index]
        except (IndexError, KeyError) as error:
            what = f"{type(error).__name__}: {shown_line(str(error))}".rstrip(": ")
            self._end = index
            raise FrameError(
                f"frame {index}: there is none ({what}), though len() says {count}: expected a "
                "sequence, indexed from 0"
            ) from None
        return _frame(item, index, self._folder)


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
    policy: asking on raises StateError, since what came before is no whole video. So does a disk
    without room, of which a part is left to others: an iterable without an end would fill it.
    """

    def __init__(self, frames: Iterable[Any], on_error: OnError = "raise") -> None:
        super().__init__(on_error)
        self._pull = iter(frames)
        self._folder = working_folder()
        self._file = _temporary_file()
        self._written = 0
        #: frames in a row that could not be kept
        self._lost = 0
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
        else:
            self._keep(frame)

    def _keep(self, frame: Frame) -> None:
        offset = self._file.seek(0, os.SEEK_END)
        try:
            self._check_room(frame.nbytes)
            self._file.write(frame.data)
            self._file.flush()
        except OSError as error:
            # the source does not give it twice: later frames keep their indices
            self._known.append(self._not_kept(line_of(error)))
            self._lost += 1
            if self._lost == _MOST_LOST:
                self._end_without_room(line_of(error))
            return
        self._lost = 0
        self._known.append((offset, frame.shape))

    def _check_room(self, size: int) -> None:
        """Ends where the file would take what the disk has left for others."""
        # asking costs a call of the system
        if self._written // _ASK_EVERY != (self._written + size) // _ASK_EVERY:
            disk = shutil.disk_usage(tempfile.gettempdir())
            if disk.free < max(_ROOM, disk.total // 20):
                self._end_without_room(f"{disk.free >> 20} MiB are free")
        self._written += size

    def _end_without_room(self, why: str) -> NoReturn:
        self._broken = self._not_kept(why)
        raise self._broken

    def _not_kept(self, why: str) -> FrameError:
        return FrameError(
            f"cannot keep frame {len(self._known)} in {tempfile.gettempdir()} ({why}): free space "
            "or set TMPDIR, or give frames that do not end to a StreamTracker"
        )


def _temporary_file() -> IO[bytes]:
    try:
        return tempfile.TemporaryFile(prefix="sam2rt-frames-")
    except OSError as error:
        remedy = remedy_of(error, "set TMPDIR to a folder of yours", writing=True)
        raise FrameError(
            f"frames cannot be kept in a temporary file ({line_of(error)}): {remedy}"
        ) from None
