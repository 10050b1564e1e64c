"""NVIDIA's own parser and builder on a machine without a GPU: TensorRT-RTX behind its bindings.

A wheel for ONNX Runtime carries TensorRT-RTX and its ONNX parser as shared libraries, and building
an engine asks for neither GPU nor driver (running one does). The bindings of TensorRT 11.4 drive
them over a shim of ours that forwards the nine symbols they look for and says the library's own
version. Both wheels are fetched on first use (:mod:`gpu_wheels`), stay out of the checkout's
tracked files and stand under NVIDIA's terms; SAM2RT_TENSORRT_RTX=0 leaves them out.

What agrees between the two is all that ``export/engines/engine_from_onnx.py`` calls. Plugins of
Python and the location of tensors do not.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from gpu_wheels import TENSORRT, environment, wheel_folder

RTX = "onnxruntime-ep-nv-tensorrt-rtx-cu13==0.5.0"
BINDINGS = TENSORRT["11.4"]
LEFT_OUT = "SAM2RT_TENSORRT_RTX"
_PROCESS = Path(__file__).with_name("real_build.py")

#: what the bindings look up in three libraries, forwarded to two
_SHIM = r"""
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>

typedef void *P;

static P opened(const char *variable) {
    P library = dlopen(getenv(variable), RTLD_NOW | RTLD_GLOBAL);
    if (!library) { fprintf(stderr, "%s\n", dlerror()); exit(3); }
    return library;
}

static P infer(const char *name) {
    static P library;
    if (!library) library = opened("SAM2RT_RTX_LIBRARY");
    return dlsym(library, name);
}

/* the parser calls into the library, which therefore comes first */
static P parser(const char *name) {
    static P library;
    if (!library) { infer(""); library = opened("SAM2RT_RTX_PARSER"); }
    return dlsym(library, name);
}

/* the bindings pass TensorRT's version, which this library would refuse */
static int version(void) { return ((int (*)(void)) infer("getInferLibVersion"))(); }

P createInferBuilder_INTERNAL(P logger, int v) {
    return ((P (*)(P, int)) infer("createInferBuilder_INTERNAL"))(logger, version());
}
P createInferRuntime_INTERNAL(P logger, int v) {
    return ((P (*)(P, int)) infer("createInferRuntime_INTERNAL"))(logger, version());
}
P createInferRefitter_INTERNAL(P engine, P logger, int v) {
    return ((P (*)(P, P, int)) infer("createInferRefitter_INTERNAL"))(engine, logger, version());
}
P getPluginRegistry(void) { return ((P (*)(void)) infer("getPluginRegistry"))(); }
P getBuilderPluginRegistry(int kind) {
    return ((P (*)(int)) infer("getBuilderPluginRegistry"))(kind);
}
P createNvOnnxParser_INTERNAL(P network, P logger, int v) {
    return ((P (*)(P, P, int)) parser("createNvOnnxParser_INTERNAL"))(network, logger, v);
}
P createNvOnnxParserRefitter_INTERNAL(P refitter, P logger, int v) {
    return ((P (*)(P, P, int)) parser("createNvOnnxParserRefitter_INTERNAL"))(refitter, logger, v);
}
int getNvOnnxParserVersion(void) { return ((int (*)(void)) parser("getNvOnnxParserVersion"))(); }
int initLibNvInferPlugins(P logger, const char *name) { return 1; }
"""


@dataclass(frozen=True)
class Built:
    """What became of one graph.

    size: bytes of the engine, None when there is none. error: type and text of what was raised.
    steps: what progress was told. kernels: names of the engine's layers, of all its profiles,
    and memory: activation bytes of each profile; both with "detailed" alone.
    """

    graph: str
    size: int | None
    error: list[str] | None
    steps: list[str]
    kernels: list[str]
    memory: list[int]
    seconds: float

    def fused_attentions(self) -> list[int]:
        """Attentions that became one kernel, for each profile."""
        counts: dict[int, int] = {}
        for name in self.kernels:
            # a layer's name ends in "_myl<profile>_<number>"
            profile = int(name.rpartition("_myl")[2].partition("_")[0])
            counts[profile] = counts.get(profile, 0) + ("_gemm_mha_v2" in name)
        return [counts[profile] for profile in sorted(counts)]


def build_really(folder: Path, model: str, graphs: Sequence[str], **asked: Any) -> list[Built]:
    """Build ``<graph>.onnx`` of the folder, graphs of `model`, in a process of their own.

    `asked`: "engine" (fields of EngineOptions), "limits" (fields of Limits), "detailed" (True to
    report kernels and memory), "interrupt_at" (a step of progress).
    """
    process = builder_environment()
    request = {"folder": str(folder), "model": model, "graphs": [*graphs], **asked}
    done = subprocess.run(
        [sys.executable, str(_PROCESS), json.dumps(request)],
        capture_output=True, text=True, env=process,
    )  # fmt: skip
    lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
    # a builder that died did so at the first graph without a line
    unfinished = [*graphs][len(lines) :]
    assert (done.returncode, unfinished) == (0, []), done.stderr[-2000:]
    return [Built(**json.loads(line)) for line in lines]


def builder_environment() -> dict[str, str]:
    """Environment of a process that builds; skips the test, with one reason, where none can."""
    found = _environment()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@cache
def _environment() -> dict[str, str] | str:
    """The environment of a process in which ``import tensorrt_bindings`` builds; or why not."""
    if os.environ.get(LEFT_OUT) == "0":
        return f"{LEFT_OUT}=0 leaves NVIDIA's builder out"
    if shutil.which("gcc") is None:
        return "gcc is needed to drive NVIDIA's builder"
    try:
        package = wheel_folder(RTX) / "onnxruntime_ep_nv_tensorrt_rtx"
        bindings = wheel_folder(BINDINGS)
    except pytest.skip.Exception as reason:
        # asked once: every other test would wait for pip again
        return f"NVIDIA's builder cannot be had: {reason}"
    library = next(package.glob("libtensorrt_rtx.so.*.*"))
    parser = next(package.glob("libtensorrt_onnxparser_rtx.so.*.*"))
    folder = Path(tempfile.mkdtemp(prefix="sam2rt-rtx-"))
    _compile_shim(folder)
    for name in ("libtensorrt_rtx.so", "libtensorrt_rtx.so.1"):
        (folder / name).symlink_to(library)
    return environment(
        bindings,
        LD_LIBRARY_PATH=f"{folder}:{os.environ.get('LD_LIBRARY_PATH', '')}".rstrip(":"),
        SAM2RT_RTX_LIBRARY=str(library),
        SAM2RT_RTX_PARSER=str(parser),
    )


def _compile_shim(folder: Path) -> None:
    source = folder / "shim.c"
    source.write_text(_SHIM)
    for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
        library = f"lib{name}.so.11"
        command = ["gcc", "-shared", "-fPIC", f"-Wl,-soname,{library}", str(source)]
        subprocess.run([*command, "-o", str(folder / library), "-ldl"], check=True)
