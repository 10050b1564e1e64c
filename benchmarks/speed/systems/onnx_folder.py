"""Graphs of another exporter, given as a folder of ONNX files: stages alone, timed one by one.

Files are matched to stages by their names. ``stages.json`` in the folder may say it instead:
``{"stages": {"memory_attention": ["attn.onnx"]}, "ignore": ["x.onnx"], "dims": {"tokens": 9}}``.
"""

from __future__ import annotations

import importlib
import json
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ....configs.errors import InputError
from ....configs.extras import extras_of
from ....runtime.arrays import Array
from .system import CPU, STAGES, Tracked, Work

MATCHING = "stages.json"
#: words of a file's name, and the stage of a file that has one; the first that fits counts
_WORDS = (
    ("track_step", ("track_step", "trackstep")),
    ("memory_attention", ("memory_att", "memory_attn", "memattn", "mem_attn", "memoryattention")),
    ("memory_encoder", ("memory_enc", "mem_enc", "memencoder", "memoryencoder")),
    ("mask_decoder", ("decoder", "prompt_enc", "promptencoder")),
    ("image_encoder", ("image_enc", "img_enc", "imageencoder", "backbone", "encoder")),
)
#: symbolic dimensions that count objects; those of a graph of the image count images
_OBJECTS = {"n", "num_objects", "objects", "batch", "batch_size", "num_labels", "b"}
_IMAGES = {"b", "batch", "batch_size", "i", "g", "n"}
_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(int64)": np.int64,
    "tensor(int32)": np.int32,
    "tensor(bool)": np.bool_,
    "tensor(uint8)": np.uint8,
}


@dataclass
class _Graph:
    stage: str
    path: Path
    session: Any
    inputs: dict[str, Array] = field(default_factory=dict)
    #: calls that a frame needs: one per object where the graph takes no more
    calls: int = 1


class OnnxFolderSystem:
    """A folder of ONNX graphs in ONNX Runtime with default options, nothing bound.

    Whole frames are not tracked: what lies between another exporter's graphs is not known here.
    Inputs are random, of the declared shapes; the sum of the stages stands for a frame.
    """

    def __init__(
        self, work: Work, folder: str, *, dims: Mapping[str, int] | None = None, device: str = "cpu"
    ) -> None:
        self.work, self._folder, self._asked = work, Path(folder), dict(dims or {})
        self._provider = "CPUExecutionProvider" if device == "cpu" else "CUDAExecutionProvider"
        self._graphs: list[_Graph] = []

    def load(self) -> dict[str, Any]:
        start = time.perf_counter()
        with extras_of("a folder of ONNX graphs"):
            ort: Any = importlib.import_module("onnxruntime")
        matching = read_matching(self._folder)
        self._asked = {**matching.dims, **self._asked}
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.work.threads
        options.log_severity_level = 3
        for stage, paths in matching.stages.items():
            for path in paths:
                session = ort.InferenceSession(str(path), options, providers=[self._provider])
                self._graphs.append(_Graph(stage, path, session))
        return {"load_s": time.perf_counter() - start}

    def set_up(self, work: Work) -> dict[str, float]:
        self.work = work
        generator = np.random.default_rng(0)
        for graph in self._graphs:
            self._give_inputs(graph, generator)
        start = time.perf_counter()
        self.frame()
        return {"first_frame_s": time.perf_counter() - start}

    def frame(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for graph in self._graphs:
            start, cpu = time.perf_counter(), time.process_time()
            for _ in range(graph.calls):
                graph.session.run(None, graph.inputs)
            wall, spent = time.perf_counter() - start, time.process_time() - cpu
            for name, seconds in ((graph.stage, wall), ("total", wall), ("cpu", spent)):
                found[name] = found.get(name, 0.0) + seconds
            found[CPU + graph.stage] = found.get(CPU + graph.stage, 0.0) + spent
        return found

    def tracked(self, work: Work) -> Tracked | None:
        return None

    def operations(self) -> dict[str, float]:
        from ..operations import file_operations

        found: dict[str, float] = {}
        for graph in self._graphs:
            shapes = tuple(sorted((name, array.shape) for name, array in graph.inputs.items()))
            count = file_operations(str(graph.path), shapes)
            if count is not None:
                found[graph.stage] = found.get(graph.stage, 0.0) + graph.calls * count
        return found

    def _give_inputs(self, graph: _Graph, generator: np.random.Generator) -> None:
        counts_objects = False
        for declared in graph.session.get_inputs():
            shape = []
            for dim in declared.shape:
                size, of_objects = self._size(dim, graph, declared.name)
                counts_objects |= of_objects
                shape.append(size)
            graph.inputs[declared.name] = _random(declared, tuple(shape), graph, generator)
        per_object = graph.stage != "image_encoder" and not counts_objects
        graph.calls = self.work.objects if per_object else 1

    def _size(self, dim: Any, graph: _Graph, name: str) -> tuple[int, bool]:
        """The size of a declared dimension, and whether it counts objects."""
        if isinstance(dim, int):
            return dim, False
        symbol = str(dim)
        if symbol in self._asked:
            return self._asked[symbol], False
        lower = symbol.lower()
        if graph.stage == "image_encoder" and lower in _IMAGES:
            return 1, False
        if lower in _OBJECTS:
            return self.work.objects, True
        known = {
            "i": 1,
            "g": 1,
            "m": self.work.memories,
            "k": self.work.pointers,
            "p": 2,
            "num_points": 2,
            "num_memories": self.work.memories,
            "num_mem": self.work.memories,
            "num_obj_ptr": self.work.pointers,
            "num_pointers": self.work.pointers,
        }
        if lower not in known:
            raise InputError(
                f"{graph.path.name}: no size is known for dimension {symbol!r} of input {name!r}: "
                f'give --onnx-dim {symbol}=SIZE, or "dims" in {MATCHING}'
            )
        return known[lower], False


def _random(
    declared: Any, shape: tuple[int, ...], graph: _Graph, generator: np.random.Generator
) -> Array:
    dtype = _DTYPES.get(declared.type)
    if dtype is None:
        raise InputError(
            f"{graph.path.name}: input {declared.name!r} is {declared.type}: expected a tensor of "
            "plain numbers"
        )
    if np.issubdtype(dtype, np.floating):
        return generator.standard_normal(shape, np.float32).astype(dtype)
    # rows of tables, labels and switches: 0 is one that every graph has
    return np.zeros(shape, dtype)


@dataclass(frozen=True)
class Matching:
    """Which files of a folder stand for which stage, in the order in which they run."""

    stages: dict[str, list[Path]]
    dims: dict[str, int]


def read_matching(folder: Path) -> Matching:
    """Match a folder's ONNX files to stages, by names or by its ``stages.json``.

    Raises InputError naming each file that fits no stage, or whose stage is not known.
    """
    files = sorted(folder.glob("*.onnx"))
    if not files:
        raise InputError(f"{folder} holds no .onnx files: name the folder of another exporter")
    given = _given(folder)
    stages: dict[str, list[Path]] = {}
    taken = set(given.get("ignore", []))
    for stage, names in given.get("stages", {}).items():
        if stage not in STAGES[:-1]:
            known = ", ".join(STAGES[:-1])
            raise InputError(f"{folder / MATCHING}: unknown stage {stage!r}: known are {known}")
        stages[stage] = [folder / name for name in names]
        taken.update(names)
    missing = [path.name for paths in stages.values() for path in paths if not path.is_file()]
    left = [path for path in files if path.name not in taken]
    unmatched = [path.name for path in left if stage_of(path.stem) is None]
    if missing or unmatched:
        what = "is missing" if missing else "cannot be matched to a stage"
        raise InputError(
            f"{folder}: {', '.join(missing or unmatched)} {what}: write {MATCHING} there with "
            '{"stages": {"memory_attention": ["FILE.onnx"]}, "ignore": []}'
        )
    for path in left:
        stages.setdefault(stage_of(path.stem) or "", []).append(path)
    dims = {str(name): int(size) for name, size in given.get("dims", {}).items()}
    return Matching({s: stages[s] for s in STAGES if s in stages}, dims)


def stage_of(stem: str) -> str | None:
    """The stage of a file with that name, None when it fits none."""
    lower = stem.lower().replace("-", "_")
    return next((stage for stage, words in _WORDS if any(w in lower for w in words)), None)


def _given(folder: Path) -> dict[str, Any]:
    path = folder / MATCHING
    if not path.is_file():
        return {}
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path} is no JSON ({error})") from None
    if not isinstance(data, dict):
        raise InputError(f"{path}: expected an object with stages, ignore and dims")
    return data
