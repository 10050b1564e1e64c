"""Register custom operators with TensorRT as quick plugins, compiled ahead of time.

The kernel and its symbolic launch dimensions go into the engine, which then runs without
Python and without a plugin library. TensorRT passes a kernel its inputs, then the integers
below, then its outputs, and nothing more (tensorrt.plugin, ``aot_impl``).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

from ..configs.errors import SessionError
from . import memory_cross_attention as op
from .compiling import Compiled, compile_kernel
from .kernel import NAMESPACE

PLUGIN_ID = f"{NAMESPACE}::{op.NAME}"
#: as tensorrt.plugin spells types in an autotune combination
_FORMATS = {"float16": "FP16", "bfloat16": "BF16"}


@dataclass(frozen=True)
class AttentionSettings:
    """What a graph and a machine decide about the attention kernel.

    arch: compute capability, major * 10 + minor. width, value: C and c of the model.
    splits: pieces the keys are cut into, see ``memory_cross_attention.split_count``.
    cubin: give machine code instead of PTX, for a driver older than the PTX version; TensorRT
    documents PTX only.
    """

    arch: int
    width: int
    value: int
    splits: int
    cubin: bool = False


def register_attention(
    trt: ModuleType, trtp: ModuleType, settings: AttentionSettings, *, lazy: bool = False
) -> None:
    """Make ``sam2rt::MemoryCrossAttention`` known to TensorRT's parser in this process.

    `trt` and `trtp` are the modules ``tensorrt`` and ``tensorrt.plugin``. TensorRT keeps one
    definition per process, so calling again only changes the settings. `lazy` leaves
    TensorRT's own registry alone, which needs its native libraries.
    """
    holder = getattr(getattr(trtp.op, NAMESPACE, None), op.NAME, None)
    if holder is not None:
        holder.register_func.settings.current = settings
        return
    current = _Current(settings)
    describe = _annotated(_describe(trt, trtp, current), _describe_types(trtp))
    describe.settings = current  # type: ignore[attr-defined]
    trtp.register(PLUGIN_ID, lazy_register=lazy)(describe)
    trtp.autotune(PLUGIN_ID)(_annotated(_autotune(trt, trtp, current), _autotune_types(trtp)))
    trtp.aot_impl(PLUGIN_ID)(_annotated(_implement(trt, trtp, current), _implement_types(trtp)))


def precompile(settings: AttentionSettings, dtype: str) -> list[Compiled]:
    """Compile every candidate; do so before a build.

    TensorRT calls back into Python from C++, where an error could not be raised. Triton keeps
    what was compiled, so the callbacks find it done.
    """
    count = len(op.ATTENTION.candidates(settings.arch))
    return [_compile(settings, dtype, tactic)[0] for tactic in range(1, count + 1)]


@dataclass
class _Current:
    current: AttentionSettings


def _describe(trt: ModuleType, trtp: ModuleType, holder: _Current) -> Callable[..., Any]:
    def describe(query: Any, key: Any, value: Any) -> Any:
        n, rows = key.shape_expr[0], query.shape_expr[1]
        splits = holder.current.splits
        partial = _desc(trt, trtp, (n, splits, rows, value.shape_expr[2]))
        return partial, _desc(trt, trtp, (n, splits, rows))

    return describe


def _desc(trt: ModuleType, trtp: ModuleType, shape: tuple[Any, ...]) -> Any:
    exprs = trtp.ShapeExprs(len(shape))
    for i, size in enumerate(shape):
        exprs[i] = size
    return trtp.TensorDesc(exprs, trt.DataType.FLOAT)


def _autotune(trt: ModuleType, trtp: ModuleType, holder: _Current) -> Callable[..., Any]:
    def autotune(query: Any, key: Any, value: Any, outputs: Any) -> Any:
        half = _FORMATS[_dtype(trt, query.dtype)]
        types = ", ".join([half, half, half, "FP32", "FP32"])
        count = len(op.ATTENTION.candidates(holder.current.arch))
        # custom tactics are positive; TensorRT times each and keeps the fastest
        return [trtp.AutoTuneCombination(types, "LINEAR", list(range(1, count + 1)))]

    return autotune


def _implement(trt: ModuleType, trtp: ModuleType, holder: _Current) -> Callable[..., Any]:
    def implement(query: Any, key: Any, value: Any, outputs: Any, tactic: int) -> Any:
        settings = holder.current
        code, block_q = _compile(settings, _dtype(trt, query.dtype), tactic)
        n, rows = key.shape_expr[0], query.shape_expr[1]
        launch = trtp.KernelLaunchParams()
        launch.grid_x = trtp.cdiv(rows, block_q)
        launch.grid_y = settings.splits
        launch.grid_z = n
        launch.block_x = code.block
        launch.shared_mem = code.shared
        integers = trtp.SymIntExprs(4)
        integers[0] = trtp.SymInt32(rows)
        integers[1] = trtp.SymInt32(key.shape_expr[1])
        integers[2] = trtp.SymInt32(settings.splits)
        integers[3] = trtp.SymInt32(query.shape_expr[0])
        return code.name, code.cubin if settings.cubin else code.ptx, launch, integers

    return implement


def _compile(settings: AttentionSettings, dtype: str, tactic: int) -> tuple[Compiled, int]:
    launch = op.ATTENTION.candidates(settings.arch)[max(tactic, 1) - 1]
    constants = {"WIDTH": settings.width, "VALUE": settings.value}
    code = compile_kernel(
        op.ATTENTION, settings.arch, dtype=dtype, launch=launch, constants=constants
    )
    return code, launch.constants["BLOCK_Q"]


def _dtype(trt: ModuleType, dtype: Any) -> str:
    known = {trt.DataType.HALF: "float16", trt.DataType.BF16: "bfloat16"}
    if dtype not in known:
        raise SessionError(
            f"{PLUGIN_ID} takes float16 or bfloat16, the graph has {dtype}: export with "
            "--precision bf16, or build with --attention folded"
        )
    return known[dtype]


def _annotated(function: Callable[..., Any], types: dict[str, Any]) -> Callable[..., Any]:
    # tensorrt.plugin reads real types, not the strings of postponed annotations
    function.__annotations__ = types
    return function


def _describe_types(trtp: ModuleType) -> dict[str, Any]:
    desc: Any = trtp.TensorDesc
    return {**dict.fromkeys(op.INPUTS, desc), "return": _generic(tuple, desc, desc)}


def _autotune_types(trtp: ModuleType) -> dict[str, Any]:
    return {"return": _generic(list, trtp.AutoTuneCombination)}


def _implement_types(trtp: ModuleType) -> dict[str, Any]:
    code: Any = str | bytes
    parts = (code, code, trtp.KernelLaunchParams, trtp.SymIntExprs)
    return {"return": _generic(tuple, *parts)}


def _generic(origin: Any, *arguments: Any) -> Any:
    return origin[arguments]
