"""One ONNX graph to one serialised TensorRT engine, on TensorRT 10.13 and later and 11.

Networks are strongly typed: precision is what the graph says. Enumerations are always used by
name, since TensorRT 11 renumbered them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from ...configs.errors import SessionError
from ...configs.progress import Progress, silent
from ...configs.staging import replaced_file
from ...runtime.backends.engine_record import Ranges
from ...runtime.backends.tensorrt_library import Messages, library_name, make_logger
from ...runtime.gpu.cuda import free_memory
from .options import EngineOptions


def make_monitor(trt: ModuleType, progress: Progress, what: str) -> Any:
    """TensorRT's progress monitor over our `progress`; an interrupt cancels the build."""

    class Monitor(trt.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.totals: dict[str, int] = {}
            self.interrupted: BaseException | None = None

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.totals[phase_name] = num_steps

        def step_complete(self, phase_name: str, step: int) -> bool:
            try:
                total = self.totals.get(phase_name)
                progress(f"{what}: {phase_name}", step + 1, total)
            except BaseException as error:
                # nothing may be raised through TensorRT's C++ frames
                self.interrupted = error
            return self.interrupted is None

        def phase_finish(self, phase_name: str) -> None:
            self.totals.pop(phase_name, None)

    return Monitor()


@dataclass
class BuildNotes:
    """What is learned beside the engine. messages: with a transcript, layers are told too.

    refused: operators that the parser does not take, one each time.
    """

    messages: Messages = field(default_factory=Messages)
    refused: list[str] = field(default_factory=list)


def engine_from_onnx(
    trt: ModuleType,
    model: bytes,
    path: Path,
    profiles: tuple[Ranges, ...],
    options: EngineOptions,
    progress: Progress = silent,
    notes: BuildNotes | None = None,
) -> bytes:
    """Build the serialised `model`, whose weight files lie beside `path`.

    `notes` are filled in, also when it fails. Raises SessionError with the parser's or builder's
    own words; a build that ran out of memory says how much was asked and free, and
    which options need less.
    """
    notes = notes or BuildNotes()
    messages = notes.messages
    builder = _builder(trt, messages)
    network = _network(trt, builder, messages)
    parser = trt.OnnxParser(network, make_logger(trt, messages))
    if not parser.parse(model, str(path)):
        errors = [parser.get_error(i) for i in range(parser.num_errors)]
        notes.refused += [name for error in errors if (name := error.node_operator())]
        reasons = [_parser_reason(error) for error in errors]
        raise SessionError(
            f"TensorRT {trt.__version__} cannot read {path.name}: "
            f"{'; '.join(reasons) or messages.last()}"
        )
    _allow_decomposition(trt, network)
    config = _config(trt, builder, options)
    if messages.transcript is not None:
        config.profiling_verbosity = trt.ProfilingVerbosity.DETAILED
    for ranges in profiles:
        _add_profile(builder, config, ranges)
    monitor = None if progress is silent else make_monitor(trt, progress, path.stem)
    if monitor is not None:
        config.progress_monitor = monitor
    built = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.interrupted is not None:
        raise monitor.interrupted
    if built is None:
        raise _build_error(path, options, messages)
    _save_timings(config, options)
    return bytes(memoryview(built))


def _builder(trt: ModuleType, messages: Messages) -> Any:
    try:
        return trt.Builder(make_logger(trt, messages))
    except TypeError:
        # how the bindings say that the library gave none
        raise SessionError(
            f"{library_name(trt)} makes no builder here ({messages.last()}): it needs an NVIDIA "
            "GPU and its driver; where there is none, 'pip install tensorrt-rtx' in an environment "
            "of its own builds with --dry-run"
        ) from None


def _parser_reason(error: Any) -> str:
    """The parser's words and the node they are about, which they do not name themselves."""
    operator = error.node_operator()
    return f"{operator} '{error.node_name()}': {error.desc()}" if operator else str(error.desc())


def _network(trt: ModuleType, builder: Any, messages: Messages) -> Any:
    """An empty strongly typed network, that prefers compiled plugins where the library can.

    A library that does not know a flag gives None, and bindings of one have no name for it. Our
    plugin has no other form than the compiled one, so that the preference may be left out.
    """
    flag = trt.NetworkDefinitionCreationFlag
    typed = 1 << int(flag.STRONGLY_TYPED)
    compiled = getattr(flag, "PREFER_AOT_PYTHON_PLUGINS", None)
    for flags in (typed if compiled is None else typed | 1 << int(compiled), typed):
        network = builder.create_network(flags)
        if network is not None:
            # what an earlier try said is no reason for what fails later
            messages.errors.clear()
            return network
    raise SessionError(
        f"TensorRT {trt.__version__} makes no strongly typed network: {messages.last()}: "
        "pip install -U 'sam2rt[tensorrt]'"
    )


def _allow_decomposition(trt: ModuleType, network: Any) -> None:
    """Let the builder take an operator Attention apart where it has no kernel for its shapes.

    Without it one profile that is not fused fails the whole engine. What is fused stays so.
    """
    kind = getattr(trt.LayerType, "ATTENTION_INPUT", None)
    for index in range(network.num_layers if kind is not None else 0):
        layer = network.get_layer(index)
        if layer.type == kind:
            # the bindings give every layer as their base class
            layer.__class__ = trt.IAttentionInputLayer
            layer.attention.decomposable = True


def _config(trt: ModuleType, builder: Any, options: EngineOptions) -> Any:
    config = builder.create_builder_config()
    if options.precision == "fp32":
        # float32 means float32 here; tensor-float would pass for it with 10 bits of mantissa,
        # which is no less than what the graphs of half precision have everywhere else
        config.clear_flag(trt.BuilderFlag.TF32)
    config.profiling_verbosity = trt.ProfilingVerbosity.LAYER_NAMES_ONLY
    if options.workspace is not None:
        config.set_memory_pool_limit(trt.MemoryPoolType.WORKSPACE, options.workspace)
    if options.level is not None:
        config.builder_optimization_level = options.level
    if options.hardware_compatible:
        # not AMPERE_PLUS: it limits every kernel to 48 KB of shared memory
        level = trt.HardwareCompatibilityLevel.SAME_COMPUTE_CAPABILITY
        config.hardware_compatibility_level = level
    if options.version_compatible:
        config.set_flag(trt.BuilderFlag.VERSION_COMPATIBLE)
    if options.timing_cache is not None:
        path = options.timing_cache
        # what cannot be written should show now, not after minutes of timing
        path.parent.mkdir(parents=True, exist_ok=True)
        cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
        if cache is None or not config.set_timing_cache(cache, False):
            raise SessionError(
                f"timing cache {path} was made by another TensorRT, GPU or driver: delete it, or "
                "name another file"
            )
    return config


def _add_profile(builder: Any, config: Any, ranges: Ranges) -> None:
    profile = builder.create_optimization_profile()
    for name, (least, usual, most) in ranges.items():
        profile.set_shape(name, least, usual, most)
    if config.add_optimization_profile(profile) < 0:
        raise SessionError(f"TensorRT refuses the shapes {ranges}: this is a bug of sam2rt")


def _build_error(path: Path, options: EngineOptions, messages: Messages) -> SessionError:
    if messages.out_of_memory():
        limit = "no limit" if options.workspace is None else f"{options.workspace} bytes"
        requested = messages.bytes_requested()
        asked = "" if requested is None else f"{requested} bytes asked for, "
        return SessionError(
            f"building {path.stem} ran out of GPU memory ({asked}{free_memory()} bytes free, "
            f"workspace {limit}; {messages.last()}): lower --workspace, --max-objects, "
            "--max-memories or --opt-level"
        )
    fix = _fix(options, messages)
    return SessionError(f"TensorRT cannot build {path.stem}: {messages.last()}{fix}")


def _fix(options: EngineOptions, messages: Messages) -> str:
    """Which of our options mends what the builder said last; empty where none is known to."""
    why = messages.last().lower()
    if options.workspace is not None and "workspace" in why:
        return f": raise --workspace, now {options.workspace} bytes, or leave it out"
    if options.version_compatible and "_lean" in why:
        return (
            ": --version-compat puts the lean runtime of this TensorRT into the engine: install "
            "its library (tensorrt-lean) and name its folder in LD_LIBRARY_PATH, or build without "
            "--version-compat"
        )
    return ""


def _save_timings(config: Any, options: EngineOptions) -> None:
    if options.timing_cache is None:
        return
    with replaced_file(options.timing_cache) as part:
        part.write_bytes(bytes(memoryview(config.get_timing_cache().serialize())))
