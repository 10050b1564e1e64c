"""Everything that needs a GPU, in one call and one JSON; run by ``benchmarks/gpu.sh``.

The parts come in the order of what the figures are needed for. A rehearsal does the same on a
CPU with sizes that take seconds (:mod:`.stage`).
"""

from __future__ import annotations

import argparse
import importlib
import signal
import sys
import tempfile
import traceback
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...configs.errors import Sam2rtError
from ...runtime.tasks.doctor import doctor
from .collect import RESULT, SO_FAR, Collector, tell
from .needs import CannotRunError, one_line, require, require_gpu_backend

#: the parts in order, and the seconds each may take at most, so that one does not starve those
#: after it. The usual is about half: 5 of ceilings, 15 of engine code, 25 and 40 of kernels
LIMITS: Mapping[str, float] = {
    "machine": 30,
    "ceilings": 30,
    "engine_code": 60,
    "kernel_correctness": 50,
    "kernel_speed": 60,
    "plugin_engine": 45,
    "engines": 240,
    "original": 60,
    "model": 150,
    "half_precision": 75,
    "device_layer": 40,
    "host_time": 45,
    "kernel_tuning": 70,
    "end_to_end": 240,
}
#: installs the doubles of a GPU in a rehearsal; lies beside the tests of a checkout
_DOUBLE = "gpu_rehearsal"


@dataclass(frozen=True)
class Part:
    """A function of a module beside this one, which takes the stage, and the packages it needs.

    What is missing is told before anything is imported. Results that grow are iterators.
    """

    module: str
    function: str
    needs: tuple[str, ...] = ()

    def __call__(self, stage: Any) -> Any:
        module = importlib.import_module(f".{self.module}", __package__)
        return getattr(module, self.function)(stage)


_GRAPHS = ("onnx", "onnxscript", "triton")
PARTS: Mapping[str, Part] = {
    "machine": Part("run", "machine"),
    "ceilings": Part("speed", "ceilings"),
    "engine_code": Part("engine_code", "engine_code", ("triton", "cuda")),
    "kernel_correctness": Part("kernels", "correctness", ("triton",)),
    "kernel_speed": Part("speed", "attention_speeds", ("triton",)),
    "plugin_engine": Part("tensorrt_engines", "plugin_engine", ("tensorrt", "onnx", "triton")),
    "engines": Part("tensorrt_engines", "engines", ("tensorrt", "cuda", "onnx", "onnxscript")),
    "original": Part("systems", "original", ("sam2", "PIL")),
    "model": Part("model.frames", "model_speeds", _GRAPHS),
    "half_precision": Part("model.proof", "half_precision_proof", _GRAPHS),
    "device_layer": Part("device", "device_layer", ("triton", "cuda")),
    "host_time": Part("model.proof", "host_time", (*_GRAPHS, "cuda")),
    "kernel_tuning": Part("speed", "tuning", ("triton",)),
    "end_to_end": Part("systems", "end_to_end_of_all", ("onnx", "onnxscript", "onnxruntime")),
}


def run_part(name: str, folder: Path, rehearse: bool = False) -> Any:
    """The part's result, or the reason why it could not run; `folder` is common to all parts."""
    try:
        if name == "machine":
            # is described whatever it has
            return machine()
        if name == "end_to_end":
            # exporting a model first would take minutes
            require_gpu_backend()
        part = PARTS[name]
        require("torch", *part.needs)
        return _last(part(_stage(folder, rehearse)))
    except (CannotRunError, Sam2rtError) as error:
        return {"not_run": str(error)}
    except Exception as error:
        traceback.print_exc()
        return {"failed": one_line(error)}


def machine() -> dict[str, Any]:
    """What is installed and which GPU there is."""
    return {finding.topic: finding.text for finding in doctor()}


def _stage(folder: Path, rehearse: bool) -> Any:
    from .stage import gpu_stage, rehearsal_stage

    if not rehearse:
        return gpu_stage(folder)
    importlib.import_module(_DOUBLE).install()
    return rehearsal_stage(folder)


def _last(found: Any) -> Any:
    """The result, or the last of results that grow, each told when it is there."""
    if not isinstance(found, Iterator):
        return found
    last = None
    for last in found:
        tell(SO_FAR, last)
    return last


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Everything that needs a GPU, in one JSON.")
    parser.add_argument("--json", type=Path, default=Path("gpu.json"), help="report to write")
    parser.add_argument("--seconds", type=float, default=555, help="time for all parts")
    parser.add_argument("--parts", nargs="*", choices=tuple(PARTS), default=tuple(PARTS))
    parser.add_argument("--rehearse", action="store_true", help="on a CPU, with tiny sizes")
    parser.add_argument("--part", choices=tuple(PARTS), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    given = _arguments()
    if given.part:
        tell(RESULT, run_part(given.part, given.folder, given.rehearse))
        return
    # ended from outside, the part that runs is ended too
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda caught, _: sys.exit(128 + caught))
    with tempfile.TemporaryDirectory() as folder:
        options = ["--folder", folder, *(["--rehearse"] if given.rehearse else [])]

        def command(name: str) -> list[str]:
            return [sys.executable, "-m", __package__, "--part", name, *options]

        # a CPU that is busy with other tests must not fail a rehearsal
        slack = 4 if given.rehearse else 1
        limits = {name: slack * seconds for name, seconds in LIMITS.items()}
        results = Collector(command, limits, given.json).collect(given.parts, given.seconds)
    for name in given.parts:
        said = results[name] if isinstance(results[name], dict) else {}
        state = [f"{key}: {said[key]}" for key in ("not_run", "failed", "stopped") if key in said]
        print(f"{name}: {state[0] if state else 'done'}")
    print(given.json)
