"""Everything that needs a GPU, in one call and one JSON; run by ``benchmarks/gpu.sh``.

Each part runs in a process of its own, so that one that crashes or hangs costs the others
nothing, and gives its result or the reason why it could not run.
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import itertools
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from types import ModuleType
from typing import IO, Any, TypeVar

from ...configs.bundle import Precision
from ...configs.errors import Sam2rtError
from ...configs.staging import replaced_file
from ...runtime.tasks.doctor import doctor
from .systems import (
    VARIANTS,
    CannotRunError,
    end_to_end,
    engine_proof,
    one_line,
    original,
    require,
    require_gpu_backend,
)

#: a part's last line of output carries its result, earlier ones what is known so far
_MARK, _SO_FAR = "RESULT ", "SO FAR "
_Result = TypeVar("_Result")
PRECISIONS: tuple[Precision, ...] = ("bf16", "fp16", "fp32")


def machine() -> dict[str, Any]:
    """What is installed and which GPU there is; the matrix rate is a part of its own."""
    return {finding.topic: finding.text for finding in doctor()}


def _kernel_correctness() -> Iterator[dict[str, Any]]:
    """Pixels, then every launch of the attention in both types."""
    torch, kernels = _gpu_kernels()
    pixels, module = kernels.pixel_errors(), kernels.kernels()
    launches = kernels.op.ATTENTION.candidates(_arch(torch))
    problems = (*kernels.AWKWARD, kernels.STEADY[0])
    found: list[dict[str, Any]] = []
    for dtype, launch in itertools.product((torch.bfloat16, torch.float16), launches):
        found += kernels.attention_errors(module, problems, (launch,), "cuda", dtype)
        passed = all(f["passed"] for f in found) and not any(pixels.values())
        # NaN is the worst of all, and max() may pass it over
        worst = max((f["error"] for f in found), key=lambda e: (math.isnan(e), e))
        yield {"passed": passed, "worst": worst, "attention": found, "pixels": pixels}


def kernel_speed() -> dict[str, Any]:
    torch, kernels = _gpu_kernels()
    peak = kernels.matrix_rate()
    return {
        "bf16_matrix_tflops": peak,
        "problems": kernels.attention_speeds(peak, _arch(torch)),
    }


def kernel_tuning() -> list[dict[str, Any]]:
    """Every launch tried, fastest first."""
    _, kernels = _gpu_kernels()
    return _printed(kernels.tuning(kernels.matrix_rate())) or []


def _printed(growing: Iterable[_Result]) -> _Result | None:
    """The last of results that grow, each printed when it is there, in case time runs out."""
    found: _Result | None = None
    for found in growing:
        _say(_SO_FAR, found)
    return found


def _say(mark: str, found: Any) -> None:
    # a library may have left a line of its own unfinished
    print(f"\n{mark}{json.dumps(found)}", flush=True)


def device_layer() -> dict[str, Any]:
    require("triton", "cuda")
    from . import device

    return device.device_layer()


def _gpu_kernels() -> tuple[Any, ModuleType]:
    require("torch", "triton")
    import torch

    if not torch.cuda.is_available():
        raise CannotRunError("torch sees no GPU")
    from . import kernels

    return torch, kernels


def _arch(torch: Any) -> int:
    major, minor = torch.cuda.get_device_capability()
    return int(major * 10 + minor)


def _end_to_end() -> Iterator[list[dict[str, Any]]]:
    """As many variants and precisions as fit the time."""
    require_gpu_backend()
    found: list[dict[str, Any]] = []
    for precision in precisions():
        for name in VARIANTS:
            result: dict[str, Any] = {"model": name, "precision": precision}
            try:
                for result in end_to_end(name, precision):
                    yield [*found, result]
            except Exception as error:
                traceback.print_exc()
                result = {**result, "failed": one_line(error)}
            found.append(result)
            yield found


def precisions() -> tuple[Precision, ...]:
    """What is measured end to end, in order; ONNX Runtime's GPU kernels lack bfloat16 ones."""
    if importlib.util.find_spec("tensorrt") is None:
        return tuple(p for p in PRECISIONS if p != "bf16")
    return PRECISIONS


PARTS: dict[str, Callable[[], Any]] = {
    "machine": machine,
    "device_layer": device_layer,
    "kernel_correctness": lambda: _printed(_kernel_correctness()),
    "kernel_speed": kernel_speed,
    "kernel_tuning": kernel_tuning,
    "engine_proof": lambda: _printed(engine_proof()),
    "original": lambda: {name: original(name) for name in VARIANTS[:1]},
    "end_to_end": lambda: _printed(_end_to_end()),
}


#: seconds a part may take at most, so that one does not starve those after it
LIMITS = {
    "machine": 60,
    "device_layer": 90,
    "kernel_correctness": 120,
    "kernel_speed": 90,
    "kernel_tuning": 90,
    "engine_proof": 240,
    "original": 120,
}


def run_part(name: str) -> Any:
    """The part's result, or the reason why it could not run."""
    try:
        return PARTS[name]()
    except (CannotRunError, Sam2rtError) as error:
        return {"not_run": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {"failed": one_line(error)}


def collect(parts: list[str], seconds: float, target: Path) -> dict[str, Any]:
    """Run the parts within `seconds`, and write what is known to `target` after each."""
    deadline = time.monotonic() + seconds
    results: dict[str, Any] = {}
    for name in parts:
        left = min(deadline - time.monotonic(), LIMITS.get(name, seconds))
        started = time.monotonic()
        results[name] = _in_process(name, left) if left > 5 else {"not_run": "no time was left"}
        _write(results, target)
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    return results


def _write(results: dict[str, Any], target: Path) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_strict(results), indent=1, allow_nan=False)
    with replaced_file(target) as part:
        part.write_text(text + "\n", encoding="utf-8")


def _strict(value: Any) -> Any:
    """The same with NaN and infinities as text, which JSON has no numbers for."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


def _command(name: str) -> list[str]:
    return [sys.executable, "-m", __package__, "--part", name]


def _in_process(name: str, seconds: float) -> Any:
    # files, not pipes: compilers that a part started may outlive it and hold a pipe open
    with _text_file() as out, _text_file() as err:
        part = subprocess.Popen(_command(name), stdout=out, stderr=err, start_new_session=True)
        try:
            code = part.wait(seconds)
            why = f"exit code {code}"
        except subprocess.TimeoutExpired:
            why = f"stopped after {seconds:.0f} s"
        finally:
            if part.poll() is None:
                os.killpg(part.pid, signal.SIGKILL)
                # a driver that hangs keeps its process even from being killed
                with contextlib.suppress(subprocess.TimeoutExpired):
                    part.wait(5)
        out.seek(0)
        err.seek(0)
        lines = out.readlines()
        said = err.read().strip().splitlines()[-1:]
    results, so_far = (_carried(lines, mark) for mark in (_MARK, _SO_FAR))
    if not results:
        reason = ": ".join([why, *said])
        # what was found until then counts
        return {"stopped": reason, "until_then": so_far[-1]} if so_far else {"not_run": reason}
    last = results[-1]
    if so_far and isinstance(last, dict) and last.keys() & {"not_run", "failed"}:
        return {**last, "until_then": so_far[-1]}
    return last


def _text_file() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")


def _carried(lines: list[str], mark: str) -> list[Any]:
    found = []
    for line in lines:
        if line.startswith(mark):
            # a part that was killed may have been writing
            with contextlib.suppress(ValueError):
                found.append(json.loads(line.removeprefix(mark)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description="Everything that needs a GPU, in one JSON.")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="report to write")
    parser.add_argument("--seconds", type=float, default=520, help="time for all parts")
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        _say(_MARK, run_part(given.part))
        return
    # ended from outside, the part that runs is ended too
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    results = collect(given.parts, given.seconds, given.json)
    for name, result in results.items():
        said = result if isinstance(result, dict) else {}
        state = [f"{key}: {said[key]}" for key in ("not_run", "failed", "stopped") if key in said]
        print(f"{name}: {state[0] if state else 'done'}")
    print(given.json)
