"""One ONNX graph to one serialised TensorRT engine, on TensorRT 10.13 and later and 11.

Networks are strongly typed: precision is what the graph says. Enumerations are always used by
name, since TensorRT 11 renumbered them.
"""

from __future__ import annotations

import importlib
import re
import weakref
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from ..configs.errors import InputError, MissingExtraError, SessionError
from .cuda import free_memory
from .engine_sidecar import Ranges

Progress = Callable[[str, int, "int | None"], None]
OLDEST = (10, 13)
_MEMORY_WORDS = (
    "out of memory", "outofmemory", "insufficient memory", "memory allocation",
    "could not be allocated",
)  # fmt: skip
#: how TensorRT's allocator names what it asked for
_REQUESTED = re.compile(r"(?:memory|size)\D{0,20}?(\d+) ?bytes", re.IGNORECASE)


@dataclass(frozen=True)
class EngineOptions:
    """How TensorRT builds; what it builds is the graph's affair.

    workspace: bytes of scratch memory kernels may use, None for all of the GPU's.
    level: 0 to 5, more is slower to build and perhaps faster to run; None for TensorRT's own.
    hardware_compatible: the engine also runs on other GPUs of the same compute capability.
    version_compatible: it also runs with later releases of the same major version.
    timing_cache: file of kernel timings to read and to update; None for none.
    """

    workspace: int | None = None
    level: int | None = None
    hardware_compatible: bool = False
    version_compatible: bool = False
    timing_cache: Path | None = None

    def __post_init__(self) -> None:
        if self.level is not None and not 0 <= self.level <= 5:
            raise InputError(f"optimization level is {self.level}: expected 0 to 5")
        if self.workspace is not None and self.workspace < 1:
            raise InputError(f"workspace is {self.workspace} bytes: expected at least 1")


def tensorrt_module() -> ModuleType:
    """The module ``tensorrt``; MissingExtraError without it, SessionError when it is too old."""
    try:
        trt = importlib.import_module("tensorrt")
    except (ImportError, OSError) as error:
        if isinstance(error, ModuleNotFoundError) and error.name == "tensorrt":
            raise MissingExtraError("TensorRT", "tensorrt", "tensorrt") from None
        why = " ".join(str(error).split()) or type(error).__name__
        raise SessionError(
            f"TensorRT is installed but does not load ({why}): pip install --force-reinstall "
            "'sam2rt[tensorrt]'"
        ) from None
    found = tuple(int(part) for part in trt.__version__.split(".")[:2])
    if found < OLDEST:
        raise SessionError(
            f"expected TensorRT {'.'.join(map(str, OLDEST))} or later, found {trt.__version__}: "
            "pip install -U 'sam2rt[tensorrt]'"
        )
    return trt


@dataclass(eq=False)
class Messages:
    """What TensorRT logged: it reports most failures there and returns nothing."""

    errors: list[str] = field(default_factory=list)

    def last(self) -> str:
        return self.errors[-1] if self.errors else "TensorRT gave no message"

    def out_of_memory(self) -> bool:
        return any(word in text.lower() for text in self.errors for word in _MEMORY_WORDS)

    def bytes_requested(self) -> int | None:
        """The allocation that failed, where a message tells its size."""
        found = [_REQUESTED.search(text) for text in self.errors]
        sizes = [int(match[1]) for match in found if match is not None]
        return max(sizes, default=None)


#: TensorRT's logger of this process, by module, and who listens to it
_LOGGERS: dict[ModuleType, tuple[Any, list[weakref.ref[Messages]]]] = {}


def make_logger(trt: ModuleType, messages: Messages) -> Any:
    """The process's TensorRT logger; errors and warnings about memory reach `messages` too.

    TensorRT goes on calling the first logger it was given while anything of it lives, whatever
    later objects are given: one that went away with its session would be called after its end.
    """
    if trt not in _LOGGERS:
        listeners: list[weakref.ref[Messages]] = []
        _LOGGERS[trt] = _new_logger(trt, listeners), listeners
    logger, listeners = _LOGGERS[trt]
    listeners[:] = [r for r in listeners if r() is not None] + [weakref.ref(messages)]
    return logger


def _new_logger(trt: ModuleType, listeners: list[weakref.ref[Messages]]) -> Any:
    severity = trt.ILogger.Severity
    serious = {severity.INTERNAL_ERROR, severity.ERROR}

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()

        def log(self, level: Any, text: str) -> None:
            line = " ".join(text.split())
            about_memory = any(word in line.lower() for word in _MEMORY_WORDS)
            if level in serious or (level == severity.WARNING and about_memory):
                for listener in [r() for r in listeners]:
                    if listener is not None:
                        listener.errors.append(line)

    return Logger()


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


def engine_from_onnx(
    trt: ModuleType,
    model: bytes,
    path: Path,
    profiles: tuple[Ranges, ...],
    options: EngineOptions,
    progress: Progress | None = None,
) -> bytes:
    """Build the serialised `model`, whose weight files lie beside `path`.

    Raises SessionError with the parser's or builder's own words; a build that ran out of memory
    says how much was asked and free, and which options need less.
    """
    messages = Messages()
    builder = trt.Builder(make_logger(trt, messages))
    network = builder.create_network(_network_flags(trt))
    parser = trt.OnnxParser(network, make_logger(trt, messages))
    if not parser.parse(model, str(path)):
        reasons = [parser.get_error(i).desc() for i in range(parser.num_errors)]
        raise SessionError(
            f"TensorRT {trt.__version__} cannot read {path.name}: "
            f"{'; '.join(reasons) or messages.last()}"
        )
    config = _config(trt, builder, options)
    for ranges in profiles:
        _add_profile(builder, config, ranges)
    monitor = None if progress is None else make_monitor(trt, progress, path.stem)
    if monitor is not None:
        config.progress_monitor = monitor
    built = builder.build_serialized_network(network, config)
    if monitor is not None and monitor.interrupted is not None:
        raise monitor.interrupted
    if built is None:
        raise _build_error(path, options, messages)
    _save_timings(config, options)
    return bytes(memoryview(built))


def _network_flags(trt: ModuleType) -> int:
    flag = trt.NetworkDefinitionCreationFlag
    return 1 << int(flag.STRONGLY_TYPED) | 1 << int(flag.PREFER_AOT_PYTHON_PLUGINS)


def _config(trt: ModuleType, builder: Any, options: EngineOptions) -> Any:
    config = builder.create_builder_config()
    # float32 means float32 here; tensor-float would pass for it with 10 bits of mantissa
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
    return SessionError(f"TensorRT cannot build {path.stem}: {messages.last()}")


def _save_timings(config: Any, options: EngineOptions) -> None:
    if options.timing_cache is None:
        return
    part = options.timing_cache.with_name(options.timing_cache.name + ".part")
    part.write_bytes(bytes(memoryview(config.get_timing_cache().serialize())))
    part.replace(options.timing_cache)
