"""Triton without a GPU: kernels in its interpreter on torch's CPU tensors, and its compiler."""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import torch
from gpu_wheels import TRITON, wheel_folder

import sam2rt

PLUGINS = Path(sam2rt.__file__).parent / "plugins"


@cache
def triton_on_path() -> None:
    """Make ``import triton`` work; skips the test when pip cannot fetch it."""
    if importlib.util.find_spec("triton") is None:
        sys.path.append(str(wheel_folder(TRITON)))


@cache
def _mend_interpreter() -> None:
    triton_on_path()
    interpreter = importlib.import_module("triton.runtime.interpreter")
    jit = importlib.import_module("triton.runtime.jit")
    original = interpreter._patch_lang_tensor

    def patched(tensor: Any, scope: Any) -> None:
        # int() of an array with one element stopped working in numpy 2.4
        original(tensor, scope)
        scope.set_attr(tensor, "__index__", lambda self: int(self.handle.data.item()))

    def call(self: Any, *arguments: Any, **named: Any) -> Any:
        # Triton's own library functions (sum, max, ...) were decorated for the compiler, which
        # the same process uses too
        return interpreter.InterpretedFunction(self.fn)(*arguments, **named)

    device_function = interpreter.InterpretedFunction.__call__

    def restored(self: Any, *arguments: Any, **named: Any) -> Any:
        # a call inside a kernel patches the language for good, which breaks the compiler
        scope = interpreter._patch_lang(self.fn)
        try:
            return device_function(self, *arguments, **named)
        finally:
            scope.restore()

    interpreter._patch_lang_tensor = patched
    interpreter.InterpretedFunction.__call__ = restored
    jit.JITFunction.__call__ = call


@cache
def interpreted(module: str) -> ModuleType:
    """The kernel module ``sam2rt.plugins.<module>`` a second time, run by the interpreter."""
    _mend_interpreter()
    spec = importlib.util.spec_from_file_location(f"interpreted_{module}", PLUGINS / f"{module}.py")
    assert spec is not None
    assert spec.loader is not None
    loaded = importlib.util.module_from_spec(spec)
    os.environ["TRITON_INTERPRET"] = "1"
    try:
        spec.loader.exec_module(loaded)
    finally:
        del os.environ["TRITON_INTERPRET"]
    return loaded


def run_interpreted(
    module: str, entry: str, grid: tuple[int, ...], arguments: list[Any], **constants: Any
) -> list[np.ndarray]:
    """Run one kernel; arrays go in as CPU tensors and come back, in order, as it left them."""
    tensors = [torch.from_numpy(a.copy()) if isinstance(a, np.ndarray) else a for a in arguments]
    getattr(interpreted(module), entry)[grid](*tensors, **constants)
    return [t.numpy() for t in tensors if isinstance(t, torch.Tensor)]
