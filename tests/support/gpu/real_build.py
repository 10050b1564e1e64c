"""The process of :mod:`real_tensorrt`: builds what it is asked for, one JSON line per graph."""

from __future__ import annotations

import json
import re
import sys
import time
from pathlib import Path
from typing import Any

import tensorrt_bindings as trt  # type: ignore[import-not-found]

from sam2rt.configs.graphs import graph_specs
from sam2rt.configs.models import model_config
from sam2rt.export.engines import engine_from_onnx as engines
from sam2rt.export.engines.options import EngineOptions
from sam2rt.export.engines.profiles import Limits, graph_profiles
from sam2rt.runtime.backends import tensorrt_library

_LAYER = re.compile(r"^\s*Name: (.+?), LayerType:", re.MULTILINE)
_MEMORY = re.compile(r"Total Activation Memory: (\d+)")


def listen() -> list[str]:
    """From now on: all that the builder logs, and what it logs of an engine's layers."""
    lines: list[str] = []
    new_logger, config = tensorrt_library._new_logger, engines._config

    def listening(*arguments: Any) -> Any:
        class Listening(type(new_logger(*arguments))):  # type: ignore[misc]
            def log(self, level: Any, text: str) -> None:
                lines.append(text)
                super().log(level, text)

        return Listening()

    def detailed(*arguments: Any) -> Any:
        made = config(*arguments)
        made.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
        return made

    vars(tensorrt_library)["_new_logger"] = listening
    vars(engines)["_config"] = detailed
    return lines


def built(asked: dict[str, Any], graph: str) -> dict[str, Any]:
    """Size of the engine or the error, and the steps that progress was told."""
    path = Path(asked["folder"]) / f"{graph}.onnx"
    config = model_config(asked["model"])
    spec = graph_specs(config)[graph.partition(".")[0]]
    profiles = graph_profiles(spec, config, Limits(**asked.get("limits", {})))
    options = EngineOptions(**asked.get("engine", {}))
    steps: list[str] = []

    def progress(what: str, done: int, total: int | None) -> None:
        steps.append(f"{what} {done} of {total}")
        if len(steps) == asked.get("interrupt_at"):
            raise KeyboardInterrupt

    size, error = None, None
    try:
        engine = engines.engine_from_onnx(trt, path.read_bytes(), path, profiles, options, progress)
        size = len(engine)
    except BaseException as raised:
        error = (type(raised).__name__, str(raised))
    return {"graph": graph, "size": size, "error": error, "steps": steps}


def main() -> None:
    """Argument: a JSON object, as ``real_tensorrt.build_really`` makes it."""
    sys.modules["tensorrt"] = trt
    asked = json.loads(sys.argv[1])
    lines = listen() if asked.get("detailed") else []
    for graph in asked["graphs"]:
        lines.clear()
        started = time.monotonic()
        made = built(asked, graph)
        text = "\n".join(lines)
        made["kernels"] = _LAYER.findall(text)
        made["memory"] = [int(number) for number in _MEMORY.findall(text)]
        made["seconds"] = time.monotonic() - started
        print(json.dumps(made), flush=True)


if __name__ == "__main__":
    main()
