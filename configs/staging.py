"""The one atomic writer: a folder or a file is replaced as a whole or stays what it was.

What is replaced is looked at again at that moment: where something has come that no run of ours
wrote, it stays, and the new result is left beside it.

Both are written to a temporary neighbour, since a rename cannot cross file systems, and renamed
into place. The neighbour is locked while its process lives (:mod:`~sam2rt.configs.leftovers`). A
folder takes long to write and is worth more, so it is also flushed to disk first.
"""

from __future__ import annotations

import errno
import itertools
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from . import systems
from .errors import InputError, StorageError
from .exchange import exchanged
from .leftovers import (
    OLD,
    PART,
    clear_files,
    clear_folders,
    dead_folders,
    new_file,
    new_folder,
    unlock,
)
from .remedies import line_of, remedy_of
from .systems import refused_name, rename, replace

#: how a system says that a folder cannot be renamed to a name that is taken
_TAKEN = (errno.ENOTEMPTY, errno.EEXIST, errno.ENOTDIR)
#: other runs may win this often before one gives up
_ATTEMPTS = 100
#: something in a folder, relative to it, that no run of ours wrote there; None where all is ours
Foreign = Callable[[Path], str | None]


def check_file_target(target: Path) -> None:
    """Refuse a file that could not be written, before the work it is to hold is done.

    Leaves nothing behind. Raises InputError.
    """
    if target.is_dir():
        raise InputError(f"{target} is a folder: name a file")
    _refuse_name(target)
    if not target.parent.is_dir():
        raise InputError(f"{target}: there is no folder {target.parent}: make it, or name another")
    try:
        # its replacement is made beside it, so the folder has to take a new file
        part, lock = new_file(target)
    except OSError as error:
        remedy = remedy_of(error, "name a file in a folder of yours", writing=True)
        raise InputError(f"{target} cannot be written ({line_of(error)}): {remedy}") from None
    part.unlink(missing_ok=True)
    unlock(lock)


@contextmanager
def temporary_folder(
    place: Path | None = None, otherwise: str = "set TMPDIR to a folder of yours"
) -> Iterator[Path]:
    """Give a folder in `place`, or the system's for such, that goes when the block ends.

    Those that killed runs left there are removed first. Raises InputError where none can be made;
    `otherwise` says then what fixes that, unless the machine is its cause.
    """
    try:
        beside = (place or Path(tempfile.gettempdir())) / "sam2rt-work"
        clear_folders(beside)
        folder, lock = new_folder(beside, PART)
    except OSError as error:
        remedy = remedy_of(error, otherwise, writing=True)
        where = f" in {place}" if place else ""
        raise InputError(
            f"no temporary folder can be made{where} ({line_of(error)}): {remedy}"
        ) from None
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        unlock(lock)


@contextmanager
def replaced_file(path: str | os.PathLike[str], suffix: str = "") -> Iterator[Path]:
    """Give a temporary file that becomes `path` when the block ends without an error.

    Whatever the block raises, `path` is what it was; StorageError on a full disk. `suffix` ends
    the temporary name, for writers that read the format off it. What killed runs left of this file
    is removed first. The folder must exist, see :func:`check_file_target`.
    """
    final = Path(path)
    clear_files(final)
    with _room_for(final):
        part, lock = new_file(final, suffix)
    try:
        with _room_for(final):
            yield part
            if not systems.WINDOWS:
                # there it is a file's protection from being replaced or removed
                part.chmod(_mode_of(final, 0o666))
            replace(part, final)
    finally:
        part.unlink(missing_ok=True)
        unlock(lock)


@contextmanager
def _room_for(final: Path) -> Iterator[None]:
    """What the block says of a full disk, or too many open files, becomes a StorageError."""
    try:
        yield
    except StorageError as error:
        # of a file in a folder that nobody asked for
        raise StorageError(final, error.why, error.remedy) from None
    except OSError as error:
        remedy = remedy_of(error, "", writing=True)
        if not remedy:
            raise
        raise StorageError(final, line_of(error), remedy) from None


@contextmanager
def replaced_folder(final: Path, foreign: Foreign | None = None) -> Iterator[Path]:
    """Give a temporary folder that becomes `final` when the block ends without an error.

    Whatever the block raises, and if the process is killed, `final` is what it was. Folders
    that killed runs left beside it are removed first. Where the system can exchange two names
    (:mod:`~sam2rt.configs.exchange`), `final` is there at every moment; elsewhere it is missing
    between two renames, and a run that is killed there leaves it to the next one to give back.

    foreign: names something that must not be removed; what has come since the block began, if
    not given. Raises InputError for a place that cannot be written, one below a file, the working
    folder or one around it, and when something foreign has come: then `final` is left, and the
    new folder is ``NAME.new`` beside it. StorageError on a full disk.
    """
    _refuse_working_folder(final)
    _refuse_name(final)
    with made_parents(final):
        try:
            _clear_leftovers(final, foreign)
            work, lock = new_folder(final, PART)
        except OSError as error:
            raise _unwritable(final, error) from None
        foreign = foreign or _come_since(final)
        try:
            with _room_for(final):
                yield work
                for path in (work, *work.rglob("*")):
                    _flush(path)
                os.chmod(work, _mode_of(final, 0o777) | stat.S_IRWXU)
                _move_in(work, final, foreign)
        finally:
            shutil.rmtree(work, ignore_errors=True)
            unlock(lock)


def _mode_of(final: Path, new: int) -> int:
    """Permissions for what replaces `final`: its own, else `new` less the process's umask."""
    try:
        return stat.S_IMODE(final.stat().st_mode) & 0o777
    except OSError:
        return new & ~_umask()


def _umask() -> int:
    with suppress(OSError):
        for line in Path("/proc/self/status").read_text("ascii", "replace").splitlines():
            if line.startswith("Umask:"):
                return int(line.split()[1], 8)
    # elsewhere who asks has to set one: what other threads make meanwhile is theirs alone
    before = os.umask(0o077)
    os.umask(before)
    return before


def _refuse_working_folder(final: Path) -> None:
    """Whoever stands in a folder that is replaced goes on seeing the old one, empty."""
    try:
        here = Path.cwd()
    except OSError:  # removed meanwhile
        return
    if final == here or final in here.parents:
        raise InputError(f"{final} is the working folder, or around it: name a folder inside it")


def _refuse_name(final: Path) -> None:
    """Windows would write to another file, or to a device."""
    if systems.WINDOWS and (why := refused_name(final.name)):
        raise InputError(f"{final} cannot be written ({why}): name another")


def _unwritable(final: Path, error: OSError) -> InputError:
    remedy = remedy_of(error, "name another place", writing=True)
    return InputError(f"{final} cannot be written ({line_of(error)}): {remedy}")


@contextmanager
def made_parents(final: Path) -> Iterator[None]:
    """Make the folders above `final`; those that were missing go again if the block fails.

    Raises InputError where they cannot be made.
    """
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


def _move_in(work: Path, final: Path, foreign: Foreign) -> None:
    """Put `work` in the place of `final`, whatever other runs do there meanwhile."""
    for _ in range(_ATTEMPTS):
        there = os.path.lexists(final)
        if _replaced(work, final, foreign) if there else _renamed(work, final):
            _flush(final.parent)
            return
    raise _left_beside(work, final, f"{final} is replaced by other runs all the time")


def _is_folder(path: Path) -> bool:
    """False for a file and a link to nothing; FileNotFoundError where there is neither."""
    mode = path.lstat().st_mode
    return path.is_dir() if stat.S_ISLNK(mode) else stat.S_ISDIR(mode)


def _replaced(work: Path, final: Path, foreign: Foreign) -> bool:
    """Replace what is at `final`; False when it is there no more.

    Looked at before and after, since then nobody finds it under its name: with something foreign
    in it, it stays or comes back.
    """
    try:
        if not _is_folder(final):
            raise _left_beside(work, final, f"{final} has become a file")
        found = foreign(final)
    except FileNotFoundError:
        # between the two renames of another run
        return False
    if found:
        raise _left_beside(work, final, _has_come(final, found))
    holder, lock = new_folder(final, OLD)
    old = holder / final.name
    try:
        if not _displaced(work, final, old):
            return False
        if found := foreign(old):
            if exchanged(old, final):
                rename(old, work)
            else:
                rename(final, work)
                rename(old, final)
            raise _left_beside(work, final, _has_come(final, found))
        return True
    finally:
        _remove_holder(holder, final, foreign)
        unlock(lock)


def _displaced(work: Path, final: Path, old: Path) -> bool:
    """Move `final` to `old` and `work` to `final`; False when `final` is not there.

    In one step where the system can: `work` goes first to `old`, whose folder is locked, so
    that what comes back in the exchange belongs to no other run. Elsewhere `final` is missing
    between two renames, and the next run gives it back should this one be killed there.
    """
    rename(work, old)
    try:
        if exchanged(old, final):
            return True
    except FileNotFoundError:
        rename(old, work)
        return False
    except OSError:
        rename(old, work)
        raise
    rename(old, work)
    try:
        rename(final, old)
    except FileNotFoundError:
        return False
    except PermissionError as error:
        if not systems.WINDOWS:
            raise
        why = f"{final} is open in another program ({line_of(error)})"
        raise _left_beside(work, final, why) from None
    try:
        rename(work, final)
    except BaseException as error:
        given_back = _renamed(old, final)
        if given_back or not isinstance(error, OSError) or error.errno not in _TAKEN:
            raise
        # another run has moved in: its result is the one to replace now
        return False
    return True


def _renamed(source: Path, target: Path) -> bool:
    """Rename to a name that is free; False when it is taken."""
    try:
        rename(source, target)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        return False
    return True


def _has_come(final: Path, found: str) -> str:
    return f"folder {final} holds {found}, which came while the result was made"


def _left_beside(work: Path, final: Path, why: str) -> InputError:
    """Keep the result under a free name beside `final`, and say so."""
    for number in itertools.count(1):
        place = final.with_name(f"{final.name}.new" + (f"-{number}" if number > 1 else ""))
        try:
            # an empty folder keeps the name until the result takes its place
            place.mkdir()
        except FileExistsError:
            continue
        if not _renamed(work, place):
            # Windows renames to no taken name, an empty folder's neither
            place.rmdir()
            if not _renamed(work, place):
                continue
        _flush(place.parent)
        break
    return InputError(f"{why}: it was left as it is, the new result is in {place}")


def _remove_holder(holder: Path, final: Path, foreign: Foreign | None) -> None:
    """Remove what was replaced, unless it holds something that no run of ours wrote."""
    old = holder / final.name
    if foreign is None or not old.is_dir() or foreign(old) is None:
        # from here on no look: half removed it would be nobody's result, hence foreign
        going = holder.with_suffix(PART)
        with suppress(OSError):
            holder = holder.rename(going)
        shutil.rmtree(holder, ignore_errors=True)


def _come_since(final: Path) -> Foreign:
    """What was not there when the work began is foreign."""

    def names(folder: Path) -> Iterator[str]:
        return (path.relative_to(folder).as_posix() for path in folder.rglob("*"))

    known = set(names(final))
    return lambda folder: next((name for name in names(folder) if name not in known), None)


def _clear_leftovers(final: Path, foreign: Foreign | None) -> None:
    """Remove the temporary folders of dead processes, giving back a bundle killed in mid-swap."""
    for left, _ in dead_folders(final):
        if left.suffix == PART:
            shutil.rmtree(left, ignore_errors=True)
            continue
        if not final.exists():
            # unless another run has moved in meanwhile
            with suppress(OSError):
                rename(left / final.name, final)
        _remove_holder(left, final, foreign)


def _flush(path: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
