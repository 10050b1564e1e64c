"""Files to work on: uploaded ones, the samples, and those below the server's root.

A file is known by what it holds, never by its name. Formats that name other files, such as
playlists, are refused: a reader would open what they name.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import IO, Any

from ...configs.errors import FrameError, InputError, StorageError
from ...configs.leftovers import owned_folder
from ...configs.remedies import line_of, remedy_of
from ...configs.staging import replaced_folder
from ...runtime.media.images import readable_image
from ...runtime.media.open import open_frames
from ...runtime.packages import pillow_image
from .limits import (
    NotFoundError,
    NotMediaError,
    OutsideError,
    ServerLimits,
    TooLargeError,
    TooManyError,
)

_SAMPLES = Path(__file__).parents[1] / "samples"
_DESCRIPTION = "medium.json"
#: in a folder that a server may clear, since no one else has files there
_MARK = ".sam2rt-media"
#: how files begin: (offset, bytes, suffix)
_IMAGES = (
    (0, b"\xff\xd8\xff", ".jpg"),
    (0, b"\x89PNG\r\n\x1a\n", ".png"),
    (8, b"WEBP", ".webp"),
    (0, b"BM", ".bmp"),
    (0, b"II*\0", ".tif"),
    (0, b"MM\0*", ".tif"),
)
_VIDEOS = (
    (4, b"ftyp", ".mp4"),
    (4, b"moov", ".mov"),
    (4, b"mdat", ".mov"),
    (4, b"wide", ".mov"),
    (0, b"\x1a\x45\xdf\xa3", ".mkv"),
    (8, b"AVI ", ".avi"),
    (0, b"OggS", ".ogv"),
    (0, b"GIF8", ".gif"),
    (0, b"\0\0\1\xba", ".mpg"),
    (0, b"FLV\1", ".flv"),
)


@dataclass(frozen=True)
class Medium:
    """A video or an image that can be worked on. width, height: pixels of a frame."""

    path: Path
    media: str
    name: str
    kind: str
    width: int
    height: int
    num_frames: int
    fps: float | None
    bytes: int

    def describe(self) -> dict[str, Any]:
        """The medium as clients see it: all but its path."""
        return {key: value for key, value in asdict(self).items() if key != "path"}


class MediaStore:
    """Uploaded media in one folder, which belongs to one server at a time.

    Uploads grow in ``incoming``, and stand in ``media`` once they are whole and were read. Part
    files of a server that was killed are removed at the next start. A folder that was not empty
    when a server first took it is refused: its files are somebody's.
    """

    def __init__(self, folder: Path, root: Path | None, limits: ServerLimits) -> None:
        self._folder, self._incoming = folder / "media", folder / "incoming"
        self._root = None if root is None else Path(os.path.realpath(root))
        self._limits = limits
        self._changing = threading.RLock()
        self._used: dict[str, int] = {}
        self._uploads = 0
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._lock = owned_folder(folder)
            try:
                _claim(folder)
                self._clear()
            except BaseException:
                self.close()
                raise
        except OSError as error:
            raise InputError(
                f"{folder} cannot be written ({line_of(error)}): name a folder of yours"
            ) from None
        self._known = {medium.media: medium for medium in self._found()}
        self.samples = {medium.media: medium for medium in _samples()}

    def _clear(self) -> None:
        """Remove what a server that was killed left behind."""
        shutil.rmtree(self._incoming, ignore_errors=True)
        self._incoming.mkdir()
        self._folder.mkdir(exist_ok=True)
        for left in self._folder.glob(".*"):
            shutil.rmtree(left, ignore_errors=True)

    def close(self) -> None:
        """Let another server have the folder."""
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    def listed(self) -> list[Medium]:
        """The uploaded media."""
        return list(self._known.values())

    def get(self, media: str) -> Medium:
        """An uploaded medium; NotFoundError."""
        try:
            return self._known[media]
        except KeyError:
            raise NotFoundError(f"no media {media:.40}: upload it first") from None

    def sample(self, name: str) -> Medium:
        """A sample; NotFoundError."""
        try:
            return self.samples[name]
        except KeyError:
            known = ", ".join(self.samples)
            raise NotFoundError(f"no sample {name:.40}: the samples are {known}") from None

    def below_root(self, path: str) -> Medium:
        """The video, image or folder of images at a path below the root.

        Raises OutsideError for one that leads out of it, or without a root; NotFoundError.
        """
        if self._root is None:
            raise OutsideError("the server gives out no files: start it with --root, or upload")
        if "\0" in path or not path:
            raise OutsideError("the path is empty or has a NUL: expected one below the root")
        place = Path(os.path.realpath(self._root / path))
        if not place.is_relative_to(self._root):
            raise OutsideError(f"the path {path!r:.80} leads out of the root: name one below it")
        # who opens a pipe waits for somebody to write to it
        if not place.is_file() and not place.is_dir():
            raise NotFoundError(f"no file {path!r:.80} below the root")
        return measured(place, place.name, "", self._limits)

    @contextmanager
    def using(self, medium: Medium) -> Iterator[None]:
        """The medium is not removed as long as the block lasts."""
        self.hold(medium)
        try:
            yield
        finally:
            self.let_go(medium)

    def hold(self, medium: Medium) -> None:
        """Keep a medium from being removed; as often as :meth:`let_go` is called."""
        with self._changing:
            self._used[medium.media] = self._used.get(medium.media, 0) + 1

    def let_go(self, medium: Medium) -> None:
        """Undo a :meth:`hold`."""
        with self._changing:
            left = self._used.pop(medium.media) - 1
            if left:
                self._used[medium.media] = left

    def remove(self, media: str) -> bool:
        """Remove an uploaded medium; False while it is in use. NotFoundError."""
        with self._changing:
            self.get(media)
            if media in self._used:
                return False
            del self._known[media]
            # under a name that no start takes for a whole one
            gone = self._folder / f".{media}.gone"
            os.rename(self._folder / media, gone)
        shutil.rmtree(gone, ignore_errors=True)
        return True

    @contextmanager
    def upload(self, name: str, announced: int | None) -> Iterator[Upload]:
        """Give an upload to write to; what was not finished when the block ends is gone.

        Raises TooLargeError for what is announced to be too large, TooManyError, and from the
        block StorageError where the disk has no room.
        """
        if announced is not None:
            self._check_bytes(announced)
        with self._changing:
            if self._uploads >= self._limits.uploads:
                raise TooManyError(f"{self._uploads} uploads at once, the most: try again later")
            self._uploads += 1
        try:
            with _room_for_it(), tempfile.NamedTemporaryFile(dir=self._incoming) as file:
                yield Upload(self, file, _line(name))
        finally:
            with self._changing:
                self._uploads -= 1

    def _check_bytes(self, count: int) -> None:
        most = self._limits.upload_bytes
        if count > most:
            raise TooLargeError(f"the file has {count} bytes or more, expected at most {most}")
        held = sum(medium.bytes for medium in self._known.values())
        if held + count > self._limits.media_bytes:
            raise TooLargeError(
                f"the server holds {held} bytes of at most {self._limits.media_bytes}: remove media"
            )

    def _taken(self, part: Path, digest: str, name: str) -> Medium:
        """Take a whole file over, once it was read. NotMediaError, TooLargeError."""
        media = digest[:32]
        with self._changing:
            if media in self._known:
                return self._known[media]
        suffix = suffix_of(part)
        seen = self._incoming / f"{media}-{os.urandom(4).hex()}{suffix}"
        _linked(part, seen)
        try:
            medium = replace(measured(seen, name, media, self._limits), media=media)
            with self._changing:
                final = self._folder / media
                if media not in self._known:
                    with replaced_folder(final) as work:
                        _linked(seen, work / f"content{suffix}")
                        text = json.dumps(medium.describe())
                        (work / _DESCRIPTION).write_text(text, encoding="utf-8")
                    self._known[media] = replace(medium, path=final / f"content{suffix}")
                return self._known[media]
        finally:
            seen.unlink(missing_ok=True)

    def _found(self) -> Iterator[Medium]:
        for folder in sorted(self._folder.iterdir()):
            # what is no medium of ours stays where it is
            with suppress(OSError, ValueError, TypeError, StopIteration):
                fields = json.loads((folder / _DESCRIPTION).read_text(encoding="utf-8"))
                medium = Medium(path=next(folder.glob("content.*")), **fields)
                # what is removed goes by that name
                if medium.media == folder.name:
                    yield medium


@contextmanager
def _room_for_it() -> Iterator[None]:
    """What the block says of a full disk becomes a StorageError without the server's paths."""
    try:
        yield
    except StorageError as error:
        raise StorageError("the upload", error.why, error.remedy) from None
    except OSError as error:
        remedy = remedy_of(error, "", writing=True)
        if not remedy:
            raise
        raise StorageError("the upload", line_of(error), remedy) from None


def _claim(folder: Path) -> None:
    """Mark a folder as a server's. InputError for one with files that no server wrote."""
    mark = folder / _MARK
    if not mark.exists():
        if any(folder.iterdir()):
            raise InputError(f"{folder} holds files of others: name a new or an empty folder")
        mark.touch()


class Upload:
    """A file that comes in parts; made by :meth:`MediaStore.upload`."""

    def __init__(self, store: MediaStore, file: Any, name: str) -> None:
        self._store, self._name = store, name
        self._file: IO[bytes] = file
        self._digest = hashlib.sha256()
        self._count = 0

    def write(self, part: bytes) -> None:
        """Append a part; TooLargeError."""
        self._count += len(part)
        self._store._check_bytes(self._count)
        self._digest.update(part)
        self._file.write(part)

    def finish(self) -> Medium:
        """The medium, once it was found to be one. NotMediaError, TooLargeError."""
        if self._count == 0:
            raise NotMediaError("the file is empty: expected a video or an image")
        self._file.flush()
        return self._store._taken(Path(self._file.name), self._digest.hexdigest(), self._name)


def suffix_of(path: Path) -> str:
    """The ending that fits what a file holds; NotMediaError for what is no known format."""
    with path.open("rb") as file:
        head = file.read(400)
    for offset, mark, suffix in (*_IMAGES, *_VIDEOS):
        if head[offset : offset + len(mark)] == mark:
            return suffix
    # packets of a transport stream are 188 bytes
    if head[:1] == b"G" and head[188:189] == b"G":
        return ".ts"
    raise NotMediaError(
        "neither a video nor an image that is known: expected MP4, MOV, MKV, WebM, AVI, Ogg, GIF, "
        "MPEG, JPEG, PNG, WebP, BMP or TIFF"
    )


def measured(path: Path, name: str, media: str, limits: ServerLimits) -> Medium:
    """What a file or folder holds; NotMediaError, TooLargeError."""
    if path.is_dir():
        files = [file for file in path.iterdir() if file.is_file()]
        kind, size = "video", sum(file.stat().st_size for file in files)
    else:
        suffix = suffix_of(path)
        kind = "image" if any(suffix == known for _, _, known in _IMAGES) else "video"
        size = path.stat().st_size
    try:
        if kind == "image":
            # the header says so; a few bytes can stand for all of them
            _check_pixels(_pixels_of(path), limits)
        with open_frames(path) as frames:
            height, width = frames.measure()
            _check_pixels(height * width, limits)
            # a stack of pages is a video, whatever its format
            num_frames, fps = frames.num_frames, frames.fps
            if num_frames > 1:
                kind = "video"
                frames.read(num_frames - 1)
    except TooLargeError:
        raise
    except FrameError as error:
        message = str(error).replace(str(path), name)
        raise NotMediaError(f"the file cannot be read: {message}") from None
    except InputError as error:
        raise NotMediaError(str(error).replace(str(path), name)) from None
    if num_frames > limits.frames:
        raise TooLargeError(f"the video has {num_frames} frames, expected at most {limits.frames}")
    return Medium(path, media, name, kind, width, height, num_frames, fps, size)


def _pixels_of(path: Path) -> int:
    """How many pixels an image announces. FrameError."""
    with readable_image(path), pillow_image().open(path) as image:
        width, height = image.size
    return int(width * height)


def _linked(source: Path, target: Path) -> None:
    """The same file under another name, or a copy where the file system has no links."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _check_pixels(count: int, limits: ServerLimits) -> None:
    if count > limits.pixels:
        raise TooLargeError(f"a frame has {count} pixels, expected at most {limits.pixels}")


def _line(name: str) -> str:
    """A file's name as one line without a path."""
    last = name.replace("\\", "/").rpartition("/")[2]
    shown = "".join(c if c.isprintable() else "?" for c in last)[:100]
    return shown or "unnamed"


def _samples() -> Iterator[Medium]:
    """The media that ship with the package, described in ``samples.json``."""
    listed = json.loads((_SAMPLES / "samples.json").read_text(encoding="utf-8"))
    for fields in listed:
        path = _SAMPLES / fields.pop("file")
        yield Medium(path=path, bytes=path.stat().st_size, **fields)
