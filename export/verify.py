"""Prove a bundle on the backend at hand; without a checkpoint, neither torch nor onnx is needed."""

from __future__ import annotations

import dataclasses
import os
import secrets
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..configs.bundle import HALF_PRECISIONS, Bundle
from ..configs.errors import BundleError, MissingExtraError
from ..runtime.session import open_session
from .proof import BOUNDS, check, compare
from .proof_record import Progress, Record, load_record

if TYPE_CHECKING:
    from .checkpoints import Checkpoint


def verify_bundle(
    path: str | os.PathLike[str],
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    *,
    backend: str = "onnxruntime",
    device: str = "cpu",
    threads: int | None = None,
    seed: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Prove a bundle again on the backend at hand; the outcome, as in the manifest's ``proof``.

    Without `checkpoint` against the record in the bundle, which needs neither torch nor the
    checkpoint's file; with it against the reference on fresh inputs, which `seed` fixes.

    Raises ProofError out of bounds, CheckpointError when the bundle was made from another
    checkpoint, BundleError when it holds no record.
    """
    bundle = Bundle.load(path)
    if checkpoint is None:
        recorded = bundle_record(bundle)
    else:
        from .bundle import reference_record

        recorded = reference_record(bundle, checkpoint, fresh_seed(seed), progress)
    return prove(bundle, recorded, backend, device, threads, progress)


def fresh_seed(seed: int | None) -> int:
    """`seed`, or a new one."""
    return secrets.randbits(32) if seed is None else seed


def bundle_record(bundle: Bundle) -> Record:
    """The record in a bundle; BundleError when there is none."""
    if "record" not in bundle.proof_files:
        raise BundleError(
            f"bundle {bundle.path} holds no record of the reference: give the checkpoint, or make "
            "it again with 'sam2rt export CHECKPOINT -o BUNDLE'"
        )
    return load_record(bundle.path / bundle.proof_files["record"].path, bundle.model)


def prove(
    bundle: Bundle,
    recorded: Record,
    backend: str = "onnxruntime",
    device: str = "cpu",
    threads: int | None = None,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Compare a bundle's graphs on that backend with a record; ProofError out of bounds.

    On the CPU, ONNX Runtime has no bfloat16 kernels, and computes much of a float16 graph in
    float32 without rounding between operators. There the graph is run with every operator in
    float32 and its result rounded, which needs the onnx package; the outcome says so under
    ``emulated``.
    """
    bounds = BOUNDS[bundle.precision]
    emulate = bundle.precision in HALF_PRECISIONS and (backend, device) == ("onnxruntime", "cpu")
    runnable = _emulation(bundle) if emulate else _itself(bundle)
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


@contextmanager
def _itself(bundle: Bundle) -> Iterator[Bundle]:
    yield bundle


@contextmanager
def _emulation(bundle: Bundle) -> Iterator[Bundle]:
    """The bundle with graphs that round as half precision does, in a temporary folder."""
    assert bundle.precision in HALF_PRECISIONS
    try:
        import onnx

        from .precision import emulated
        from .weights_file import WeightsFile
    except ModuleNotFoundError as error:
        package = error.name or "onnx"
        raise MissingExtraError(
            f"proving a {bundle.precision} bundle on the CPU", package, "export"
        ) from None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with WeightsFile(folder) as weights:
            for graph, entry in bundle.graphs.items():
                loaded = onnx.load(bundle.graph_path(graph))
                weights.write(emulated(loaded, bundle.precision), folder / entry.file.path)
        yield dataclasses.replace(bundle, path=folder)
