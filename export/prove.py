"""Prove a bundle's graphs on one backend against a record of the reference."""

from __future__ import annotations

import dataclasses
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

from ..configs.bundle import HALF_PRECISIONS, Bundle
from ..configs.extras import extras_of
from ..configs.graphs import CPU
from ..configs.progress import Progress, silent
from ..configs.staging import temporary_folder
from ..runtime.backends.bfloat16_session import runs_bfloat16
from ..runtime.backends.open import open_session
from .proof.compare import compare
from .proof.record import Record
from .proof.report import BOUNDS, check


def fresh_seed(seed: int | None) -> int:
    """`seed`, or a new one."""
    return secrets.randbits(32) if seed is None else seed


def prove(
    bundle: Bundle,
    recorded: Record,
    backend: str = "onnxruntime",
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress = silent,
    emulate: bool = False,
) -> dict[str, Any]:
    """Compare a bundle's graphs on that backend with a record; ProofError out of bounds.

    On the CPU, ONNX Runtime has no bfloat16 kernels, and computes much of a float16 graph in
    float32 without rounding between operators. There the graph is run with every operator in
    float32 and its result rounded, which needs the onnx package; the outcome says so under
    ``emulated``. Variants with operators of ours run as they are, where they run, unless `emulate`
    asks for the graphs that other machines run: those of an int8 bundle run anywhere.
    """
    bounds = BOUNDS[bundle.precision]
    half = bundle.precision in HALF_PRECISIONS and (backend, device) == ("onnxruntime", "cpu")
    others = _without_cpu_variants(bundle) if emulate else bundle
    emulate = half and (emulate or not runs_bfloat16(bundle))
    runnable = _emulation(bundle) if emulate else nullcontext(others)
    with runnable as runs, open_session(runs, backend, device, threads) as session:
        report = compare(recorded, session, bounds, progress=progress)
    check(report, bounds, f"the {bundle.precision} bundle on {backend} {device}")
    return {
        "status": "passed",
        "backend": backend,
        "device": device,
        "emulated": emulate,
        "seed": recorded.seed,
        "frames": recorded.frames,
        "bounds": dataclasses.asdict(bounds),
        **report.as_dict(),
    }


def _without_cpu_variants(bundle: Bundle) -> Bundle:
    graphs = {n: e for n, e in bundle.graphs.items() if not n.endswith(f".{CPU}")}
    return dataclasses.replace(bundle, graphs=graphs)


@contextmanager
def _emulation(bundle: Bundle) -> Iterator[Bundle]:
    """The bundle with graphs that round as half precision does, in a temporary folder."""
    assert bundle.precision in HALF_PRECISIONS
    with extras_of(f"proving a {bundle.precision} bundle on the CPU"):
        import onnx

        from .graphs.precision import emulated
        from .graphs.weights_file import WeightsFile
    with temporary_folder() as folder:
        plain = _without_cpu_variants(bundle)
        with WeightsFile(folder) as weights:
            for graph, entry in plain.graphs.items():
                loaded = onnx.load(bundle.graph_path(graph))
                weights.write(emulated(loaded, bundle.precision), folder / entry.file.path)
        yield dataclasses.replace(plain, path=folder)
