"""A bundle is replaced as a whole or not at all, whatever stops the writer."""

from __future__ import annotations

import errno
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from fake_bundle import write_bundle

from sam2rt.configs import exchange, staging
from sam2rt.configs.bundle import Bundle, staged_folder
from sam2rt.configs.errors import BundleError, InputError
from sam2rt.configs.staging import check_file_target, replaced_file, replaced_folder

pytestmark = pytest.mark.skipif(os.name != "posix", reason="locks and signals are POSIX")


def neighbours(target: Path) -> list[str]:
    """Everything beside the target, hidden litter included."""
    return sorted(p.name for p in target.parent.iterdir() if p != target)


def test_writes_a_new_bundle_readable_by_all(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "bundle"
    write_bundle(target)
    assert Bundle.load(target).generator == "test"
    assert neighbours(target) == []
    assert target.stat().st_mode & 0o777 == 0o755


def test_replaces_a_bundle_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    write_bundle(target, generator="old")
    (target / "left-over.onnx").write_bytes(b"x")
    write_bundle(target, generator="new")
    assert Bundle.load(target).generator == "new"
    assert not (target / "left-over.onnx").exists()
    assert neighbours(target) == []


def test_fills_an_empty_folder_and_follows_a_link(tmp_path: Path) -> None:
    real = tmp_path / "v1"
    real.mkdir()
    link = tmp_path / "current"
    link.symlink_to(real)
    write_bundle(link)
    assert link.is_symlink()
    assert Bundle.load(real).generator == "test"
    assert neighbours(real) == ["current"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("old", [True, False])
def test_an_exception_leaves_the_old_bundle_or_none(
    tmp_path: Path, error: type[BaseException], old: bool
) -> None:
    target = tmp_path / "bundle"
    if old:
        write_bundle(target, generator="old")

    def interrupted() -> None:
        with staged_folder(target) as work:
            (work / "half.onnx").write_bytes(b"x" * 1000)
            raise error

    with pytest.raises(error):
        interrupted()
    assert neighbours(target) == []
    if old:
        assert Bundle.load(target).generator == "old"
        assert not (target / "half.onnx").exists()
    else:
        assert not target.exists()


def test_refuses_a_folder_that_is_no_bundle(tmp_path: Path) -> None:
    (tmp_path / "photo.jpg").write_bytes(b"precious")
    with pytest.raises(BundleError) as caught, staged_folder(tmp_path):
        pytest.fail("must not start")
    expected = f"folder {tmp_path} is not empty and holds no manifest.json: name another folder"
    assert str(caught.value) == expected
    assert (tmp_path / "photo.jpg").read_bytes() == b"precious"


def test_refuses_a_file(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    target.write_bytes(b"precious")
    with pytest.raises(BundleError) as caught, staged_folder(target):
        pytest.fail("must not start")
    assert str(caught.value) == f"{target} is a file: name a folder for the bundle"
    assert target.read_bytes() == b"precious"


def _killed_writer(target: Path, code: str) -> None:
    """Run `code` in a process of its own until it prints a line, then SIGKILL it."""
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    with process.stdout as lines:
        assert lines.readline() == "ready\n"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL


_WRITE_AND_WAIT = """
import sys, time
from sam2rt.configs.bundle import staged_folder
with staged_folder(sys.argv[1]) as work:
    (work / "half.onnx").write_bytes(b"x" * 1000)
    print("ready", flush=True)
    time.sleep(60)
"""


@pytest.mark.parametrize("old", [True, False])
def test_a_killed_writer_changes_nothing_and_the_next_clears_up(tmp_path: Path, old: bool) -> None:
    target = tmp_path / "bundle"
    if old:
        write_bundle(target, generator="old")
    _killed_writer(target, _WRITE_AND_WAIT)
    assert [name.endswith(".part") for name in neighbours(target)] == [True]
    if old:
        assert Bundle.load(target).generator == "old"
    else:
        assert not target.exists()
    write_bundle(target, generator="new")
    assert Bundle.load(target).generator == "new"
    assert neighbours(target) == []


_KILLED_IN_MID_SWAP = """
import os, sys, time
from pathlib import Path
from sam2rt.configs import exchange, staging
exchange._renameat2 = lambda: None
rename = os.rename
def stop_before_the_new_folder_moves_in(source, target):
    if str(source).endswith(".part") and not os.path.exists(sys.argv[1]):
        print("ready", flush=True)
        time.sleep(60)
    rename(source, target)
os.rename = stop_before_the_new_folder_moves_in
with staging.replaced_folder(Path(sys.argv[1])) as work:
    (work / "new").write_bytes(b"x")
"""


def test_a_writer_killed_in_mid_swap_loses_no_bundle(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    write_bundle(target, generator="old")
    _killed_writer(target, _KILLED_IN_MID_SWAP)
    assert not target.exists()
    # a next attempt that fails as well: the old bundle is back, nothing else lies about
    with pytest.raises(RuntimeError), staged_folder(target):
        raise RuntimeError
    assert Bundle.load(target).generator == "old"
    assert neighbours(target) == []


def test_a_name_that_begins_another_leaves_its_folders_alone(tmp_path: Path) -> None:
    target = tmp_path / "sam2.1"
    write_bundle(target, generator="old")
    _killed_writer(target, _KILLED_IN_MID_SWAP)
    left = neighbours(target)
    write_bundle(tmp_path / "sam2", generator="other")
    assert [name for name in neighbours(target) if name != "sam2"] == left
    with pytest.raises(RuntimeError), staged_folder(target):
        raise RuntimeError
    assert Bundle.load(target).generator == "old"


def test_a_living_writer_is_left_alone(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    process = subprocess.Popen(
        [sys.executable, "-c", _WRITE_AND_WAIT, str(target)], stdout=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        write_bundle(target)
        (part,) = neighbours(target)
        assert (target.parent / part / "half.onnx").stat().st_size == 1000
    finally:
        process.kill()
        process.communicate()


def test_a_failing_swap_gives_the_old_folder_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "bundle"
    write_bundle(target, generator="old")
    rename = os.rename

    def disk_error(source: Path, destination: Path) -> None:
        if str(source).endswith(".part"):
            raise OSError(28, "No space left on device")
        rename(source, destination)

    monkeypatch.setattr(os, "rename", disk_error)
    with pytest.raises(OSError, match="No space left"), replaced_folder(target) as work:
        (work / "new").write_bytes(b"x")
    assert Bundle.load(target).generator == "old"
    assert neighbours(target) == []


def test_other_hidden_folders_are_not_litter(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    (tmp_path / ".bundle.git").mkdir()
    (tmp_path / ".bundlex.1.part").mkdir()
    os.utime(tmp_path / ".bundle.git", (time.time() - 1e6,) * 2)
    write_bundle(target)
    assert neighbours(target) == [".bundle.git", ".bundlex.1.part"]


def test_a_place_below_a_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    for target in (tmp_path / "file" / "x", tmp_path / "file" / "deep" / "x"):
        with pytest.raises(InputError) as refused, replaced_folder(target):
            pass
        assert str(refused.value) == (
            f"{target} lies below a file: expected folders all the way, name another place"
        )


def test_a_place_that_cannot_be_written_is_refused() -> None:
    for target in (Path("/proc/x"), Path("/proc/deep/x")):
        with pytest.raises(InputError) as refused, replaced_folder(target):
            pytest.fail("must not start")
        assert str(refused.value) == (
            f"{target} cannot be written (No such file or directory): name another place"
        )


def test_the_folder_one_stands_in_is_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A shell would go on showing the old one, empty."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    for target in (tmp_path / "here", tmp_path):
        with pytest.raises(InputError) as refused, replaced_folder(target):
            pytest.fail("must not start")
        assert str(refused.value) == (
            f"{target} is the working folder, or around it: name a folder inside it"
        )


def test_folders_made_for_a_result_go_with_it(tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()

    def fail() -> None:
        with replaced_folder(tmp_path / "mine" / "a" / "b" / "result"):
            (tmp_path / "mine" / "a" / "other").mkdir(exist_ok=True)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [p.name for p in (tmp_path / "mine" / "a").iterdir()] == ["other"]
    (tmp_path / "mine" / "a" / "other").rmdir()
    (tmp_path / "mine" / "a").rmdir()
    with pytest.raises(RuntimeError), replaced_folder(tmp_path / "mine" / "a" / "b" / "result"):
        raise RuntimeError
    assert list((tmp_path / "mine").iterdir()) == []


def test_a_bundle_with_foreign_files_beside_it_is_not_replaced(tmp_path: Path) -> None:
    """A manifest.json is also what other things have."""
    target = tmp_path / "bundle"
    write_bundle(target)
    (target / "engines" / "sm_90").mkdir(parents=True)
    (target / "engines" / "sm_90" / "mask_decoder.engine").write_bytes(b"x")
    write_bundle(target)
    assert not (target / "engines").exists()
    (target / "sam2.1_hiera_tiny.pt").write_bytes(b"precious")
    with pytest.raises(BundleError) as refused, staged_folder(target):
        pytest.fail("must not start")
    assert str(refused.value) == (
        f"folder {target} holds sam2.1_hiera_tiny.pt, which is no part of a bundle: move it, or "
        "name another folder"
    )
    assert (target / "sam2.1_hiera_tiny.pt").read_bytes() == b"precious"


def test_what_a_killed_build_left_in_a_bundle_is_no_foreign_file(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    for left in ("sm_90", ".sm_90.abcd1234.part", ".sm_90.abcd1234.old/sm_90"):
        write_bundle(target)
        (target / "engines" / left).mkdir(parents=True)
        (target / "engines" / left / "mask_decoder.engine").write_bytes(b"x")
        write_bundle(target, generator=left)
        assert Bundle.load(target).generator == left
        assert not (target / "engines").exists()
    for mine in (".sm_90.abcd1234.part/notes.txt", ".sm_90.abcd1234.old/sm_80/x.engine", ".a/b/c"):
        path = target / "engines" / mine
        path.parent.mkdir(parents=True)
        path.write_text("mine")
        with pytest.raises(BundleError, match=r"which is no part of a bundle"):
            write_bundle(target)
        assert path.read_text() == "mine"
        shutil.rmtree(target / "engines")


def test_file_targets_are_tried_and_nothing_is_left(tmp_path: Path) -> None:
    check_file_target(tmp_path / "new.json")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("x")
    cases = {
        tmp_path: f"{tmp_path} is a folder: name a file",
        tmp_path / "no" / "r": f"{tmp_path}/no/r: there is no folder {tmp_path}/no: make it, or "
        "name another",
        tmp_path / "file" / "r": f"{tmp_path}/file/r: there is no folder {tmp_path}/file: make "
        "it, or name another",
        Path("/proc/r.json"): "/proc/r.json cannot be written (No such file or directory): name a "
        "file in a folder of yours",
    }
    for target, message in cases.items():
        with pytest.raises(InputError) as refused:
            check_file_target(target)
        assert str(refused.value) == message


def _ours(folder: Path) -> str | None:
    return next((p.name for p in folder.iterdir() if p.name != "masks.json"), None)


def _write(
    target: Path,
    text: str,
    meanwhile: Callable[[], object] = lambda: None,
    foreign: Callable[[Path], str | None] = _ours,
) -> None:
    with replaced_folder(target, foreign) as work:
        (work / "masks.json").write_text(text)
        meanwhile()


@pytest.fixture(params=["exchanged", "renamed twice"])
def either_way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the system has, and as on one that cannot exchange two names."""
    if request.param == "renamed twice":
        monkeypatch.setattr(exchange, "_renameat2", lambda: None)


def test_what_comes_while_the_work_is_done_stays(tmp_path: Path, either_way: None) -> None:
    target = tmp_path / "result"
    _write(target, "old")
    for place in ("result.new", "result.new-2"):
        with pytest.raises(InputError) as refused:
            _write(target, place, lambda: (target / "notes.txt").write_text("mine"))
        assert str(refused.value) == (
            f"folder {target} holds notes.txt, which came while the result was made: it was left "
            f"as it is, the new result is in {tmp_path / place}"
        )
        assert (tmp_path / place / "masks.json").read_text() == place
    assert (target / "masks.json").read_text() == "old"
    assert (target / "notes.txt").read_text() == "mine"
    assert neighbours(target) == ["result.new", "result.new-2"]


def test_what_comes_at_the_very_moment_of_replacing_stays(tmp_path: Path, either_way: None) -> None:
    """After the last look at the folder, before it is replaced."""
    target = tmp_path / "result"
    _write(target, "old")
    looks = []

    def looking(folder: Path) -> str | None:
        found = _ours(folder)
        looks.append(found)
        if len(looks) == 1:
            (target / "notes.txt").write_text("mine")
        return found

    with pytest.raises(InputError, match=r"holds notes\.txt"):
        _write(target, "new", foreign=looking)
    assert looks[:2] == [None, "notes.txt"]
    assert sorted(p.name for p in target.iterdir()) == ["masks.json", "notes.txt"]
    assert (target / "masks.json").read_text() == "old"
    assert (tmp_path / "result.new" / "masks.json").read_text() == "new"
    assert neighbours(target) == ["result.new"]


def test_what_comes_where_nothing_was_stays(tmp_path: Path, either_way: None) -> None:
    target = tmp_path / "result"

    def busy() -> None:
        target.mkdir()
        (target / "notes.txt").write_text("mine")

    with pytest.raises(InputError, match=r"holds notes\.txt"):
        _write(target, "new", busy)
    assert [p.name for p in target.iterdir()] == ["notes.txt"]
    assert (tmp_path / "result.new" / "masks.json").read_text() == "new"


def test_a_file_that_takes_the_place_stays(tmp_path: Path, either_way: None) -> None:
    target = tmp_path / "result"
    with pytest.raises(InputError) as refused:
        _write(target, "new", lambda: target.write_text("mine"))
    assert str(refused.value) == (
        f"{target} has become a file: it was left as it is, the new result is in {target}.new"
    )
    assert target.read_text() == "mine"


def test_without_a_rule_what_has_come_since_stays(tmp_path: Path, either_way: None) -> None:
    target = tmp_path / "result"
    target.mkdir()
    (target / "before").write_text("x")
    with replaced_folder(target) as work:
        (work / "new").write_text("x")
    assert [p.name for p in target.iterdir()] == ["new"]
    with pytest.raises(InputError, match="holds since"), replaced_folder(target):
        (target / "since").write_text("mine")
    assert (target / "since").read_text() == "mine"


def test_a_bundle_that_got_a_foreign_file_stays(tmp_path: Path) -> None:
    target = tmp_path / "bundle"
    write_bundle(target, generator="old")
    with pytest.raises(InputError, match=r"holds notes\.txt, which came"), staged_folder(target):
        (target / "notes.txt").write_text("mine")
    assert Bundle.load(target).generator == "old"
    assert (target / "notes.txt").read_text() == "mine"


def test_what_a_killed_run_left_with_foreign_files_stays(tmp_path: Path) -> None:
    target = tmp_path / "result"
    _write(target, "old")
    left = tmp_path / ".result.abcd1234.old"
    (left / "result").mkdir(parents=True)
    (left / "result" / "notes.txt").write_text("mine")
    (tmp_path / ".result.abcd5678.old" / "result").mkdir(parents=True)
    _write(target, "new")
    assert neighbours(target) == [left.name]
    assert (left / "result" / "notes.txt").read_text() == "mine"


def test_what_a_run_killed_while_removing_left_goes(
    tmp_path: Path, either_way: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Half of an old result is nobody's: looked at again, it would seem foreign and stay."""
    target = tmp_path / "result"

    def ours(folder: Path) -> str | None:
        names = [p.name for p in folder.iterdir()]
        return None if "masks.json" in names or not names else names[0]

    def half(folder: Path, ignore_errors: bool) -> None:
        (folder / "result" / "masks.json").unlink(missing_ok=True)

    for text in ("old", "new"):
        with monkeypatch.context() as patch, replaced_folder(target, ours) as work:
            (work / "masks.json").write_text(text)
            (work / "mask_1.png").write_text(text)
            patch.setattr(staging.shutil, "rmtree", half)
            patch.setattr(staging, "unlock", lambda lock: None if lock is None else os.close(lock))
    assert len(neighbours(target)) == 1
    with replaced_folder(target, ours) as work:
        (work / "masks.json").write_text("newest")
    assert neighbours(target) == []
    assert (target / "masks.json").read_text() == "newest"


_POLL = """
import os, sys
print("ready", flush=True)
seen = missed = 0
while not os.path.exists(sys.argv[1] + ".stop"):
    seen += 1
    missed += not os.path.isdir(sys.argv[1])
print(seen, missed)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="renameat2 is Linux's")
def test_a_polling_reader_never_misses_the_folder(tmp_path: Path) -> None:
    target = tmp_path / "result"
    _write(target, "0")
    (tmp_path / "a").mkdir()
    if not exchange.exchanged(tmp_path / "a", target):
        pytest.skip("this file system cannot exchange two names")
    assert exchange.exchanged(tmp_path / "a", target)
    command = [sys.executable, "-c", _POLL, str(target)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as reader:
        assert reader.stdout is not None
        assert reader.stdout.readline() == "ready\n"
        for number in range(1, 301):
            _write(target, str(number))
        (tmp_path / "result.stop").touch()
        seen, missed = map(int, reader.stdout.readline().split())
    assert seen > 300
    assert missed == 0
    assert (target / "masks.json").read_text() == "300"


def test_exchanging_says_where_it_cannot(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    first.write_text("a")
    second.write_text("b")
    for code in (errno.ENOSYS, errno.EINVAL):
        monkeypatch.setattr(exchange, "_renameat2", lambda code=code: lambda *_: code)
        assert not exchange.exchanged(first, second)
        _write(tmp_path / "result", str(code))
        assert (tmp_path / "result" / "masks.json").read_text() == str(code)
    monkeypatch.setattr(exchange, "_renameat2", lambda: lambda *_: errno.EIO)
    with pytest.raises(OSError, match="Input/output error"):
        exchange.exchanged(first, second)
    with pytest.raises(OSError, match="Input/output error"):
        _write(tmp_path / "result", "never")
    assert (tmp_path / "result" / "masks.json").read_text() == str(errno.EINVAL)
    assert neighbours(tmp_path / "result") == ["a", "b"]


_WRITE_OFTEN = """
import sys
from pathlib import Path
from sam2rt.configs import exchange, staging
from sam2rt.configs.errors import InputError
target, number, way = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
if way == "renamed twice":
    exchange._renameat2 = lambda: None
def ours(folder):
    return next((p.name for p in folder.iterdir() if p.name not in ("first", "second")), None)
for _ in range(40):
    with staging.replaced_folder(target, ours) as work:
        (work / "first").write_text(number)
        (work / "second").write_text(number)
"""


@pytest.mark.parametrize("way", ["exchanged", "renamed twice"])
def test_four_writers_at_once_lose_nothing(tmp_path: Path, way: str) -> None:
    target = tmp_path / "result"
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", _WRITE_OFTEN, str(target), str(number), way],
            stderr=subprocess.PIPE,
            text=True,
        )
        for number in range(4)
    ]
    said = [writer.communicate()[1] for writer in writers]
    assert said == [""] * 4
    assert [writer.returncode for writer in writers] == [0] * 4
    assert sorted(p.name for p in target.iterdir()) == ["first", "second"]
    assert (target / "first").read_text() == (target / "second").read_text()
    assert neighbours(target) == []


@pytest.mark.parametrize("gone", ["before it is looked at", "while it is looked at"])
def test_a_folder_that_another_run_has_just_moved_away_is_no_file(
    gone: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where names cannot be exchanged it is missing between the two renames of another run."""
    target, aside = tmp_path / "result", tmp_path / "aside"
    target.mkdir()
    (target / "first").write_text("old")
    lexists, asked = os.path.lexists, []

    def moved_away(path: str | Path) -> bool:
        there = lexists(path)
        if Path(path) == target:
            asked.append(there)
            if len(asked) == 1 and gone == "before it is looked at":
                os.rename(target, aside)
        return there

    def ours(folder: Path) -> str | None:
        if folder == target and len(asked) == 1 and not aside.exists():
            os.rename(target, aside)
        return next((p.name for p in folder.iterdir() if p.name != "first"), None)

    with replaced_folder(target, ours) as work:
        (work / "first").write_text("new")
        # asked from here on alone: making the folders above asks too
        monkeypatch.setattr(os.path, "lexists", moved_away)
    monkeypatch.undo()
    assert asked == [True, False]
    assert (target / "first").read_text() == "new"


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_what_is_written_follows_the_umask(umask: int, tmp_path: Path) -> None:
    before = os.umask(umask)
    try:
        with replaced_file(tmp_path / "f") as part:
            part.write_bytes(b"x")
        with replaced_folder(tmp_path / "d") as work:
            (work / "inside").write_bytes(b"x")
    finally:
        assert os.umask(before) == umask
    modes = [(tmp_path / name).stat().st_mode & 0o777 for name in ("f", "d", "d/inside")]
    assert modes == [0o666 & ~umask, 0o777 & ~umask, 0o666 & ~umask]


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize("swapped", [True, False], ids=["exchanged", "renamed twice"])
def test_what_is_private_stays_private(
    swapped: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not swapped:
        monkeypatch.setattr(staging, "exchanged", lambda *_: False)
    (tmp_path / "d").mkdir(mode=0o700)
    (tmp_path / "d" / "old").write_bytes(b"x")
    (tmp_path / "f").write_bytes(b"x")
    (tmp_path / "f").chmod(0o600)
    with replaced_folder(tmp_path / "d") as work:
        (work / "new").write_bytes(b"x")
    with replaced_file(tmp_path / "f") as part:
        part.write_bytes(b"y")
    assert [p.name for p in (tmp_path / "d").iterdir()] == ["new"]
    assert (tmp_path / "f").read_bytes() == b"y"
    assert [(tmp_path / n).stat().st_mode & 0o777 for n in ("d", "f")] == [0o700, 0o600]
