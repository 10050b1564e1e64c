"""Compile a Triton kernel for an architecture, GPU or not, into what TensorRT and CUDA load."""

from __future__ import annotations

import importlib
import re
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from ..configs.errors import SessionError
from ..configs.extras import extras_of
from .kernel import Kernel, Launch

#: Triton's hidden arguments at the end of every kernel: global and profiling scratch memory
_HIDDEN = 2
_TYPES = {"float32": "fp32", "float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True)
class Compiled:
    """Machine code of one kernel for one architecture.

    arguments: its run-time arguments in launch order, nothing hidden after them.
    shared: bytes of dynamic shared memory; registers per thread and spilled bytes as ptxas
    reports them; ptx_version as (major, minor). warnings: what else ptxas says against the code,
    such as C7512, matrix instructions that wait for one another. waits: places in the machine
    code that wait for matrix units or asynchronous copies, None where Triton has no disassembler.
    """

    name: str
    ptx: str
    cubin: bytes
    arguments: tuple[str, ...]
    block: int
    shared: int
    registers: int
    spills: int
    ptx_version: tuple[int, int]
    warnings: tuple[str, ...]
    waits: int | None


def compile_kernel(
    kernel: Kernel,
    arch: int,
    *,
    dtype: str = "bfloat16",
    launch: Launch | None = None,
    constants: Mapping[str, Any] | None = None,
) -> Compiled:
    """Compile for sm_`arch` (``major * 10 + minor``); no GPU is needed.

    `dtype` is that of the signature's ``*T`` tensors, `launch` one of the kernel's candidates
    (None: the default), `constants` overrides its compile-time constants. Raises
    MissingExtraError without Triton, SessionError when the compiler refuses.
    """
    launch = launch or kernel.candidates(arch)[0]
    values = {**kernel.constants, **(constants or {}), **launch.constants}
    signature = {n: t.replace("*T", f"*{_TYPES[dtype]}") for n, t in kernel.signature.items()}
    built = _built(kernel, arch, signature, values, launch)
    if built.metadata.global_scratch_size or built.metadata.profile_scratch_size:
        raise SessionError(f"kernel {kernel.entry} wants scratch memory nobody gives it")
    ptx = without_hidden_arguments(built.asm["ptx"], built.metadata.name, len(signature))
    code = _assemble(ptx, arch)
    return Compiled(
        built.metadata.name,
        ptx,
        code.cubin,
        tuple(signature),
        32 * launch.num_warps,
        int(built.metadata.shared),
        code.registers,
        code.spills,
        _ptx_version(ptx),
        code.warnings,
        _waits(code.cubin),
    )


def _built(
    kernel: Kernel,
    arch: int,
    signature: Mapping[str, str],
    values: Mapping[str, Any],
    launch: Launch,
) -> Any:
    """What Triton makes of the kernel; SessionError with its own words when it refuses."""
    triton = _triton()
    # device memory comes from allocators that align to 256 bytes; 16 allows the widest loads
    aligned: dict[Any, Any] = {
        (i,): [["tt.divisibility", 16]]
        for i, kind in enumerate(signature.values())
        if kind[0] == "*"
    }
    compiler = importlib.import_module("triton.compiler")
    target = importlib.import_module("triton.backends.compiler").GPUTarget("cuda", arch, 32)
    function = getattr(importlib.import_module(f".{kernel.module}", __package__), kernel.entry)
    source = compiler.ASTSource(
        fn=function,
        signature={**signature, **dict.fromkeys(values, "constexpr")},
        constexprs=dict(values),
        attrs=aligned,
    )
    options = {
        "num_warps": launch.num_warps,
        "num_stages": launch.num_stages,
        "enable_fp_fusion": kernel.fused,
    }
    try:
        return triton.compile(source, target=target, options=options)
    except Exception as error:  # Triton raises its compiler's own types
        reason = str(error).strip().splitlines()[-1:] or [type(error).__name__]
        raise SessionError(
            f"kernel {kernel.entry} does not compile for sm_{arch}: {reason[0]}"
        ) from error


def without_hidden_arguments(ptx: str, name: str, arguments: int) -> str:
    """The PTX with exactly `arguments` parameters.

    Triton appends pointers to scratch memory that its own launcher passes. TensorRT and our
    launcher pass what the signature says, and the driver would read past the end of it. The
    pointers are unused when a kernel asks for no scratch, which is checked.
    """
    for hidden in range(arguments + _HIDDEN - 1, arguments - 1, -1):
        parameter = f"{name}_param_{hidden}"
        ptx, removed = re.subn(rf",?\s*\.param [^,()\n]*\b{parameter}\b", "", ptx)
        if removed != 1 or re.search(rf"\b{parameter}\b", ptx):
            raise SessionError(
                f"kernel {name}: expected {_HIDDEN} unused parameters after the {arguments} of its "
                "signature; this Triton lays them out differently: use triton 3.6"
            )
    if f"{name}_param_{arguments}" in ptx:
        raise SessionError(f"kernel {name} has more parameters than its signature: use triton 3.6")
    return ptx


def newest_ptx(driver: tuple[int, int]) -> tuple[int, int]:
    """The PTX version that a driver for that release of CUDA assembles (PTX ISA, section 13)."""
    major, minor = driver
    # 12.6 brought none of its own
    return major - 4, minor - 1 if major == 12 and minor > 5 else minor


@dataclass(frozen=True)
class _Assembled:
    cubin: bytes
    registers: int
    spills: int
    warnings: tuple[str, ...]


#: a numbered remark such as "(C7512) Potential Performance Loss", or a warning without a number
_WARNING = re.compile(r"\(C\d+\)|\bwarning\b", re.IGNORECASE)


def ptxas_warnings(said: str) -> tuple[str, ...]:
    """The lines of ptxas's output that speak against the code, without its prefix."""
    lines = [line.strip() for line in said.splitlines() if _WARNING.search(line)]
    return tuple(re.sub(r"^ptxas\s+\S+\s*:\s*", "", line) for line in lines)


def _assemble(ptx: str, arch: int) -> _Assembled:
    """Machine code of the PTX and what ptxas says of it."""
    nvidia = importlib.import_module("triton.backends.nvidia.compiler")
    target = re.search(r"^\.target (\S+)", ptx, re.MULTILINE)
    with tempfile.TemporaryDirectory() as folder:
        source, out = Path(folder, "kernel.ptx"), Path(folder, "kernel.cubin")
        source.write_text(ptx, encoding="utf-8")
        command = [nvidia.get_ptxas(arch).path, "-v", f"--gpu-name={target[1] if target else ''}"]
        done = subprocess.run(
            [*command, str(source), "-o", str(out)], capture_output=True, text=True
        )
        if done.returncode != 0:
            raise SessionError(f"ptxas refuses a kernel for sm_{arch}: {done.stderr.strip()}")
        registers = re.search(r"Used (\d+) registers", done.stderr)
        spilled = re.search(r"(\d+) bytes spill stores, (\d+) bytes spill loads", done.stderr)
        return _Assembled(
            out.read_bytes(),
            int(registers[1]) if registers else 0,
            int(spilled[1]) + int(spilled[2]) if spilled else 0,
            ptxas_warnings(done.stderr),
        )


#: waits for a group of matrix instructions, for copies, for a barrier in shared memory
_WAIT = re.compile(r"\b(WARPGROUP\.DEPBAR|DEPBAR\.LE|SYNCS\S*\.PHASECHK)")


def _waits(cubin: bytes) -> int | None:
    """Waits in the machine code, as the disassembler that Triton brings lists it."""
    try:
        tool = importlib.import_module("triton.knobs").nvidia.nvdisasm.path
    except RuntimeError:
        # a Triton without it compiles as well
        return None
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        done = subprocess.run([tool, "-c", file.name], capture_output=True, text=True)
    return None if done.returncode != 0 else len(_WAIT.findall(done.stdout))


def _ptx_version(ptx: str) -> tuple[int, int]:
    found = re.search(r"^\.version (\d+)\.(\d+)", ptx, re.MULTILINE)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _triton() -> ModuleType:
    with extras_of("compiling GPU kernels"):
        return importlib.import_module("triton")
