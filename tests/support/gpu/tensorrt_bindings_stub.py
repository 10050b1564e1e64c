"""The vendor's TensorRT bindings over stub libraries: every name is real, nothing native runs.

The bindings need three shared libraries that define nine symbols; gcc builds them in a second.
Native objects are null, so code under test runs in a subprocess, or against
:mod:`recording_tensorrt`, which is made from what these bindings declare.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from gpu_wheels import TENSORRT, TRITON, environment, wheel_folder

VERSIONS = tuple(TENSORRT)
_SYMBOLS = (
    "createInferBuilder_INTERNAL", "createInferRefitter_INTERNAL", "createInferRuntime_INTERNAL",
    "getBuilderPluginRegistry", "getPluginRegistry", "createNvOnnxParser_INTERNAL",
    "createNvOnnxParserRefitter_INTERNAL", "getNvOnnxParserVersion", "initLibNvInferPlugins",
)  # fmt: skip
_PRELUDE = "import sys, tensorrt_bindings as trt; sys.modules['tensorrt'] = trt\n"


@cache
def _libraries(major: str) -> Path:
    if shutil.which("gcc") is None:
        pytest.skip("gcc is needed to build stub libraries for the TensorRT bindings")
    folder = Path(tempfile.mkdtemp(prefix="sam2rt-stub-"))
    source = folder / "stub.c"
    source.write_text("\n".join(f"void *{name}(void) {{ return 0; }}" for name in _SYMBOLS))
    for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        library = f"lib{name}.so.{major}"
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{library}", str(source)]
        subprocess.run([*command, "-o", str(folder / library)], check=True)
    return folder


def run_with_bindings(
    version: str, code: str, *, triton: bool = False
) -> subprocess.CompletedProcess[str]:
    """Run Python `code` where ``import tensorrt`` gives the bindings of that version."""
    folders = [wheel_folder(TENSORRT[version])]
    folders += [wheel_folder(TRITON)] if triton else []
    libraries = f"{_libraries(version.partition('.')[0])}:{os.environ.get('LD_LIBRARY_PATH', '')}"
    return subprocess.run(
        [sys.executable, "-c", _PRELUDE + code],
        capture_output=True, text=True, env=environment(*folders, LD_LIBRARY_PATH=libraries),
    )  # fmt: skip


_DUMP = """
import json
def doc(x):
    return (getattr(x, "__doc__", None) or "")
def members(cls):
    found = {}
    for name in dir(cls):
        if name.startswith("__") and name != "__init__":
            continue
        item = getattr(cls, name)
        if isinstance(item, property):
            found[name] = {"kind": "property", "writable": item.fset is not None}
        elif callable(item):
            found[name] = {"kind": "method", "doc": doc(item)}
    return found
api = {}
for name in dir(trt):
    item = getattr(trt, name)
    if hasattr(item, "__members__"):
        values = {k: int(v) for k, v in item.__members__.items()}
        api[name] = {"kind": "enum", "values": values}
    elif isinstance(item, type):
        api[name] = {"kind": "class", "members": members(item)}
    elif not name.startswith("_"):
        api[name] = {"kind": "other"}
print(json.dumps({"version": trt.__version__, "api": api}))
"""


@cache
def declared_api(version: str) -> dict[str, Any]:
    """Every class, member, signature and enum value the bindings of that version declare."""
    done = run_with_bindings(version, _DUMP)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
