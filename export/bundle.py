"""Checkpoint to bundle: graphs, manifest, and a proof before anything is kept."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, get_args

import onnx
import torch

from ..configs.bundle import (
    CPU_PRECISIONS,
    Bundle,
    GraphEntry,
    Precision,
    bundle_file,
    check_bundle_target,
    staged_folder,
    write_manifest,
)
from ..configs.errors import BundleError, InputError, MissingExtraError, ProofError
from ..configs.extras import EXTRAS
from ..configs.formats.manifest import SCHEMA
from ..configs.models import check_image_size
from ..configs.progress import Progress, silent
from ..configs.version import VERSION
from ..runtime.backends.bfloat16_session import runs_bfloat16
from .checkpoint.download import cache_folder
from .checkpoint.load import Checkpoint, checkpoint_sha256, load_checkpoint, model_of
from .graphs.graph_files import DEFAULT_OPSET, GraphOptions, made_graphs, write_graphs
from .graphs.modules import GraphVariant
from .graphs.onnx_from_module import check_opset
from .model.reference import ReferenceSession
from .model.sam2 import Sam2
from .proof.record import Record, record, save_record
from .prove import fresh_seed, prove

_PROOF_FILE = "proof.npz"
#: clips tried before a proof counts as undecided
_CLIPS = 3


def export_bundle(
    checkpoint: Checkpoint | str | os.PathLike[str],
    target: str | os.PathLike[str],
    *,
    image_size: int | None = None,
    precision: Precision = "fp32",
    opset: int | None = None,
    variant: GraphVariant | None = None,
    engine_variants: bool = False,
    cpu_variants: bool = False,
    threads: int | None = None,
    seed: int | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Export a checkpoint (loaded, or what :func:`load_checkpoint` takes) to folder `target`.

    The bundle is written whole or not at all: graphs, manifest, the record of the reference
    that later proofs need, and the outcome of the proof on ONNX Runtime's CPU backend with
    `threads` threads. `image_size` in pixels replaces the model's; `seed` fixes the proof's
    inputs, fresh ones otherwise; `variant` chooses between equal graphs; `engine_variants` adds
    those that ``sam2rt build`` chooses from, and `cpu_variants` to a bf16 or int8 bundle those that
    ONNX Runtime runs on processors with bfloat16 units (``sam2rt plugins --cpu``). Where they run,
    the proof is of them too. `progress` gets what is being done, how many steps
    of it are done, and of how many.

    Raises ProofError when the graphs do not equal the reference within the precision's bounds,
    SessionError when engines are to be built and TensorRT could not read a graph, InputError for
    an illegal image size, precision or opset, CheckpointError and BundleError for a checkpoint
    or target that cannot be used. Then `target` is what it was.
    """
    check_export(image_size, precision, opset, engine_variants, cpu_variants)
    loaded = _loaded(checkpoint, image_size, progress)
    model = model_of(loaded)
    options = GraphOptions(
        DEFAULT_OPSET if opset is None else opset,
        precision,
        variant or GraphVariant(),
        engine_variants,
        cpu_variants,
    )
    with staged_folder(target) as work:
        graphs = write_graphs(work, made_graphs(model, options, progress))
        bundle = _unproved(work, loaded, options, graphs)
        recorded, proof = _proved(bundle, model, seed, threads, progress)
        save_record(recorded, work / _PROOF_FILE)
        files = {"record": bundle_file(work, _PROOF_FILE)}
        write_manifest(replace(bundle, proof=proof, proof_files=files))
    return Bundle.load(target, check_hashes=False)


def check_export(
    image_size: int | None = None,
    precision: str = "fp32",
    opset: int | None = None,
    engine_variants: bool = False,
    cpu_variants: bool = False,
) -> None:
    """Refuse what no checkpoint can be exported as, before one is fetched and read.

    Raises InputError for an illegal image size, precision or opset, MissingExtraError without
    ONNX Runtime: no bundle is kept without its proof.
    """
    if image_size is not None:
        check_image_size(image_size)
    if precision not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise InputError(f"unknown precision '{precision}': expected one of {known}")
    if precision == "int8" and engine_variants:
        raise InputError("int8 is for CPUs: export fp32, fp16 or bf16 for engines")
    if precision not in CPU_PRECISIONS and cpu_variants:
        known = " and ".join(CPU_PRECISIONS)
        raise InputError(
            f"variants for CPUs are of {known} bundles, this one is {precision}: use --precision "
            f"{CPU_PRECISIONS[0]}"
        )
    check_opset(DEFAULT_OPSET if opset is None else opset)
    if importlib.util.find_spec("onnxruntime") is None:
        raise MissingExtraError("the proof of an export", *EXTRAS["onnxruntime"])


def bundle_for(name: str) -> Bundle:
    """The bundle of a model by name, exported once into the user's cache.

    `name` is an official name or hub id, downloaded first, or anything else that
    :func:`load_checkpoint` takes. The cache goes by contents: a checkpoint that was trained
    further is another one, whatever its name. A cached bundle that does not load is made again.

    Raises InputError and CheckpointError for a name that means no checkpoint, BundleError when
    the cached folder holds something that is no part of a bundle; nothing is removed then.
    """
    sha256 = checkpoint_sha256(name)
    target = _cached(sha256)
    if target.is_dir():
        with suppress(BundleError):
            bundle = Bundle.load(target)
            if bundle.checkpoint_sha256 == sha256:
                return bundle
    check_bundle_target(target)
    # by the hash of what was read: the file may have changed since it was hashed
    checkpoint = load_checkpoint(name)
    return export_bundle(checkpoint, _cached(checkpoint.sha256))


def _cached(checkpoint_sha256: str) -> Path:
    """The cache's folder for a checkpoint as this version exports it, with these options."""
    options = asdict(GraphOptions(DEFAULT_OPSET, "fp32", GraphVariant(), False))
    # the exporter takes the model and its image size from the checkpoint
    asked = {"model": None, "image_size": None, **options}
    key = [checkpoint_sha256, asked, VERSION, SCHEMA]
    digest = hashlib.sha256(json.dumps(key, sort_keys=True, default=str).encode()).hexdigest()
    return cache_folder() / "bundles" / digest[:32]


def generator() -> str:
    """What exports here: a bundle's manifest names it."""
    return f"sam2rt {VERSION}, torch {torch.__version__}, onnx {onnx.__version__}"


def _loaded(
    checkpoint: Checkpoint | str | os.PathLike[str], image_size: int | None, progress: Progress
) -> Checkpoint:
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = load_checkpoint(checkpoint, progress=progress)
    if image_size is not None:
        checkpoint = replace(checkpoint, config=checkpoint.config.with_image_size(image_size))
    return checkpoint


def _unproved(
    work: Path, checkpoint: Checkpoint, options: GraphOptions, graphs: Mapping[str, GraphEntry]
) -> Bundle:
    return Bundle(
        path=work,
        model=checkpoint.config,
        precision=options.precision,
        opset=options.opset,
        checkpoint_sha256=checkpoint.sha256,
        generator=generator(),
        graphs=graphs,
        proof={},
        proof_files={},
    )


def _proved(
    bundle: Bundle, model: Sam2, seed: int | None, threads: int | None, progress: Progress
) -> tuple[Record, dict[str, Any]]:
    """A record and its proof, on another clip should thin margins leave too little to compare."""
    for _ in range(_CLIPS if seed is None else 1):
        recorded = record(ReferenceSession(model), fresh_seed(seed), progress=progress)
        proof = prove(bundle, recorded, threads=threads, progress=progress, emulate=True)
        if runs_bfloat16(bundle):
            prove(bundle, recorded, threads=threads, progress=progress)
        clip = proof["clip"]
        if 2 * clip["compared"] >= clip["results"]:
            return recorded, proof
    raise ProofError(
        f"the {bundle.precision} bundle chose other masks of equal quality so often that only "
        f"{clip['compared']} of {clip['results']} results could be compared, last with --seed "
        f"{recorded.seed}: use fp32"
    )
