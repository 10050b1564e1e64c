"""The C++ library and its test programs, built once per run; skips where they cannot be."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from locks import locked

ROOT = Path(__file__).resolve().parents[3]
SOURCE = ROOT / "runtime" / "cpp"
BUILD = ROOT / "build" / "cpp"
#: where runtime/cpp/tools/dependencies.sh puts headers and library
HEADERS = BUILD / "deps" / "root" / "usr"
#: the same for 64-bit ARM
ARM_HEADERS = BUILD / "aarch64-deps" / "root" / "usr"
ARM_TOOLCHAIN = SOURCE / "cmake" / "aarch64-linux-gnu.cmake"
#: the same for Windows
WINDOWS_HEADERS = BUILD / "windows-deps" / "root" / "usr"
WINDOWS_TOOLCHAIN = SOURCE / "cmake" / "x86_64-w64-mingw32.cmake"

#: TensorRT is loaded when a session asks for it, so that its double may be built in everywhere
DOUBLE = ROOT / "tests" / "cpp" / "tensorrt_double"
COMMON = ("-DSAM2RT_BUILD_TESTS=ON", "-DSAM2RT_WERROR=ON", f"-DTensorRT_ROOT={DOUBLE}")
CHECKED = (*COMMON, "-DCMAKE_BUILD_TYPE=Debug", "-DCMAKE_CXX_FLAGS=-O1")
#: targets of libFuzzer, each with a folder of inputs in runtime/cpp/fuzz/corpus
FUZZERS = ("calls", "frame", "graph", "manifest", "rle")
#: how each kind is configured, and what of it is built (nothing named: everything)
KINDS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "release": ((*COMMON, "-DSAM2RT_BUILD_EXAMPLES=ON"), ()),
    "asan": (
        (*CHECKED, "-DSAM2RT_SANITIZE=address,undefined"),
        ("replay", "unit", "pixels", "predictors", "threads", "tensorrt",
         "tensorrt_calls"),
    ),
    "tsan": (
        (*CHECKED, "-DSAM2RT_SANITIZE=thread"), ("threads", "tensorrt", "tensorrt_calls"),
    ),
    "aarch64": (
        ("-DSAM2RT_BUILD_TESTS=ON", "-DSAM2RT_WERROR=ON",
         f"-DCMAKE_TOOLCHAIN_FILE={ARM_TOOLCHAIN}"),
        ("replay", "unit", "pixels", "predictors"),
    ),
    "windows": (
        ("-DSAM2RT_BUILD_TESTS=ON", "-DSAM2RT_BUILD_EXAMPLES=ON", "-DSAM2RT_WERROR=ON",
         f"-DCMAKE_TOOLCHAIN_FILE={WINDOWS_TOOLCHAIN}"),
        ("replay", "unit", "pixels", "predictors", "paths", "minimal"),
    ),
    "fuzz": (
        ("-DSAM2RT_BUILD_FUZZERS=ON", "-DSAM2RT_SANITIZE=address,undefined",
         "-DCMAKE_C_COMPILER=clang", "-DCMAKE_CXX_COMPILER=clang++"),
        tuple(f"fuzz_{name}" for name in FUZZERS),
    ),
}  # fmt: skip
#: what ONNX Runtime holds until the process ends is not ours
ENVIRONMENT = {
    "ASAN_OPTIONS": "detect_leaks=1:strict_string_checks=1:check_initialization_order=1",
    "LSAN_OPTIONS": f"suppressions={ROOT / 'tests' / 'cpp' / 'lsan.supp'}:print_suppressions=0",
    "UBSAN_OPTIONS": "print_stacktrace=1",
    "TSAN_OPTIONS": f"suppressions={ROOT / 'tests' / 'cpp' / 'tsan.supp'}:halt_on_error=1",
}


def require_toolchain() -> None:
    """Skip the test where there is no CMake, compiler or header."""
    for tool in ("cmake", "c++", "cc"):
        if shutil.which(tool) is None:
            pytest.skip(f"no C++ toolchain ({tool} is missing): install cmake and g++")
    if not (BUILD / "deps" / "complete").is_file():
        pytest.skip("headers of ONNX Runtime and nlohmann-json are missing: run 'make cpp'")


def require_arm() -> None:
    """Skip the test where nothing can be built for 64-bit ARM, or nothing of it can run."""
    for tool in ("cmake", "aarch64-linux-gnu-g++", "qemu-aarch64-static"):
        if shutil.which(tool) is None:
            pytest.skip(f"{tool} is missing: install g++-aarch64-linux-gnu and qemu-user-static")
    if not (ARM_HEADERS.parents[1] / "complete").is_file():
        pytest.skip("ONNX Runtime for aarch64 is missing: run 'make cpp-aarch64'")


def wine() -> str | None:
    """The program that runs those of Windows, if it is installed."""
    # Debian's wine64 has it beside its libraries
    places = f"{os.environ.get('PATH', os.defpath)}:/usr/lib/wine"
    return shutil.which("wine64", path=places) or shutil.which("wine", path=places)


def require_windows() -> None:
    """Skip the test where nothing can be built for Windows, or nothing of it can run."""
    for tool, found in (
        ("cmake", shutil.which("cmake")),
        ("g++-mingw-w64-x86-64-posix", shutil.which("x86_64-w64-mingw32-g++-posix")),
        ("wine64", wine()),
    ):
        if found is None:
            pytest.skip(f"{tool} is missing: install g++-mingw-w64-x86-64-posix and wine64")
    if not (WINDOWS_HEADERS.parents[1] / "complete").is_file():
        pytest.skip("ONNX Runtime for Windows is missing: run 'make cpp-windows'")


#: what is built for another machine: what it requires, and where its headers lie
CROSS = {"aarch64": (require_arm, ARM_HEADERS), "windows": (require_windows, WINDOWS_HEADERS)}


@functools.cache
def built(kind: str = "release") -> Path:
    """The build folder of that kind, up to date; skips without a toolchain."""
    require, headers = CROSS.get(kind, (require_toolchain, HEADERS))
    require()
    folder = BUILD / kind
    options, targets = KINDS[kind]
    configure = [
        *("cmake", "-S", str(SOURCE), "-B", str(folder), f"-Donnxruntime_ROOT={headers}"),
        *(f"-DCMAKE_PREFIX_PATH={headers}", *options),
    ]
    jobs = os.environ.get("SAM2RT_CPP_JOBS", "2")
    chosen = ["-t", *targets] if targets else []
    with locked(BUILD / f"{kind}.lock"):
        run(configure)
        run(["cmake", "--build", str(folder), "-j", jobs, *chosen])
    return folder


def program(kind: str, name: str) -> Path:
    """One of the test programs."""
    return built(kind) / "tests" / name


def run(command: list[str], *, timeout: float = 1100, **environment: str) -> str:
    """Run a command; its standard output. Fails the test with all it printed."""
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        timeout=timeout,
        env={**os.environ, **ENVIRONMENT, **environment},
    )
    if done.returncode != 0:
        pytest.fail(f"{' '.join(command)}:\n{done.stdout[-6000:]}\n{done.stderr[-6000:]}")
    return done.stdout
