"""Transfer of one file: resumed, checked (size, sha256) and moved into place as a whole.

What is under way lies beside the target as ``NAME.part``. Proxies come from the usual environment
variables. A file without a known sha256 is trusted on first use: its sha256 is written beside it
and must stay what it was.
"""

from __future__ import annotations

import http.client
import os
import re
import shutil
import time
import urllib.error
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from ...configs.bundle import file_sha256
from ...configs.errors import CheckpointError, InputError
from ...configs.progress import Progress, silent
from ...configs.remedies import line_of, remedy_of
from ...configs.staging import replaced_file
from ...configs.systems import replace
from .web import WebRequest, check_hub_hash

try:
    import fcntl
except ImportError:  # Windows: two downloads of one file at a time are not kept apart
    fcntl = None  # type: ignore[assignment]

_BLOCK = 1 << 20


@dataclass(frozen=True)
class Remote:
    """A file to fetch; size in bytes and sha256 are None where nobody published them."""

    url: str
    size: int | None = None
    sha256: str | None = None
    #: whether it lies on the hub, whose answers carry hashes
    hub: bool = False


class MissingFileError(CheckpointError):
    """The server has no file of that name; what is asked of it otherwise may be there."""


def fetch(
    remote: Remote,
    target: Path,
    *,
    progress: Progress = silent,
    attempts: int = 5,
    pause: float = 1.0,
    timeout: float = 30.0,
    said: dict[str, str] | None = None,
) -> Path:
    """Download `remote` to `target` unless it is there already; its sha256 is kept beside it.

    Only https is spoken, after redirects too, but for servers on this machine. `said` gets what
    the server's first answer says of the file.

    A broken connection is tried again, up to `attempts` times in a row without a byte of
    progress, waiting `pause`, then twice that, ... seconds between; `timeout` is the longest
    silence of the server. An interrupted download goes on where it stopped if the file's
    sha256 is known.
    """
    if target.is_file():
        return _checked_copy(remote, target)
    # not configs.staging: an interrupted run must find what has come under a name it knows, and
    # a lock on it keeps two runs apart
    part = target.with_name(target.name + ".part")
    _check_place(part)
    with _alone(part) as file:
        if target.is_file():
            return _checked_copy(remote, target)
        if remote.sha256 is None:
            # nothing would tell a mixture of two versions from the file
            file.truncate(0)
        transfer = _Transfer(remote, file, progress, timeout)
        transfer.run(attempts, pause)
        transfer.flush()
        if fcntl is None:
            # what is open is neither moved nor removed there, and no lock goes with it
            file.close()
        if said is not None:
            said.update(transfer.said)
        if remote.hub:
            with _removing_on_failure(part):
                check_hub_hash(part, transfer.said, remote.url)
        found = file_sha256(part)
        if remote.sha256 not in (None, found):
            part.unlink()
            raise CheckpointError(
                f"{remote.url} has sha256 {found}, expected {remote.sha256}: it is not the file "
                "it should be, nothing was kept; try again or another source"
            )
        _write_record(target, found)
        replace(part, target)
    return target


def _check_place(part: Path) -> None:
    """Make the folder, and see that the file can be written there. Raises InputError."""
    if part.with_suffix("").is_dir():
        raise InputError(
            f"{part.with_suffix('')} is a folder: expected a file, or nothing; move it away"
        )
    try:
        part.parent.mkdir(parents=True, exist_ok=True)
        part.open("ab").close()
    except OSError as error:
        otherwise = "name another folder, with -o or in SAM2RT_CACHE"
        remedy = remedy_of(error, otherwise, writing=True)
        raise InputError(
            f"nothing can be written to {part.parent} ({line_of(error)}): {remedy}"
        ) from None


def sha256_of(target: Path) -> str:
    """The sha256 that was written beside a downloaded file.

    Raises CheckpointError when the file beside it holds none.
    """
    record = _record(target)
    try:
        found = re.match(r"[0-9a-f]{64}\b", record.read_text("utf-8", errors="replace"))
    except OSError as error:
        remedy = remedy_of(error, "remove it, and download again")
        raise CheckpointError(f"cannot read {record} ({line_of(error)}): {remedy}") from None
    if found is None:
        raise CheckpointError(f"{record} holds no sha256: remove it, and download again")
    return found[0]


def _record(target: Path) -> Path:
    return target.with_name(target.name + ".sha256")


def _write_record(target: Path, sha256: str) -> None:
    with replaced_file(_record(target)) as part:
        part.write_text(f"{sha256}  {target.name}\n", encoding="utf-8")


def _checked_copy(remote: Remote, target: Path) -> Path:
    record = _record(target)
    found = file_sha256(target)
    expected = remote.sha256
    if expected is None and record.is_file():
        expected = sha256_of(target)
    if expected not in (None, found):
        raise CheckpointError(
            f"{target} has sha256 {found[:12]}..., expected {expected[:12]}... "
            "(changed since its download?): delete it and try again"
        )
    if not record.is_file():
        _write_record(target, found)
    return target


@contextmanager
def _removing_on_failure(part: Path) -> Iterator[None]:
    try:
        yield
    except CheckpointError:
        part.unlink()
        raise


@contextmanager
def _alone(part: Path) -> Iterator[BinaryIO]:
    """The open part file, after every other download of the same file has ended."""
    while True:
        with part.open("ab") as file:
            if fcntl is not None:
                fcntl.flock(file.fileno(), fcntl.LOCK_EX)
            opened = os.fstat(file.fileno())
            # the one that was waited for may have moved it into place or removed it
            if part.exists() and os.path.samestat(opened, part.stat()):
                try:
                    yield file
                finally:
                    _remove_if_empty(part, file)
                    # what a full disk did not take was told when it was written
                    with suppress(OSError):
                        file.close()
                return


def _remove_if_empty(part: Path, file: BinaryIO) -> None:
    """Leave no part file without a byte in it; the lock is still held."""
    with suppress(OSError):
        if fcntl is None:
            file.close()
        if not file.closed:
            file.flush()
    with suppress(FileNotFoundError):
        if part.stat().st_size == 0:
            part.unlink()


class _Transfer:
    """One download: keeps asking for the bytes that are missing from `file`."""

    def __init__(self, remote: Remote, file: BinaryIO, progress: Progress, timeout: float) -> None:
        self._remote = remote
        self._file = file
        self._progress = progress
        self._timeout = timeout
        self._done = file.seek(0, os.SEEK_END)
        self._total = remote.size
        #: the server's name for this version of the file, once it answered
        self._version: str | None = None
        #: what its first answer said of the file
        self.said: dict[str, str] = {}

    def run(self, attempts: int, pause: float) -> None:
        failed = 0
        while True:
            before = self._done
            try:
                complete = self._ask()
                problem = f"ended after {self._done} of {self._total} bytes"
            except urllib.error.HTTPError as error:
                if error.code < 500 and error.code != 429:
                    raise self._refused(error) from None
                complete, problem = False, f"answered {error.code} {error.reason}"
            except (OSError, http.client.HTTPException) as error:
                complete, problem = False, str(getattr(error, "reason", error)) or repr(error)
            if complete:
                return
            failed = 1 if self._done > before else failed + 1
            if failed >= attempts:
                kept = ", what has come is kept" if self._done and self._remote.sha256 else ""
                raise CheckpointError(
                    f"cannot download {self._remote.url} ({problem}): check the connection and "
                    f"try again{kept}"
                )
            time.sleep(pause * 2 ** (failed - 1))

    def _refused(self, error: urllib.error.HTTPError) -> CheckpointError:
        remedy = "check the name" if error.code == 404 else "is it public?"
        # of a repository that does not exist the hub says that one has to log in
        code = error.headers.get("X-Error-Code") if self._remote.hub else None
        if self._remote.hub and error.code in (401, 403):
            remedy = "check the name, the hub has no such public repository; of a private or gated "
            remedy += "one fetch the files yourself and name their folder"
        elif code == "RevisionNotFound":
            remedy = "check the revision, the repository has no such branch, tag or commit"
        elif code == "RepoNotFound":
            remedy = "check the name, the hub has no such repository"
        kind = MissingFileError if error.code == 404 and code in (None, "EntryNotFound") else None
        return (kind or CheckpointError)(
            f"cannot download {self._remote.url} ({error.code} {error.reason}): {remedy}"
        )

    def _ask(self) -> bool:
        """One request; True when the file is complete."""
        if self._total is not None and self._done >= self._total:
            if self._done == self._total:
                return True
            self._restart()
        request = WebRequest(self._remote.url)
        if self._done:
            request.headers["Range"] = f"bytes={self._done}-"
            if self._version:
                request.headers["If-Range"] = self._version
        with request.open(self._timeout) as response:
            self.said = request.said
            resumed = response.status == 206 and response.headers.get(
                "Content-Range", ""
            ).startswith(f"bytes {self._done}-")
            if self._done and not resumed:
                self._restart()
            self._version = response.headers.get("ETag")
            self._check_size(response.headers.get("Content-Length"))
            while block := response.read(_BLOCK):
                self._write(block)
        return self._total is None or self._done == self._total

    def flush(self) -> None:
        """Everything that came lies on the disk."""
        with self._writing():
            self._file.flush()
            os.fsync(self._file.fileno())

    @contextmanager
    def _writing(self) -> Iterator[None]:
        """A full disk is told at once; the connection is not to blame."""
        try:
            yield
        except OSError as error:
            folder = Path(self._file.name).parent
            raise CheckpointError(
                f"cannot write to {folder} ({error.strerror}): make room, or name another folder, "
                "with -o or in SAM2RT_CACHE"
            ) from None

    def _restart(self) -> None:
        self._file.truncate(0)
        self._done = 0

    def _check_size(self, length: str | None) -> None:
        if length is None:
            return
        total = self._done + int(length)
        if self._remote.size not in (None, total):
            self._restart()
            raise CheckpointError(
                f"{self._remote.url} has {total} bytes, expected {self._remote.size}: it is not "
                "the file it should be; try another source"
            )
        self._total = total
        folder = Path(self._file.name).parent
        if (free := shutil.disk_usage(folder).free) < int(length):
            raise CheckpointError(
                f"{folder} has {free >> 20} MB free, {int(length) >> 20} MB are needed: make "
                "room, or name another folder in SAM2RT_CACHE"
            )

    def _write(self, block: bytes) -> None:
        with self._writing():
            self._file.write(block)
        self._done += len(block)
        self._progress(Path(self._remote.url).name, self._done, self._total)
