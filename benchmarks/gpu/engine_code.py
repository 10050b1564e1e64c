"""The very code that goes into an engine, launched as TensorRT launches it, and stream order.

What Triton launches is compiled anew for each call's sizes, with hidden arguments, by its own
launcher. An engine holds PTX without them, or the machine code assembled of it. Here these are
loaded through the driver and given what TensorRT gives: inputs, integers, outputs, nothing more.
Needs cuda-bindings and triton, not TensorRT.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.utils.dlpack

from ...plugins import memory_cross_attention as op
from ...plugins.compiling import Compiled, compile_kernel, newest_ptx
from ...plugins.kernel import Launch
from ...runtime.gpu import cuda
from ...runtime.gpu.tensor import DeviceTensor, Pool
from .kernels import (
    BOUNDS,
    Inputs,
    describe,
    grid_of,
    launches_of,
    make_inputs,
    merged,
    poisoned,
    reference,
    relative_error,
)
from .model.session import as_torch
from .stage import Problem, Stage

_NAMES = {torch.bfloat16: "bfloat16", torch.float16: "float16"}
#: cycles that a stream is kept busy before it writes; about 50 ms
_BUSY = 100_000_000


def engine_code(stage: Stage) -> Iterator[dict[str, Any]]:
    """Every launch as cubin, the first as PTX too, in both types; then races. Told one by one."""
    found: list[dict[str, Any]] = []
    races: dict[str, int] = {}
    driver = cuda.device().driver
    for dtype in _NAMES:
        for wide in (False, True):
            problems = (stage.wide,) if wide else (stage.awkward[0], stage.steady[0])
            for index, launch in enumerate(launches_of(stage, wide)):
                # drivers take seconds to translate PTX, and the launch changes nothing there
                newest = newest_ptx(driver) if index == 0 else None
                found += _checked(stage, launch, problems, dtype, newest)
                yield _outcome(found, races)
    races.update(stream_races(stage))
    yield _outcome(found, races)


def _outcome(found: list[dict[str, Any]], races: dict[str, int]) -> dict[str, Any]:
    passed = all(f.get("passed", True) for f in found) and not any(races.values())
    return {"passed": passed, "launches": list(found), "races": dict(races)}


def _checked(
    stage: Stage,
    launch: Launch,
    problems: tuple[Problem, ...],
    dtype: torch.dtype,
    newest: tuple[int, int] | None,
) -> Iterator[dict[str, Any]]:
    """One launch on problems of equal widths, as cubin, and as PTX of up to version `newest`."""
    constants = {"WIDTH": problems[0].width, "VALUE": problems[0].value}
    code = compile_kernel(
        op.ATTENTION, stage.arch, dtype=_NAMES[dtype], launch=launch, constants=constants
    )
    entry = {
        "launch": describe(launch),
        "dtype": str(dtype),
        "registers": code.registers,
        "shared": code.shared,
        "spills": code.spills,
        "waits": code.waits,
        "warnings": list(code.warnings),
    }
    images = {"cubin": code.cubin} if newest is None else {
        "cubin": code.cubin, "ptx": code.ptx.encode(),
    }  # fmt: skip
    for kind, image in images.items():
        if kind == "ptx" and newest is not None and code.ptx_version > newest:
            reason = f"PTX {code.ptx_version} is newer than the driver takes, {newest}"
            yield {**entry, "code": kind, "not_run": reason}
            continue
        for seed, problem in enumerate(problems):
            inputs = make_inputs(problem, stage.device, dtype, seed)
            error = launched_error(stage, code, image, inputs, launch)
            # NaN compares false: an element nobody wrote fails
            passed = error <= BOUNDS[dtype]
            yield {
                **entry,
                "code": kind,
                "problem": vars(problem),
                "error": error,
                "passed": passed,
            }


def launched_error(
    stage: Stage, code: Compiled, image: bytes, inputs: Inputs, launch: Launch, splits: int = 4
) -> float:
    """Relative error of one launch of `image` against float64."""
    partial, lse = poisoned(inputs, splits)
    n, rows, _ = inputs.query.shape
    # torch made the inputs on a stream of its own
    stage.synchronize()
    with (
        cuda.Stream() as stream,
        cuda.LoadedKernel(image, code.name, code.block, code.shared) as kernel,
    ):
        given = [cuda.Address(t.data_ptr()) for t in vars(inputs).values()]
        integers = (rows, inputs.key.shape[1], splits, n)
        outputs = [cuda.Address(t.data_ptr()) for t in (partial, lse)]
        kernel.launch(grid_of(inputs, splits, launch), stream, *given, *integers, *outputs)
        stream.synchronize()
    return relative_error(merged(partial, lse), reference(inputs))


def stream_races(stage: Stage) -> dict[str, int]:
    """Elements that were read before they were written; 0 is required.

    A stream is kept busy, then writes; who takes the array on another stream must wait.
    """
    shape = (1 << 16,)
    with cuda.Stream() as stream:
        pool = Pool()
        found = {
            "torch_to_sam2rt": _from_torch(stage, stream, shape),
            "sam2rt_to_torch_dlpack": _to_torch(
                stage, stream, pool, shape, torch.utils.dlpack.from_dlpack
            ),
        }
        if not stage.rehearsal:
            found["sam2rt_to_torch_interface"] = _to_torch(
                stage, stream, pool, shape, lambda t: torch.as_tensor(t, device="cuda")
            )
        stage.synchronize()
        pool.close()
    return found


def _from_torch(stage: Stage, stream: cuda.Stream, shape: tuple[int, ...]) -> int:
    array = torch.zeros(shape, device=stage.device)
    stage.synchronize()
    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        torch.cuda._sleep(_BUSY)  # type: ignore[no-untyped-call]
        array.fill_(7.0)
        # torch's CPU tensors say that they are no GPU's
        adopted = None if stage.rehearsal else DeviceTensor.adopted(array, stream)
        seen = array.numpy() if adopted is None else adopted.download()
    return int((seen != 7.0).sum())


def _to_torch(
    stage: Stage, stream: cuda.Stream, pool: Pool, shape: tuple[int, ...], take: Any
) -> int:
    made = DeviceTensor.pooled(pool, shape, "float32", stream)
    written = as_torch(made)
    stage.synchronize()
    with torch.cuda.stream(torch.cuda.ExternalStream(stream.handle)):  # type: ignore[no-untyped-call]
        torch.cuda._sleep(_BUSY)  # type: ignore[no-untyped-call]
        written.fill_(7.0)
    with torch.cuda.stream(torch.cuda.Stream()):  # type: ignore[no-untyped-call]
        return int((take(made) != 7.0).sum())
