"""``sam2rt build``: every graph of a bundle to an engine of this machine, proved before kept.

Runs where the engines run: neither torch nor onnx.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path

from ...configs.bundle import Bundle
from ...configs.errors import BundleError, InputError
from ...configs.graphs import engine_specs
from ...configs.progress import Progress, silent
from ...configs.staging import Foreign, replaced_folder
from ...plugins.registry import triton_present
from ...runtime.backends.engine_record import ENGINES, EngineTarget, incompatibilities
from ...runtime.backends.tensorrt_library import tensorrt_module
from ...runtime.gpu.cuda import device
from ...runtime.pixels.gpu_kernels import write_kernels
from ..proof.record import bundle_record
from .attention import ATTENTION, build_attention
from .job import BuildJob
from .options import BuildOptions, BuildReport

#: all that a build writes
_OURS = re.compile(r"[^/]+\.(engine|json|cubin)")


def build_engines(
    bundle: Bundle, options: BuildOptions, progress: Progress = silent
) -> BuildReport:
    """Build engines into ``bundle/engines/<machine>``; all of them or nothing is kept.

    Raises InputError for options that do not fit the bundle, BundleError when it keeps no record
    to prove engines with, SessionError when TensorRT or the GPU fails, ProofError when no engine
    of a graph is close enough to the reference.
    """
    # without a record nothing can be proved: refused before minutes of building
    bundle_record(bundle)
    graphs = chosen_graphs(bundle, options)
    trt = tensorrt_module()
    found = device()
    machine = EngineTarget(trt.__version__, found.arch, found.name, found.driver)
    _require_others(bundle, machine, graphs)
    final = bundle.path / ENGINES / machine.folder
    with replaced_folder(final, _foreign_to(final)) as work:
        _keep_others(final, work, graphs)
        job = BuildJob(trt, bundle, options, machine, found.multiprocessors, work, progress)
        for graph in graphs:
            if graph != ATTENTION:
                job.build(graph, "folded")
        candidates = build_attention(job) if ATTENTION in graphs else ()
        if triton_present():
            write_kernels(work, machine.arch)
        proof = job.prove()
    return BuildReport(final, machine, dict(job.seconds), candidates, proof)


def chosen_graphs(bundle: Bundle, options: BuildOptions) -> tuple[str, ...]:
    """Names of the graphs to build, once the options are known to fit the bundle."""
    if options.precision not in (None, bundle.precision):
        raise InputError(
            f"bundle {bundle.path} is {bundle.precision}, asked for {options.precision}: precision "
            f"lies in the graph: sam2rt export CHECKPOINT -o BUNDLE --precision {options.precision}"
        )
    if bundle.precision == "int8":
        raise InputError(
            f"bundle {bundle.path} is int8, for CPUs: sam2rt export CHECKPOINT -o BUNDLE "
            "--precision bf16 makes one for engines"
        )
    known = tuple(engine_specs(bundle.model))
    for name in options.graphs or ():
        if name not in known:
            raise InputError(f"unknown graph '{name}': expected one of {', '.join(known)}")
    return options.graphs or known


def _require_others(bundle: Bundle, machine: EngineTarget, graphs: tuple[str, ...]) -> None:
    """Engines that are not built now must be there, since the proof runs them all."""
    for name in engine_specs(bundle.model):
        if name in graphs:
            continue
        if reasons := incompatibilities(bundle, machine.folder, name, machine):
            raise BundleError(
                f"the proof needs the engine of {name} too ({reasons[0]}): build all graphs"
            )


def _foreign_to(final: Path) -> Foreign:
    """What is foreign to the engines in `final`: neither written by a build nor kept by this one.

    Raises BundleError for what could not be kept.
    """
    here = sorted(final.iterdir()) if final.is_dir() else []
    if folder := next((path for path in here if path.is_dir()), None):
        raise BundleError(f"{folder} is a folder among engines: move it away")
    kept = {path.name for path in here}

    def foreign(folder: Path) -> str | None:
        names = (path.relative_to(folder).as_posix() for path in folder.rglob("*"))
        return next((n for n in names if n not in kept and not _OURS.fullmatch(n)), None)

    return foreign


def _keep_others(final: Path, work: Path, graphs: tuple[str, ...]) -> None:
    """Copy the engines that are not built now."""
    for path in final.glob("*") if final.is_dir() else ():
        if path.is_file() and path.stem not in graphs:
            shutil.copy2(path, work / path.name)
