"""Whole bundles on a GPU: engine proof, CUDA-graph replay, frames per second beside the original.

Weights are untrained where no checkpoint is given: they change no time, and the proof compares
with the reference on the same weights.
"""

from __future__ import annotations

import importlib
import importlib.util
import itertools
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...configs.bundle import Bundle, Precision
from ...configs.errors import Sam2rtError
from ...configs.models import ModelConfig, model_config
from ...runtime.arrays import Array
from ...runtime.backends.open import open_session
from ...runtime.predictors.stream import StreamTracker
from ...runtime.session import Session
from .needs import CannotRunError, one_line, require, require_gpu_backend

if TYPE_CHECKING:
    from ...export.engines.options import BuildReport
    from .stage import Stage


def untrained_bundle(folder: Path, name: str, precision: Precision) -> Bundle:
    """Export untrained weights of a model; needs torch, onnx and onnxscript."""
    require("torch", "onnx", "onnxscript", "onnxruntime")
    import torch

    from ...export.bundle import export_bundle
    from ...export.model.untrained import untrained_state

    path = folder / f"{name}.pt"
    torch.save({"model": untrained_state(model_config(name))}, path)
    return export_bundle(path, folder / name, precision=precision, engine_variants=True)


def replay_differences(bundle: Bundle, runs: int = 5) -> dict[str, float]:
    """Largest difference between a graph's first, ordinary run and its replays; 0 is required.

    The same inputs are given again after others, so that a stale buffer would show.
    """
    found: dict[str, float] = {}
    with open_session(bundle, "tensorrt", "cuda") as session:
        for name in ("memory_attention", "memory_encoder", "mask_decoder"):
            first, other = steady_inputs(bundle, name, 0), steady_inputs(bundle, name, 1)
            expected = session.run(name, first)
            worst = 0.0
            for _ in range(runs):
                session.run(name, other)
                worst = max(worst, _largest(expected, session.run(name, first)))
            found[name] = worst
    return found


def _largest(expected: Mapping[str, Array], found: Mapping[str, Array]) -> float:
    return max(
        float(np.nan_to_num(np.abs(np.asarray(value) - np.asarray(found[name])), nan=np.inf).max())
        for name, value in expected.items()
    )


def steady_inputs(bundle: Bundle, graph: str, seed: int) -> dict[str, Array]:
    """Random inputs of a graph in the steady state of one object."""
    model = bundle.model
    sizes = {
        "B": 1,
        "I": 1,
        "G": 1,
        "N": 1,
        "M": model.num_maskmem,
        "K": model.max_obj_ptrs,
        "P": 2,
    }
    stream = np.random.default_rng(seed)
    inputs: dict[str, Array] = {}
    for t in bundle.graphs[graph].spec.inputs:
        shape = tuple(sizes[d] if isinstance(d, str) else d for d in t.shape)
        if t.dtype in ("int32", "int64", "bool"):
            inputs[t.name] = stream.integers(0, 2, shape).astype(t.dtype)
        else:
            inputs[t.name] = stream.standard_normal(shape).astype(t.dtype)
    return inputs


def frames_per_second(session: Session, frames: int = 40, warm: int = 20) -> dict[str, float]:
    """Live tracking of one object on 720p frames, host arrays in and masks out."""
    stream = np.random.default_rng(0)
    video = stream.integers(0, 256, (4, 720, 1280, 3), dtype=np.uint8)
    taken = []
    with StreamTracker(session.bundle, session=session) as tracker:
        tracker.add_points(obj_id=1, points=[[640, 360]], labels=[1])
        for index in range(warm + frames):
            started = time.perf_counter()
            # masks are made when they are looked at
            np.asarray(tracker.step(video[index % len(video)]).masks)
            taken.append(time.perf_counter() - started)
    steady = sorted(taken[warm:])
    return {"fps": 1 / steady[len(steady) // 2], "worst_ms": 1e3 * steady[-1]}


def end_to_end(name: str, precision: Precision) -> Iterator[dict[str, Any]]:
    """Frames per second of every backend that runs here, each with the reason it does not.

    Given after each backend, since building engines may take all the time that is left.
    """
    results: dict[str, Any] = {"model": name, "precision": precision}
    require_gpu_backend()
    with tempfile.TemporaryDirectory() as folder:
        bundle = untrained_bundle(Path(folder), name, precision)
        for backend, device in (("tensorrt", "cuda"), ("onnxruntime", "cuda")):
            key = f"{backend} {device}"
            try:
                if backend == "tensorrt":
                    require("tensorrt", "cuda")
                    _built(bundle)
                with open_session(bundle, backend, device) as session:
                    results[key] = frames_per_second(session)
            except (Sam2rtError, CannotRunError) as error:
                results[key] = {"not_run": str(error)}
            except Exception as error:
                # what a vendor's library raises must not cost the other backend its figures
                results[key] = {"failed": one_line(error)}
            yield dict(results)


def _built(bundle: Bundle) -> BuildReport:
    """Engines of every graph with the usual options, proved."""
    from ...export.engines.build import build_engines
    from ...export.engines.options import BuildOptions

    return build_engines(bundle, BuildOptions())


def end_to_end_of_all(stage: Stage) -> Iterator[list[dict[str, Any]]]:
    """:func:`end_to_end` of each model and precision, with the time that is left."""
    require_gpu_backend()
    precisions: tuple[Precision, ...] = ("fp16", "fp32")
    if importlib.util.find_spec("tensorrt") is not None:
        # ONNX Runtime's kernels lack bfloat16
        precisions = ("bf16", *precisions)
    found: list[dict[str, Any]] = []
    for precision, name in itertools.product(precisions, stage.models):
        found.append({"model": name, "precision": precision})
        try:
            for found[-1] in end_to_end(name, precision):
                yield found
        except Exception as error:
            # one model must not cost the others their figures
            found[-1] = {**found[-1], "failed": one_line(error)}
            yield found


def original(stage: Stage) -> dict[str, Any]:
    """Frames per second of the original's compiled predictor, fastest model."""
    return {name: original_speed(name) for name in stage.models[:1]}


def original_speed(name: str, frames: int = 60) -> dict[str, Any]:
    """The original's compiled video predictor on the same kind of frames, bfloat16 autocast."""
    require("sam2", "torch", "PIL")
    torch = importlib.import_module("torch")
    build = importlib.import_module("sam2.build_sam").build_sam2_video_predictor
    predictor = build(_original_config(model_config(name)), None, vos_optimized=True)
    with tempfile.TemporaryDirectory() as folder:
        _write_frames(Path(folder), frames)
        taken: list[float] = []
        with torch.inference_mode(), torch.autocast("cuda", dtype=torch.bfloat16):
            state = predictor.init_state(folder)
            predictor.add_new_points_or_box(state, 0, 1, points=[[640, 360]], labels=[1])
            started = time.perf_counter()
            for _ in predictor.propagate_in_video(state):
                torch.cuda.synchronize()
                taken.append(time.perf_counter() - started)
                started = time.perf_counter()
    steady = sorted(taken[frames // 2 :])
    return {"fps": 1 / steady[len(steady) // 2], "worst_ms": 1e3 * steady[-1]}


def _original_config(config: ModelConfig) -> str:
    size = {"tiny": "t", "small": "s", "base_plus": "b+", "large": "l"}
    family, _, variant = config.name.partition("_hiera_")
    return f"configs/{family}/{family}_hiera_{size[variant]}.yaml"


def _write_frames(folder: Path, count: int) -> None:
    image = importlib.import_module("PIL.Image")
    stream = np.random.default_rng(0)
    for index in range(count):
        frame = stream.integers(0, 256, (720, 1280, 3), dtype=np.uint8)
        image.fromarray(frame).save(folder / f"{index:05d}.jpg")
