"""The one atomic writer: a folder or a file is replaced as a whole or stays what it was.

Both are written to a temporary neighbour, since a rename cannot cross file systems, and renamed
into place. A folder takes long to write and is worth more, so it is also flushed to disk first,
and its neighbour is locked while its process lives: the next run can tell what a killed one left
behind and clear it away.
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from .errors import InputError

try:
    import fcntl
except ImportError:  # Windows: no lock, hence no clearing of what killed runs left
    fcntl = None  # type: ignore[assignment]

_NEW, _OLD = ".part", ".old"


def check_file_target(target: Path) -> None:
    """Refuse a file that could not be written, before the work it is to hold is done.

    Leaves nothing behind. Raises InputError.
    """
    if target.is_dir():
        raise InputError(f"{target} is a folder: name a file")
    if not target.parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.parent}: make it, or name another")
    try:
        # its replacement is made beside it, so the folder has to take a new file
        descriptor, name = tempfile.mkstemp(prefix=f".{target.name}.", dir=target.parent)
    except OSError as error:
        raise InputError(
            f"{target} cannot be written ({error.strerror}): name a file in a folder of yours"
        ) from None
    os.close(descriptor)
    os.unlink(name)


@contextmanager
def replaced_file(path: str | os.PathLike[str], suffix: str = "") -> Iterator[Path]:
    """Give a temporary file that becomes `path` when the block ends without an error.

    Whatever the block raises, `path` is what it was. `suffix` ends the temporary name, for
    writers that read the format off it. The folder must exist, see :func:`check_file_target`.
    """
    final = Path(path)
    descriptor, name = tempfile.mkstemp(prefix=f".{final.name}.", suffix=suffix, dir=final.parent)
    os.close(descriptor)
    part = Path(name)
    try:
        yield part
        part.chmod(0o644)
        part.replace(final)
    finally:
        part.unlink(missing_ok=True)


@contextmanager
def replaced_folder(final: Path) -> Iterator[Path]:
    """Give a temporary folder that becomes `final` when the block ends without an error.

    Whatever the block raises, and if the process is killed, `final` is what it was. Folders
    that killed runs left beside it are removed first. Raises InputError for a place that cannot
    be written, one below a file, and the working folder or one around it.
    """
    _refuse_working_folder(final)
    with _made_parents(final):
        try:
            _clear_leftovers(final)
            work, lock = _new_folder(final, _NEW)
        except OSError as error:
            raise _unwritable(final, error) from None
        try:
            yield work
            for path in (work, *work.rglob("*")):
                _flush(path)
            os.chmod(work, 0o755)
            _swap(work, final)
        finally:
            shutil.rmtree(work, ignore_errors=True)
            _unlock(lock)


def _refuse_working_folder(final: Path) -> None:
    """Whoever stands in a folder that is replaced goes on seeing the old one, empty."""
    try:
        here = Path.cwd()
    except OSError:  # removed meanwhile
        return
    if final == here or final in here.parents:
        raise InputError(f"{final} is the working folder, or around it: name a folder inside it")


def _unwritable(final: Path, error: OSError) -> InputError:
    return InputError(f"{final} cannot be written ({error.strerror}): name another place")


@contextmanager
def _made_parents(final: Path) -> Iterator[None]:
    """Makes the folders above `final`; those that were missing go again if the block fails."""
    missing = [folder for folder in final.parents if not os.path.lexists(folder)]
    try:
        try:
            final.parent.mkdir(parents=True, exist_ok=True)
        except (FileExistsError, NotADirectoryError):
            raise InputError(
                f"{final} lies below a file: expected folders all the way, name another place"
            ) from None
        except OSError as error:
            raise _unwritable(final, error) from None
        yield
    except BaseException:
        for folder in missing:
            # one that another run uses meanwhile is not empty
            with suppress(OSError):
                folder.rmdir()
        raise


def _swap(work: Path, final: Path) -> None:
    if final.is_dir():
        old, lock = _new_folder(final, _OLD)
        os.rename(final, old / final.name)
        try:
            os.rename(work, final)
        except BaseException:
            os.rename(old / final.name, final)
            raise
        finally:
            shutil.rmtree(old, ignore_errors=True)
            _unlock(lock)
    else:
        os.rename(work, final)
    _flush(final.parent)


def _clear_leftovers(final: Path) -> None:
    """Remove the temporary folders of dead processes, giving back a bundle killed in mid-swap."""
    # eight characters of mkdtemp: ".sam2.1.XXXXXXXX.old" is no leftover of "sam2"
    ours = re.compile(rf"\.{re.escape(final.name)}\.\w{{8}}({re.escape(_NEW)}|{re.escape(_OLD)})")
    for left in final.parent.iterdir():
        if not ours.fullmatch(left.name) or not left.is_dir():
            continue
        lock = _lock(left, wait=False)
        if lock is None:
            continue
        if left.suffix == _OLD and not final.exists():
            with suppress(FileNotFoundError):
                os.rename(left / final.name, final)
        shutil.rmtree(left, ignore_errors=True)
        _unlock(lock)


def _new_folder(final: Path, suffix: str) -> tuple[Path, int | None]:
    while True:
        folder = tempfile.mkdtemp(prefix=f".{final.name}.", suffix=suffix, dir=final.parent)
        lock = _lock(Path(folder), wait=True)
        # another run may have taken it for a leftover before the lock was held
        if os.path.isdir(folder):
            return Path(folder), lock
        _unlock(lock)


def _lock(folder: Path, *, wait: bool) -> int | None:
    """A descriptor holding the folder's lock; None where it is taken or locks do not exist."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except FileNotFoundError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except OSError:
        os.close(descriptor)
        return None
    return descriptor


def _unlock(descriptor: int | None) -> None:
    if descriptor is not None:
        os.close(descriptor)


def _flush(path: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
