"""What the reference gives for a bundle's proof, with the weights the bundle was made from."""

from __future__ import annotations

import os
from dataclasses import replace

from ..configs.bundle import Bundle
from ..configs.errors import CheckpointError
from ..configs.progress import Progress, silent
from .checkpoint.load import Checkpoint, load_checkpoint, model_of
from .model.reference import ReferenceSession
from .proof.record import Record, record


def reference_record(
    bundle: Bundle,
    checkpoint: Checkpoint | str | os.PathLike[str],
    seed: int,
    progress: Progress = silent,
) -> Record:
    """What the reference gives for the work of `seed`, with the weights a bundle was made from.

    Raises CheckpointError for another checkpoint than the bundle's.
    """
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = load_checkpoint(checkpoint, model=bundle.model, progress=progress)
    if checkpoint.sha256 != bundle.checkpoint_sha256:
        raise CheckpointError(
            f"bundle {bundle.path} was made from the checkpoint with sha256 "
            f"{bundle.checkpoint_sha256[:12]}..., {checkpoint.source} has "
            f"{checkpoint.sha256[:12]}...: give that one, or export this one"
        )
    model = model_of(replace(checkpoint, config=bundle.model))
    return record(ReferenceSession(model), seed, progress=progress)
