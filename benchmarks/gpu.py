"""Everything that needs a GPU, in one call and one JSON; run by ``benchmarks/gpu.sh``.

Each part runs in a process of its own, so that one that crashes or hangs costs the others
nothing, and gives its result or the reason why it could not run.
"""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..configs.errors import Sam2rtError
from ..runtime.doctor import doctor
from .gpu_systems import VARIANTS, CannotRunError, end_to_end, engine_proof, original, require

#: a part's last line of output carries its result
_MARK = "RESULT "
PRECISIONS = ("bf16", "fp16", "fp32")


def machine() -> dict[str, Any]:
    """What is installed and which GPU there is; the matrix rate is a part of its own."""
    return {finding.topic: finding.text for finding in doctor()}


def kernel_correctness() -> dict[str, Any]:
    torch, kernels = _gpu_kernels()
    found: list[dict[str, Any]] = []
    for dtype in (torch.bfloat16, torch.float16):
        launches = kernels.op.ATTENTION.candidates(_arch(torch))
        problems = (*kernels.AWKWARD, kernels.STEADY[0])
        found += kernels.attention_errors(kernels.kernels(), problems, launches, "cuda", dtype)
    pixels = kernels.pixel_errors()
    passed = all(f["passed"] for f in found) and not any(pixels.values())
    worst = max(f["error"] for f in found)
    return {"passed": passed, "worst": worst, "attention": found, "pixels": pixels}


def kernel_speed() -> dict[str, Any]:
    torch, kernels = _gpu_kernels()
    peak = kernels.matrix_rate()
    return {
        "bf16_matrix_tflops": peak,
        "problems": kernels.attention_speeds(peak, _arch(torch)),
    }


def kernel_tuning() -> list[dict[str, Any]]:
    _, kernels = _gpu_kernels()
    found: list[dict[str, Any]] = kernels.tuning(kernels.matrix_rate())
    return found


def _gpu_kernels() -> tuple[Any, Any]:
    require("torch", "triton")
    torch = importlib.import_module("torch")
    if not torch.cuda.is_available():
        raise CannotRunError("torch sees no GPU")
    return torch, importlib.import_module(".gpu_kernels", __package__)


def _arch(torch: Any) -> int:
    major, minor = torch.cuda.get_device_capability()
    return int(major * 10 + minor)


def _end_to_end() -> list[dict[str, Any]]:
    """As many variants and precisions as fit the time, each printed when it is done."""
    found = []
    for precision in PRECISIONS:
        for name in VARIANTS:
            found.append(end_to_end(name, precision))
            print(_MARK + json.dumps(found), flush=True)
    return found


PARTS: dict[str, Callable[[], Any]] = {
    "machine": machine,
    "kernel_correctness": kernel_correctness,
    "kernel_speed": kernel_speed,
    "kernel_tuning": kernel_tuning,
    "engine_proof": engine_proof,
    "original": lambda: {name: original(name) for name in VARIANTS[:1]},
    "end_to_end": _end_to_end,
}


def run_part(name: str) -> Any:
    """The part's result, or the reason why it could not run."""
    try:
        return PARTS[name]()
    except (CannotRunError, Sam2rtError) as error:
        return {"not_run": str(error)}


def collect(parts: list[str], seconds: float) -> dict[str, Any]:
    """Run the parts within `seconds`; what is left of the time goes to whoever comes next."""
    deadline = time.monotonic() + seconds
    results: dict[str, Any] = {}
    for name in parts:
        left = deadline - time.monotonic()
        started = time.monotonic()
        results[name] = _in_process(name, left) if left > 5 else {"not_run": "no time was left"}
        print(f"{name}: {time.monotonic() - started:.0f} s", flush=True)
    return results


def _in_process(name: str, seconds: float) -> Any:
    command = [sys.executable, "-m", __spec__.name, "--part", name]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=seconds)
        output, why = done.stdout, (done.stderr.strip().splitlines() or ["no message"])[-1]
        why = f"exit code {done.returncode}: {why}"
    except subprocess.TimeoutExpired as late:
        raw = late.stdout or b""
        output = raw.decode(errors="replace") if isinstance(raw, bytes) else raw
        why = f"stopped after {seconds:.0f} s"
    results = [line for line in output.splitlines() if line.startswith(_MARK)]
    return json.loads(results[-1].removeprefix(_MARK)) if results else {"not_run": why}


def main() -> None:
    parser = argparse.ArgumentParser(description="Everything that needs a GPU, in one JSON.")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="report to write")
    parser.add_argument("--seconds", type=float, default=520, help="time for all parts")
    parser.add_argument("--parts", nargs="*", choices=list(PARTS), default=list(PARTS))
    parser.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.part:
        print(_MARK + json.dumps(run_part(given.part)), flush=True)
        return
    results = collect(given.parts, given.seconds)
    given.json.parent.mkdir(parents=True, exist_ok=True)
    given.json.write_text(json.dumps(results, indent=1) + "\n")
    for name, result in results.items():
        why = result.get("not_run") if isinstance(result, dict) else None
        print(f"{name}: {'not run: ' + why if why else 'done'}")
    print(given.json)


if __name__ == "__main__":
    main()
