"""Compiling the library, finding it again, and saying in one line what is missing."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import cpu_operators as cpu
import pytest

from sam2rt.configs.errors import SessionError
from sam2rt.plugins.cpu import library


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return tmp_path


def test_it_is_compiled_once_and_knows_what_it_was_made_of(cache: Path) -> None:
    cpu.require_compiler()
    said: list[str] = []
    made = library.build(lambda what, done=0, total=None: said.append(what))
    assert made.path == library.library_path()
    assert made.path.is_relative_to(cache)
    assert made.identity == library.identity()
    assert library.load() == made
    assert said[0] == "compiling amx.cpp"
    # the fastest the processor names
    assert made.units == next(iter(library.units_here()), "")
    assert [file.name for file in made.path.parent.iterdir()] == ["libsam2rt_cpu.so"]


def test_a_library_of_other_sources_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    cpu.require_units()
    made = library.build()
    monkeypatch.setattr(library, "identity", lambda: "f" * 64)
    other = library.library_path()
    other.parent.mkdir(parents=True)
    shutil.copy(made.path, other)
    with pytest.raises(SessionError) as error:
        library.load()
    expected = f"expected {'f' * 12}, found {made.identity[:12]}"
    assert str(error.value) == (
        f"the operators {other} were made from other sources ({expected}): run "
        "'sam2rt plugins --cpu'"
    )
    assert library.lacking() == str(error.value)


def test_a_file_that_is_no_library_is_refused() -> None:
    cpu.require_units()
    library.library_path().parent.mkdir(parents=True)
    library.library_path().write_text("no library")
    assert library.lacking().startswith(f"cannot load the operators {library.library_path()} (")
    assert library.lacking().endswith("): run 'sam2rt plugins --cpu'")


_LOAD = "from sam2rt.plugins.cpu import library; print(library.lacking())"


def test_a_library_that_is_not_whole_is_never_given_to_the_system() -> None:
    """Whose loader ends the process over it, by SIGBUS or an assertion."""
    cpu.require_units()
    path = library.build().path
    whole = path.read_bytes()
    changed = bytearray(whole)
    changed[len(whole) // 3] ^= 1
    odd = [whole[: len(whole) * part // 100] for part in (0, 5, 30, 50, 70, 90, 99)]
    for content in (*odd, whole[:-1], whole + b"\0", bytes(changed)):
        # this process has the old one mapped
        path.unlink()
        path.write_bytes(content)
        done = subprocess.run([sys.executable, "-c", _LOAD], capture_output=True, text=True)
        assert (done.returncode, done.stderr) == (0, "")
        assert done.stdout == (
            f"cannot load the operators {path} (it is not whole): run 'sam2rt plugins --cpu'\n"
        )
    assert library.build().path.read_bytes() == whole


def test_a_library_that_everybody_may_write_is_not_loaded() -> None:
    cpu.require_units()
    path = library.build().path
    library._loaded.cache_clear()
    path.chmod(0o646)
    assert f"(everybody may write to {path}: take that right away)" in library.lacking()
    # building it anew mends it
    assert stat.S_IMODE(library.build().path.stat().st_mode) & 0o002 == 0
    assert library.lacking() == ""


@pytest.mark.skipif(os.geteuid() != 0, reason="gives a file to another user")
@pytest.mark.parametrize("given", ["file", "folder"])
def test_a_library_of_another_user_is_not_loaded(given: str) -> None:
    cpu.require_units()
    path = library.build().path
    library._loaded.cache_clear()
    place = path if given == "file" else path.parent
    os.chown(place, 12345, -1)
    assert library.lacking() == (
        f"cannot load the operators {path} ({place} belongs to another user): run "
        "'sam2rt plugins --cpu'"
    )


def test_two_that_compile_at_once_leave_one_whole_library(cache: Path) -> None:
    cpu.require_compiler()
    build = "from sam2rt.plugins.cpu import library; print(library.build().identity)"
    both = [
        subprocess.Popen([sys.executable, "-c", build], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    assert [process.communicate()[0].strip() for process in both] == [library.identity()] * 2
    assert [file.name for file in library.library_path().parent.iterdir()] == ["libsam2rt_cpu.so"]
    assert library.load().identity == library.identity()


def test_what_is_missing_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.platform, "system", lambda: "Linux")
    monkeypatch.setattr(library, "units_here", lambda: ("avx512_bf16",))
    assert library.lacking() == (
        "the operators for bfloat16 are not compiled on this machine: run 'sam2rt plugins --cpu'"
    )
    monkeypatch.setattr(library, "units_here", lambda: ())
    assert library.lacking() == (
        "this processor has no units for bfloat16 (AVX-512 BF16, AMX): use an fp32 bundle"
    )
    monkeypatch.setattr(library.platform, "system", lambda: "Darwin")
    assert library.lacking() == (
        "the operators for bfloat16 run on Linux, not on Darwin: use an fp32 bundle"
    )


def test_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library.platform, "system", lambda: "Linux")
    monkeypatch.setattr(library.platform, "machine", lambda: "x86_64")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(SessionError, match="no C\\+\\+ compiler is installed"):
        library.build()
    assert not library.library_path().exists()


def test_a_compiler_that_fails_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(library.platform, "system", lambda: "Linux")
    monkeypatch.setattr(library.platform, "machine", lambda: "x86_64")
    compiler = tmp_path / "bin" / "c++"
    compiler.parent.mkdir()
    compiler.write_text("#!/bin/sh\necho 'amx.cpp:1: error: unknown option' >&2\nexit 1\n")
    compiler.chmod(0o755)
    monkeypatch.setenv("PATH", f"{compiler.parent}:/usr/bin:/bin")
    with pytest.raises(SessionError) as error:
        library.build()
    assert str(error.value) == (
        "c++ does not compile the operators (amx.cpp:1: error: unknown option): install GCC 11, "
        "Clang 14 or newer"
    )
    assert not library.library_path().parent.exists()


def test_every_source_is_compiled_or_included() -> None:
    """A file that is forgotten in the list would be missing from the library."""
    folder = Path(library.__file__).parent
    assert {file.name for file in folder.glob("*.cpp")} == set(library.flags()[1])
    text = "".join(file.read_text() for file in folder.glob("*.?pp"))
    assert all(f'#include "{file.name}"' in text for file in folder.glob("*.hpp"))
