"""Frames from anywhere, decoded lazily: video files, folders, arrays, lists, any iterable.

Memory is bounded by a few frames whatever the length; every source can be read in any order.
"""

from __future__ import annotations

import math
import os
import re
import tempfile
import threading
from abc import ABC, abstractmethod
from collections.abc import Generator, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ..configs.closing import Closing
from ..configs.errors import FrameError, InputError
from .media import pillow_image
from .pixels import check_frame
from .session import Array

OnError = Literal["raise", "skip", "hold"]
_POLICIES = ("raise", "skip", "hold")
_PICTURES = {".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}
#: seconds to wait for a reader that is to stop
PATIENCE = 2.0


class NoMoreFrames(Exception):
    """An index past the last frame, for sources that learn their length by reading."""


class FrameSource(Closing, ABC):
    """Frames of one size, uint8 RGB [H, W, 3], read by index in any order.

    A frame that cannot be read is an error ("raise"), is left out when iterating ("skip";
    reading it by index is still an error), or is replaced by the last good one before it
    ("hold"). A frame of another size than the first counts as one that cannot be read. Frames
    may be read-only: copy one before drawing on it. A context manager; threads that share one
    take turns.
    """

    #: frames per second, None where the source has none
    fps: float | None = None

    def __init__(self, on_error: OnError = "raise") -> None:
        if on_error not in _POLICIES:
            raise InputError(f"on_error is {on_error!r}: expected one of {', '.join(_POLICIES)}")
        self.on_error = on_error
        self._size: tuple[int, int] | None = None
        #: the last good frame and its index, and up to which index it was shown ("hold")
        self._held: tuple[int, Array, int] | None = None
        # decoders abort the process when two threads are in them
        self._reading = threading.RLock()
        self._closed = False

    @property
    def num_frames(self) -> int:
        """Number of frames, unreadable ones included; a stream is pulled to its end."""
        with self._reading:
            self._open_still()
            return self._count()

    @abstractmethod
    def _count(self) -> int:
        """What `num_frames` gives."""

    @abstractmethod
    def _load(self, index: int) -> Array:
        """Frame `index` >= 0; FrameError if unreadable, NoMoreFrames past the end."""

    def close(self) -> None:
        """Free files and memory; reading again raises InputError."""
        self._closed = True
        self._held = None
        # one that is stalled in another thread is freed when that ends
        if self._reading.acquire(timeout=PATIENCE):
            try:
                self._free()
            finally:
                self._reading.release()

    def _free(self) -> None:
        """What `close` does for this kind of source."""
        return

    @property
    def height(self) -> int:
        """Pixels."""
        return self._measured()[0]

    @property
    def width(self) -> int:
        """Pixels."""
        return self._measured()[1]

    def read(self, index: int) -> Array:
        """Frame `index`, uint8 RGB [H, W, 3]. Raises FrameError."""
        try:
            return self._read(index)
        except NoMoreFrames:
            last = self.num_frames - 1
            raise FrameError(f"frame {index}: the video has frames 0 to {last}") from None

    def items(self) -> Iterator[tuple[int, Array]]:
        """Pairs of index and frame, in order; only "skip" leaves gaps."""
        index = 0
        while True:
            try:
                frame = self._read(index)
            except NoMoreFrames:
                return
            except FrameError:
                if self.on_error != "skip":
                    raise
            else:
                yield index, frame
            index += 1

    def _read(self, index: int) -> Array:
        if index < 0:
            raise NoMoreFrames
        with self._reading:
            self._open_still()
            try:
                frame = self._checked(index)
            except FrameError:
                if self.on_error != "hold":
                    raise
                held = self._before(index)
                if held is None:
                    raise
                good, frame = held
                self._held = good, frame, index
            else:
                self._held = (index, frame, index) if self.on_error == "hold" else None
            return frame

    def _before(self, index: int) -> tuple[int, Array] | None:
        """The last good frame before `index`, with its own index; None where there is none."""
        for earlier in range(index - 1, -1, -1):
            if self._held is not None and self._held[0] <= earlier <= self._held[2]:
                # a live source cannot go back for it
                return self._held[0], self._held[1]
            try:
                return earlier, self._checked(earlier)
            except FrameError:
                continue
        return None

    def _open_still(self) -> None:
        if self._closed:
            raise InputError("the frames are closed: open them again with open_frames")

    def _checked(self, index: int) -> Array:
        frame = self._load(index)
        size = (frame.shape[0], frame.shape[1])
        if self._size is None:
            self._size = size
        if size != self._size:
            raise FrameError(
                f"frame {index} is {size[1]} x {size[0]}, the first is {self._size[1]} x "
                f"{self._size[0]}: resize it, or use on_error='skip' or 'hold'"
            )
        return frame

    def _measured(self) -> tuple[int, int]:
        if self._size is None:
            next(self.items(), None)
        if self._size is None:
            raise FrameError("there is no frame to read: expected at least one")
        return self._size

    def __len__(self) -> int:
        return self.num_frames

    def __iter__(self) -> Iterator[Array]:
        return (frame for _, frame in self.items())


def open_frames(source: Any, *, on_error: OnError = "raise") -> FrameSource:
    """Open `source` as frames; its first frame is read, to learn the size.

    source: path of a video or picture, URL of a video, folder of pictures (any names, natural
    order: 2 before 10), array [T, H, W, 3], sequence of frames or of paths of pictures, any
    iterable of frames (kept in a temporary file while open), or a FrameSource (given back).
    Frames: whatever :func:`~sam2rt.runtime.pixels.check_frame` takes. `on_error`: see FrameSource.

    Raises FrameError for a source that is missing, unreadable or empty.
    """
    if isinstance(source, FrameSource):
        return source
    frames = _source(source, on_error)
    try:
        frames._measured()
    except BaseException:
        frames.close()
        raise
    return frames


def _source(source: Any, on_error: OnError) -> FrameSource:
    if isinstance(source, (str, os.PathLike)):
        return _from_path(os.fspath(source), on_error)
    if isinstance(source, np.ndarray):
        if source.ndim != 4:
            raise FrameError(
                f"an array of frames must be [T, H, W, 3], got shape {source.shape}: "
                "for one frame use frame[None]"
            )
        return SequenceFrames(source, on_error)
    if hasattr(source, "__len__") and hasattr(source, "__getitem__"):
        return SequenceFrames(source, on_error)
    if isinstance(source, Iterable):
        return SpooledFrames(source, on_error)
    raise FrameError(
        f"cannot read frames from {type(source).__name__}: expected a path, an array, a list "
        "or an iterable of frames"
    )


def _from_path(name: str, on_error: OnError) -> FrameSource:
    from .videofile import VideoFile

    if not name:
        # it would be the working folder, and its pictures a video
        raise FrameError("the path is empty: expected a video file or a folder of pictures")
    path = Path(name)
    if "://" in name:
        return VideoFile(name, on_error)
    if not path.exists():
        raise FrameError(f"{name} does not exist: expected a video file or a folder of pictures")
    if path.is_dir():
        pictures = picture_files(path)
        if not pictures:
            kinds = " ".join(sorted(_PICTURES))
            raise FrameError(f"folder {name} holds no pictures: expected files {kinds}")
        return SequenceFrames(pictures, on_error)
    if path.suffix.lower() in _PICTURES:
        return SequenceFrames([path], on_error)
    return VideoFile(name, on_error)


def picture_files(folder: Path) -> list[Path]:
    """The pictures of a folder in natural order; hidden files are left out."""
    files = (p for p in folder.iterdir() if p.suffix.lower() in _PICTURES and p.is_file())
    return sorted((p for p in files if not p.name.startswith(".")), key=_natural)


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    parts = re.split(r"(\d+)", path.name.lower())
    return [(int(p), "") if p.isdecimal() else (-1, p) for p in parts], path.name


def read_picture(path: str | os.PathLike[str]) -> Array:
    """A picture file as uint8 RGB [H, W, 3]; alpha is dropped, EXIF rotation is not applied.

    As the original reads it: of colours with 16 bits the upper 8 count. Raises FrameError: missing,
    not a picture, truncated, grey with 16 bits or floats (their range is not known).
    """
    image_module = pillow_image()
    try:
        with image_module.open(path) as image:
            if image.mode.startswith(("I", "F")):
                raise FrameError(
                    f"{os.fspath(path)} has pixels of mode {image.mode}: convert it to 8 bits"
                )
            return check_frame(image)
    except FileNotFoundError:
        raise FrameError(f"{os.fspath(path)} does not exist: expected a picture") from None
    except IsADirectoryError:
        raise FrameError(f"{os.fspath(path)} is a folder: expected a picture") from None
    except FrameError:
        raise
    except (OSError, ValueError, SyntaxError, image_module.DecompressionBombError) as error:
        what = " ".join(str(error).split())
        raise FrameError(
            f"cannot read the picture {os.fspath(path)} ({what}): get it again, or save it as PNG"
        ) from None


class SequenceFrames(FrameSource):
    """Frames that can be indexed: an array, or a list of frames or of paths of pictures."""

    def __init__(self, frames: Sequence[Any] | Array, on_error: OnError = "raise") -> None:
        super().__init__(on_error)
        self._frames = frames

    def _count(self) -> int:
        return len(self._frames)

    def _load(self, index: int) -> Array:
        if index >= len(self._frames):
            raise NoMoreFrames
        return _frame(self._frames[index], index)


def _frame(item: Any, index: int) -> Array:
    try:
        return read_picture(item) if isinstance(item, (str, os.PathLike)) else check_frame(item)
    except FrameError as error:
        # before the first there is nothing to hold
        policy = ", or use on_error='skip' or 'hold'" if index else ""
        raise FrameError(f"frame {index}: {error}{policy}") from None


class SpooledFrames(FrameSource):
    """Frames of an iterable, pulled when first asked for and kept in a temporary file."""

    def __init__(self, frames: Iterable[Any], on_error: OnError = "raise") -> None:
        super().__init__(on_error)
        self._pull = iter(frames)
        self._file = tempfile.TemporaryFile(prefix="sam2rt-frames-")  # noqa: SIM115
        #: per frame pulled: offset and shape, or why it cannot be used
        self._known: list[tuple[int, tuple[int, ...]] | FrameError] = []
        self._ended = False

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

    def _store_next(self) -> None:
        try:
            item = next(self._pull)
        except StopIteration:
            self._ended = True
            return
        try:
            frame = _frame(item, len(self._known))
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
