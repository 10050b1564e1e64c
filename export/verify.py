"""Prove a bundle on the backend at hand; without a checkpoint, neither torch nor onnx is needed."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

from ..configs.bundle import Bundle
from ..configs.progress import Progress, silent
from .proof.record import bundle_record
from .prove import fresh_seed, prove

if TYPE_CHECKING:
    from .checkpoint.load import Checkpoint


def verify_bundle(
    path: str | os.PathLike[str],
    checkpoint: Checkpoint | str | os.PathLike[str] | None = None,
    *,
    backend: str = "onnxruntime",
    device: str = "cpu",
    threads: int | None = None,
    seed: int | None = None,
    progress: Progress = silent,
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
        from .reference_record import reference_record

        recorded = reference_record(bundle, checkpoint, fresh_seed(seed), progress)
    return prove(bundle, recorded, backend, device, threads, progress)
