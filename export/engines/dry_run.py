"""``sam2rt build --dry-run``: what the vendor's builder makes of each graph, nothing kept.

Works with TensorRT and with TensorRT-RTX, which builds where there is no GPU. Nothing is run, so
nothing is proved or timed: fused attentions and memory are what a builder can tell.
"""

from __future__ import annotations

import dataclasses
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

from ...configs.bundle import HALF_PRECISIONS, Bundle
from ...configs.errors import InputError, SessionError
from ...configs.progress import Progress, silent
from ...runtime.backends.tensorrt_library import Messages, builder_module, library_name
from .attention import ATTENTION
from .build import chosen_graphs
from .engine_from_onnx import BuildNotes, engine_from_onnx
from .job import source_graph
from .options import ATTENTIONS, BuildOptions
from .profiles import graph_profiles

#: how the builder logs an engine's layers, and the memory of each profile
_LAYER = re.compile(r"^\s*Name: (.+?), LayerType:", re.MULTILINE)
_MEMORY = re.compile(r"Total Activation Memory: (\d+)")
#: a layer's name ends in _myl<profile>_<number>; an attention that is one kernel is named so
_PROFILE, _FUSED = re.compile(r"_myl(\d+)_\d+$"), "_gemm_mha_v2"


@dataclass(frozen=True)
class GraphBuild:
    """What became of one graph, numbers for each profile: steady states first, dynamic last.

    source: the variant that was built. attention: how memory attention is written, None for other
    graphs. layers: kernels; fused: attentions that became one kernel; both empty where the library
    does not tell. memory: bytes of activations. size: bytes of the engine, None without one.
    unsupported: operators that the parser refuses. error: why there is no engine.
    """

    graph: str
    source: str
    attention: str | None
    layers: tuple[int, ...]
    fused: tuple[int, ...]
    memory: tuple[int, ...]
    size: int | None
    seconds: float
    unsupported: tuple[str, ...] = ()
    error: str | None = None


@dataclass(frozen=True)
class DryRun:
    """library: what built, with its version."""

    library: str
    precision: str
    graphs: tuple[GraphBuild, ...]


def dry_run(bundle: Bundle, options: BuildOptions, progress: Progress = silent) -> DryRun:
    """Build the graphs of `options` with the library at hand; engines are thrown away.

    Of memory attention "auto" builds each variant that the bundle has. A graph that cannot be built
    is no error but part of the result. Raises InputError for options that do not fit the bundle,
    SessionError when there is no builder.
    """
    if options.attention == "plugin":
        raise InputError(
            "a dry run builds plain operators, the plugin is compiled for the GPU at hand: "
            "use another --attention"
        )
    graphs = chosen_graphs(bundle, options)
    trt = builder_module()
    built = tuple(
        _built(trt, bundle, graph, attention, options, progress)
        for graph in graphs
        for attention in _attentions(bundle, graph, options.attention)
    )
    return DryRun(library_name(trt), bundle.precision, built)


def _attentions(bundle: Bundle, graph: str, asked: str) -> Iterator[str]:
    if graph != ATTENTION:
        yield "folded"
        return
    for attention in ATTENTIONS[1:-1] if asked == "auto" else (asked,):
        has = attention == "folded" or source_graph(bundle, graph, attention) != graph
        # the operator exists in half precision alone
        known = attention != "operator" or bundle.precision in HALF_PRECISIONS
        if has and known:
            yield attention
        elif asked == attention:
            raise InputError(
                f"the bundle has no variant '{attention}' of {graph} in {bundle.precision}: export "
                "it with --engine-variants --precision bf16"
            )


def _built(
    trt: ModuleType,
    bundle: Bundle,
    graph: str,
    attention: str,
    options: BuildOptions,
    progress: Progress,
) -> GraphBuild:
    started = time.monotonic()
    source = source_graph(bundle, graph, attention)
    path = bundle.graph_path(source)
    profiles = graph_profiles(bundle.graphs[graph].spec, bundle.model, options.limits)
    engine = dataclasses.replace(options.engine, precision=bundle.precision)
    notes = BuildNotes(Messages(transcript=[]))
    size, error = None, None
    try:
        made = engine_from_onnx(trt, path.read_bytes(), path, profiles, engine, progress, notes)
        size = len(made)
    except SessionError as refused:
        error = str(refused)
    transcript = "\n".join(notes.messages.transcript or [])
    layers, fused = layer_counts(transcript, len(profiles))
    return GraphBuild(
        graph,
        source,
        attention if graph == ATTENTION else None,
        layers,
        fused,
        tuple(int(number) for number in _MEMORY.findall(transcript)),
        size,
        time.monotonic() - started,
        tuple(sorted(set(notes.refused))),
        error,
    )


def layer_counts(transcript: str, profiles: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Layers, and attentions that became one kernel, of each profile as the builder logged them.

    Both empty where it logged no layers.
    """
    layers, fused = [0] * profiles, [0] * profiles
    for name in _LAYER.findall(transcript):
        if (found := _PROFILE.search(name)) and int(found[1]) < profiles:
            layers[int(found[1])] += 1
            fused[int(found[1])] += _FUSED in name
    return (tuple(layers), tuple(fused)) if any(layers) else ((), ())
