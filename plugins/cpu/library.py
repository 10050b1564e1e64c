"""The library of operators: compiled by the user's own compiler, kept in the user's cache.

It lies under the hash of its sources and flags, and says that hash itself: a library of other
sources is not loaded. C++ finds it by the same hash, which its build makes from the same files.
It ends in the hash of its own bytes, since a system's loader falls over half a library. Compiling
takes some seconds and needs g++ or clang++ alone, no headers but the compiler's.

``flags.json`` says what the code of each file may use; the rest runs everywhere. No multiply and
add are fused but where it is written: the same bits from every compiler's plain code.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import json
import os
import platform
import shutil
import stat
import subprocess
from dataclasses import dataclass
from pathlib import Path

from ...configs.errors import SessionError
from ...configs.progress import Progress, silent
from ...configs.staging import replaced_file, temporary_folder

#: what a processor's units are called: by the library, in words, and in /proc/cpuinfo
UNITS = {"amx_bf16": "AMX", "avx512_bf16": "AVX-512 BF16"}

#: of the folder: all that decides what the library is
_KINDS = (".cpp", ".hpp", ".json")
_COMMAND = "sam2rt plugins --cpu"
#: what a whole library ends in, before the sha256 of all that lies in front of it
_SEAL = b"sam2rt sealed "


@dataclass(frozen=True)
class CpuLibrary:
    """A library that was loaded: where it lies, its hash, and the units it runs on here."""

    path: Path
    identity: str
    #: of UNITS; "" where the processor has none
    units: str


def identity() -> str:
    """sha256 over the sources and how they are compiled: over a line of name and sha256 each."""
    files = sorted(f for f in Path(__file__).parent.iterdir() if f.suffix in _KINDS)
    lines = (f"{file.name} {hashlib.sha256(file.read_bytes()).hexdigest()}\n" for file in files)
    return hashlib.sha256("".join(lines).encode()).hexdigest()


def flags() -> tuple[list[str], dict[str, list[str]]]:
    """What every file is compiled with, and each file with what it needs beyond that."""
    read = json.loads(Path(__file__).with_name("flags.json").read_text("utf-8"))
    return read["common"], read["files"]


def library_path() -> Path:
    """Where the library of these sources lies once it is compiled."""
    root = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return root / "sam2rt" / "cpu-operators" / identity()[:16] / "libsam2rt_cpu.so"


def units_here() -> tuple[str, ...]:
    """Units with bfloat16 products that this processor names, the fastest first."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return ()
    try:
        lines = Path("/proc/cpuinfo").read_text("ascii", "replace").splitlines()
    except OSError:
        return ()
    flags = next((line.split() for line in lines if line.startswith("flags")), [])
    return tuple(unit for unit in UNITS if unit in flags and "avx512_bf16" in flags)


def lacking() -> str:
    """Why the operators do not run here, and what fixes it, as one line; "" where they do."""
    system = platform.system()
    if system != "Linux":
        return f"the operators for bfloat16 run on Linux, not on {system}: use an fp32 bundle"
    if not units_here():
        return "this processor has no units for bfloat16 (AVX-512 BF16, AMX): use an fp32 bundle"
    if not library_path().is_file():
        return f"the operators for bfloat16 are not compiled on this machine: run '{_COMMAND}'"
    try:
        load()
    except SessionError as error:
        return str(error)
    return ""


def load() -> CpuLibrary:
    """The compiled library; SessionError where it is missing, or is not what it should be."""
    return _loaded(library_path(), identity())


@functools.cache
def _loaded(path: Path, wanted: str) -> CpuLibrary:
    try:
        if why := _refusal(path):
            raise OSError(why)
        library = ctypes.CDLL(str(path))
        said = [library.sam2rt_cpu_identity, library.sam2rt_cpu_units]
    except (OSError, AttributeError) as error:
        raise SessionError(
            f"cannot load the operators {path} ({' '.join(str(error).split())}): run '{_COMMAND}'"
        ) from None
    for function in said:
        function.restype = ctypes.c_char_p
    found, units = (function().decode("utf-8", "replace") for function in said)
    if found != wanted:
        raise SessionError(
            f"the operators {path} were made from other sources (expected {wanted[:12]}, found "
            f"{found[:12]}): run '{_COMMAND}'"
        )
    return CpuLibrary(path, found, units)


def _refusal(path: Path) -> str:
    """Why a file must not be loaded, since loading executes it; "" where nothing speaks against it.

    Half a file is none, nor is one that another user wrote or may write. OSError.
    """
    for place in (path.parent, path):
        found = place.stat()
        if hasattr(os, "geteuid") and found.st_uid not in (0, os.geteuid()):
            return f"{place} belongs to another user"
        if found.st_mode & stat.S_IWOTH:
            return f"everybody may write to {place}: take that right away"
    content = path.read_bytes()
    body = content[: -(len(_SEAL) + hashlib.sha256().digest_size)]
    return "" if content == body + _sealed(body) else "it is not whole"


def _sealed(content: bytes) -> bytes:
    """The end of a library with that content."""
    return _SEAL + hashlib.sha256(content).digest()


def build(progress: Progress = silent) -> CpuLibrary:
    """Compile the library and load it; SessionError without a compiler that can."""
    compiler = next((c for c in ("c++", "g++", "clang++") if shutil.which(c)), None)
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        raise SessionError(
            "the operators are for Linux on x86-64 processors, this is "
            f"{platform.system()} on {platform.machine()}: use an fp32 bundle"
        )
    if compiler is None:
        raise SessionError(
            "no C++ compiler is installed (looked for c++, g++, clang++): install one, such as "
            "the package g++"
        )
    target, wanted = library_path(), identity()
    common, files = flags()
    with temporary_folder() as folder:
        objects = []
        for index, (name, own) in enumerate(files.items()):
            progress(f"compiling {name}", index, len(files) + 1)
            source, made = Path(__file__).with_name(name), folder / f"{name}.o"
            named = f'-DSAM2RT_IDENTITY="{wanted}"'
            _run([compiler, *common, named, *own, "-c", str(source), "-o", str(made)])
            objects.append(str(made))
        target.parent.mkdir(parents=True, exist_ok=True)
        linked = folder / target.name
        _run([compiler, "-shared", *objects, "-o", str(linked)])
        content = linked.read_bytes()
        # what takes another's place would take over its rights
        if target.exists() and _refusal(target):
            target.unlink()
        with replaced_file(target) as file:
            file.write_bytes(content + _sealed(content))
    _loaded.cache_clear()
    return load()


def _run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "error" in line] or [done.stderr]
        raise SessionError(
            f"{command[0]} does not compile the operators ({' '.join(lines[0].split())[:200]}): "
            "install GCC 11, Clang 14 or newer"
        )
