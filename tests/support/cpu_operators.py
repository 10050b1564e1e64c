"""The compiled library of operators for tests; skips where it cannot be compiled."""

from __future__ import annotations

import ctypes
import functools
import platform
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from sam2rt.plugins.cpu import library

SOURCES = Path(library.__file__).parent
EMULATION = Path(__file__).parents[1] / "plugins" / "cpu" / "tile_emulation.hpp"


def require_compiler() -> None:
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        pytest.skip("the operators are for Linux on x86-64")
    if shutil.which("c++") is None:
        pytest.skip("no C++ compiler: install g++")


def require_units() -> None:
    """Skip where the processor has no bfloat16 products."""
    require_compiler()
    if not library.units_here():
        pytest.skip("this processor has neither AVX-512 BF16 nor AMX")


@functools.cache
def compiled(emulated: bool = False) -> Any:
    """The library with warnings as errors; `emulated` runs AMX's code without such units."""
    require_compiler()
    folder = Path(tempfile.mkdtemp(prefix="sam2rt-cpu-"))
    warnings = ["-Wall", "-Wextra", "-Wconversion", "-Wshadow", "-Werror"]
    # GCC warns of its own AVX-512 intrinsics
    warnings += ["-Wno-maybe-uninitialized", "-Wno-uninitialized"]
    shared, files = library.flags()
    common = ["c++", *shared, *warnings, '-DSAM2RT_IDENTITY="test"']
    objects = []
    for name, flags in files.items():
        made = folder / f"{name}.o"
        own = list(flags)
        if emulated and name == "amx.cpp":
            own = [*files["avx512.cpp"], f'-DSAM2RT_EMULATED_TILES="{EMULATION}"']
        run([*common, *own, "-c", str(SOURCES / name), "-o", str(made)])
        objects.append(str(made))
    target = folder / "library.so"
    run(["c++", "-shared", *objects, "-o", str(target)])
    loaded = ctypes.CDLL(str(target))
    shutil.rmtree(folder)
    return loaded


def run(command: list[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def attention(
    units: str, query: np.ndarray, key: np.ndarray, value: np.ndarray, emulated: bool = False
) -> tuple[np.ndarray, np.ndarray]:
    """[N or 1,T,C], [N,L,C], [N,L,c] -> output [N,T,c] and the log of the denominators [N,T]."""
    (n, keys, width), rows, columns = key.shape, query.shape[1], value.shape[2]
    output = np.full((n, rows, columns), np.nan, np.float32)
    logs = np.full((n, rows), np.nan, np.float32)
    sizes = (ctypes.c_size_t * 6)(n, len(query) == 1 < n, rows, keys, width, columns)
    given = [np.ascontiguousarray(a, np.float32) for a in (query, key, value)]
    found = compiled(emulated).sam2rt_cpu_attention(
        units.encode(), sizes, *(pointer(a) for a in (*given, output, logs))
    )
    assert found == 0
    return output, logs


def dense(
    units: str,
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None,
    activation: int,
    emulated: bool = False,
    tables: tuple[np.ndarray, np.ndarray] | None = None,
) -> np.ndarray:
    """[M,K] @ bfloat16 [K,N] + [N] -> [M,N]; `tables`: cos and sin [T,N] of a rotation."""
    output = np.full((len(x), weight.shape[1]), np.nan, np.float32)
    turned = 0 if tables is None else len(tables[0])
    sizes = (ctypes.c_size_t * 5)(*x.shape, weight.shape[1], activation, turned)
    cos, sin = (None, None) if tables is None else map(pointer, tables)
    found = compiled(emulated).sam2rt_cpu_dense(
        units.encode(), sizes, pointer(x), pointer(weight),
        None if bias is None else pointer(bias), cos, sin, pointer(output),
    )  # fmt: skip
    assert found == 0
    return output


def pointer(array: np.ndarray) -> ctypes.c_void_p:
    assert array.flags.c_contiguous
    return ctypes.c_void_p(array.ctypes.data)


def rounded(array: np.ndarray) -> np.ndarray:
    """The nearest bfloat16 values, as float64."""
    return array.astype(ml_dtypes.bfloat16).astype(np.float64)
