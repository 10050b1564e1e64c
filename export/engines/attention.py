"""Memory attention as an engine: its variants built, proved and timed, the fastest kept."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from ...configs.bundle import HALF_PRECISIONS, Bundle
from ...configs.errors import BundleError, ProofError, Sam2rtError, SessionError
from ...configs.graphs import FULL, OPERATOR, OPERATOR_RELEASE, variant_name
from ...plugins import memory_cross_attention as op
from ...plugins.registry import triton_present
from ...plugins.tensorrt_plugins import PLUGIN_ID
from ...runtime.backends.tensorrt_library import release
from ...runtime.gpu.tensor import DeviceTensor
from ...runtime.session import Session
from .job import PLUGIN_TYPES, BuildJob, source_graph
from .onnx_functions import function_names
from .options import ATTENTIONS, Candidate
from .proof import prove_session

ATTENTION = "memory_attention"
_EXPORT_VARIANTS = "export it with --engine-variants"


def build_attention(job: BuildJob) -> tuple[Candidate, ...]:
    """Build memory attention as asked; for "auto" keep the fastest that passed its proof.

    Raises BundleError or SessionError when what was asked for cannot be built, ProofError when
    of "auto" nothing passed.
    """
    asked = job.options.attention
    if asked != "auto":
        _require(job, asked)
        job.build(ATTENTION, asked)
        return ()
    files = [job.work / f"{ATTENTION}{end}" for end in (".engine", ".json")]
    tried: list[Candidate] = []
    best: tuple[float, list[bytes]] | None = None
    for attention in ATTENTIONS[1:]:
        candidate = _try(job, attention)
        tried.append(candidate)
        taken = candidate.milliseconds
        if taken is not None and (best is None or taken < best[0]):
            best = (taken, [file.read_bytes() for file in files])
    if best is None:
        reasons = "; ".join(f"{c.attention}: {c.error}" for c in tried)
        raise ProofError(f"no variant of {ATTENTION} can be used ({reasons})")
    for file, content in zip(files, best[1], strict=True):
        file.write_bytes(content)
    return tuple(tried)


def _try(job: BuildJob, attention: str) -> Candidate:
    try:
        _require(job, attention)
        job.build(ATTENTION, attention)
        with job.session() as session:
            prove_session(job.bundle, session, job.progress)
            return Candidate(attention, attention_milliseconds(session, job.bundle))
    except Sam2rtError as error:
        return Candidate(attention, error=str(error))
    except Exception as error:
        # bindings raise kinds of their own; one variant's must not cost the others
        return Candidate(attention, error=f"{type(error).__name__}: {error}")


def _require(job: BuildJob, attention: str) -> None:
    """Refuse a variant for which the bundle or this machine lacks something."""
    bundle = job.bundle
    source = source_graph(bundle, ATTENTION, attention)
    if attention == "operator":
        _require_operator(job)
    if attention == "full" and source == ATTENTION:
        name = variant_name(ATTENTION, FULL)
        raise BundleError(f"the bundle has no graph '{name}': {_EXPORT_VARIANTS}")
    if attention == "plugin":
        if bundle.precision not in PLUGIN_TYPES:
            raise BundleError(
                f"{PLUGIN_ID} takes float16 or bfloat16, the bundle is "
                f"{bundle.precision}: export it with --precision bf16"
            )
        if op.NAME not in function_names(bundle.graph_path(source).read_bytes()):
            raise BundleError(f"the graph has no node {PLUGIN_ID}: {_EXPORT_VARIANTS}")
        if not triton_present():
            raise SessionError("compiling the kernel needs triton: pip install 'triton>=3.6'")


def _require_operator(job: BuildJob) -> None:
    found = job.machine.tensorrt
    if release(found) < OPERATOR_RELEASE:
        needed = ".".join(map(str, OPERATOR_RELEASE))
        raise SessionError(
            f"TensorRT imports the operator Attention from {needed} on, found {found}: "
            "pip install -U 'sam2rt[tensorrt]'"
        )
    if job.bundle.precision not in HALF_PRECISIONS:
        raise BundleError(
            f"fused kernels of the operator Attention take half precision, the bundle is "
            f"{job.bundle.precision}: export it with --precision bf16"
        )
    name = variant_name(ATTENTION, OPERATOR)
    if name not in job.bundle.graphs:
        raise BundleError(f"the bundle has no graph '{name}': {_EXPORT_VARIANTS}")


def attention_milliseconds(session: Session, bundle: Bundle, runs: int = 20) -> float:
    """Median milliseconds of the steady state of memory attention, copies included."""
    inputs = _steady_inputs(bundle)
    taken = []
    for _ in range(runs):
        started = time.perf_counter()
        for array in session.run(ATTENTION, inputs).values():
            # a run whose results stay on the GPU does not wait for them
            if isinstance(array, DeviceTensor):
                array.synchronize()
        taken.append(time.perf_counter() - started)
    return 1e3 * sorted(taken[3:])[len(taken[3:]) // 2]


def _steady_inputs(bundle: Bundle) -> dict[str, Any]:
    """Random inputs of one object whose memories and pointers are complete."""
    model = bundle.model
    sizes = {"N": 1, "I": 1, "M": model.num_maskmem, "K": model.max_obj_ptrs}
    stream = np.random.default_rng(0)
    inputs: dict[str, Any] = {}
    for t in bundle.graphs[ATTENTION].spec.inputs:
        shape = tuple(sizes[d] if isinstance(d, str) else d for d in t.shape)
        if t.dtype == "int64":
            inputs[t.name] = stream.integers(0, model.num_maskmem, shape)
        else:
            inputs[t.name] = stream.standard_normal(shape).astype(t.dtype)
    return inputs
