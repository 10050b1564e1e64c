"""Checkpoint to bundle: graphs, manifest, and a proof before anything is kept."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any, get_args

import onnx
import torch

from ..configs.bundle import (
    Bundle,
    GraphEntry,
    Precision,
    bundle_file,
    staged_folder,
    write_manifest,
)
from ..configs.errors import BundleError, InputError, ProofError
from ..configs.graphs import GraphSpec, graph_specs, per_object_specs
from ..configs.models import check_image_size
from ..configs.progress import Progress, silent
from ..configs.version import VERSION
from .checkpoint.download import cache_folder, official_name
from .checkpoint.load import Checkpoint, load_checkpoint
from .graphs.int8 import QUANTISED_GRAPH, quantised
from .graphs.modules import GraphVariant, graph_modules, per_object_modules
from .graphs.onnx_from_module import check_opset, onnx_from_module
from .graphs.precision import EXACT_GRAPHS, lowered
from .graphs.variants import variant_models
from .graphs.weights_file import WeightsFile
from .model.reference import ReferenceSession
from .model.sam2 import Sam2
from .proof.record import Record, record, save_record
from .prove import fresh_seed, prove
from .reference_record import _model

DEFAULT_OPSET = 20
_PROOF_FILE = "proof.npz"
#: side of the embedding from which objects are tracked sequentially: as many at a time
#: need as many times the memory then, and are no faster
PER_OBJECT_FROM = 32
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
    threads: int | None = None,
    seed: int | None = None,
    progress: Progress = silent,
) -> Bundle:
    """Export a checkpoint (loaded, or what :func:`load_checkpoint` takes) to folder `target`.

    The bundle is written whole or not at all: graphs, manifest, the record of the reference
    that later proofs need, and the outcome of the proof on ONNX Runtime's CPU backend with
    `threads` threads. `image_size` in pixels replaces the model's; `seed` fixes the proof's
    inputs, fresh ones otherwise; `variant` chooses between equal graphs; `engine_variants` adds
    those that ``sam2rt build`` chooses from. `progress` is told what
    is being done, how many steps of it are, and of how many.

    Raises ProofError when the graphs do not equal the reference within the precision's bounds,
    InputError for an illegal image size, precision or opset, CheckpointError and BundleError
    for a checkpoint or target that cannot be used. Then `target` is what it was.
    """
    check_export(image_size, precision, opset, engine_variants)
    if not isinstance(checkpoint, Checkpoint):
        checkpoint = load_checkpoint(checkpoint, progress=progress)
    if image_size is not None:
        checkpoint = replace(checkpoint, config=checkpoint.config.with_image_size(image_size))
    model = _model(checkpoint)
    number = DEFAULT_OPSET if opset is None else opset
    with staged_folder(target) as work:
        made = _made_graphs(
            model, number, precision, variant or GraphVariant(), engine_variants, progress
        )
        graphs = _write_graphs(work, made)
        bundle = Bundle(
            path=work,
            model=checkpoint.config,
            precision=precision,
            opset=number,
            checkpoint_sha256=checkpoint.sha256,
            generator=f"sam2rt {VERSION}, torch {torch.__version__}, onnx {onnx.__version__}",
            graphs=graphs,
            proof={},
            proof_files={},
        )
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
) -> None:
    """Refuse what no checkpoint can be exported as, before one is fetched and read.

    Raises InputError for an illegal image size, precision or opset.
    """
    if image_size is not None:
        check_image_size(image_size)
    if precision not in get_args(Precision):
        known = ", ".join(get_args(Precision))
        raise InputError(f"unknown precision '{precision}': expected one of {known}")
    if precision == "int8" and engine_variants:
        raise InputError("int8 is for CPUs: export fp32, fp16 or bf16 for engines")
    check_opset(DEFAULT_OPSET if opset is None else opset)


def bundle_for(name: str) -> Bundle:
    """The bundle of a model by name, exported once into the user's cache.

    `name` is an official name or hub id, downloaded first, or anything else that
    :func:`load_checkpoint` takes. A cached bundle that does not load is made again.
    """
    folder = official_name(name) or name.strip("/").replace("/", "--")
    target = cache_folder() / "bundles" / folder
    if target.is_dir():
        try:
            return Bundle.load(target)
        except BundleError:
            shutil.rmtree(target)
    return export_bundle(name, target)


def _proved(
    bundle: Bundle, model: Sam2, seed: int | None, threads: int | None, progress: Progress
) -> tuple[Record, dict[str, Any]]:
    """A record and its proof, on another clip should thin margins leave too little to compare."""
    for _ in range(_CLIPS if seed is None else 1):
        recorded = record(ReferenceSession(model), fresh_seed(seed), progress=progress)
        proof = prove(bundle, recorded, threads=threads, progress=progress)
        clip = proof["clip"]
        if 2 * clip["compared"] >= clip["results"]:
            return recorded, proof
    raise ProofError(
        f"the {bundle.precision} bundle chose other masks of equal quality so often that only "
        f"{clip['compared']} of {clip['results']} results could be compared: use fp32"
    )


def _made_graphs(
    model: Sam2,
    opset: int,
    precision: Precision,
    variant: GraphVariant,
    engine_variants: bool,
    progress: Progress,
) -> Iterator[tuple[str, GraphSpec, onnx.ModelProto]]:
    """Name in the manifest, contract and model of each graph."""
    specs, modules = graph_specs(model.config), graph_modules(model, variant)
    if model.config.embed_size >= PER_OBJECT_FROM:
        specs |= per_object_specs(model.config)
        modules |= per_object_modules(model, modules)
    for index, (name, module) in enumerate(modules.items()):
        progress(f"exporting {name}", index, len(specs))
        graph = onnx_from_module(module, specs[name], opset)
        yield name, specs[name], _in_precision(graph, name, precision)
    if engine_variants:
        for name, contract, graph in variant_models(model, opset, precision):
            yield name, specs[contract], graph


def _in_precision(graph: onnx.ModelProto, name: str, precision: Precision) -> onnx.ModelProto:
    if precision == "int8":
        return quantised(graph) if name == QUANTISED_GRAPH else graph
    if precision == "fp32" or name in EXACT_GRAPHS:
        return graph
    return lowered(graph, precision)


def _write_graphs(
    folder: Path, graphs: Iterable[tuple[str, GraphSpec, onnx.ModelProto]]
) -> dict[str, GraphEntry]:
    with WeightsFile(folder) as weights:
        written = {
            name: (spec, weights.write(graph, folder / f"{name}.onnx"))
            for name, spec, graph in graphs
        }
    common = (bundle_file(folder, weights.path.name),)
    return {
        name: GraphEntry(spec, bundle_file(folder, f"{name}.onnx"), common if outside else ())
        for name, (spec, outside) in written.items()
    }
