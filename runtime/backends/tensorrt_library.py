"""TensorRT as a library: the module, its version, and the one logger of a process."""

from __future__ import annotations

import contextlib
import importlib
import re
import weakref
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any

from ...configs.errors import MissingExtraError, SessionError

OLDEST = (10, 13)


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
    if release(trt.__version__) < OLDEST:
        raise SessionError(
            f"expected TensorRT {'.'.join(map(str, OLDEST))} or later, found {trt.__version__}: "
            "pip install -U 'sam2rt[tensorrt]'"
        )
    return trt


def builder_module() -> ModuleType:
    """TensorRT, else TensorRT-RTX, which builds where there is no GPU; SessionError without both.

    Engines of TensorRT-RTX are none that TensorRT loads: what it tells of a graph counts.
    """
    try:
        return tensorrt_module()
    except MissingExtraError:
        for name in ("tensorrt_rtx", "tensorrt_rtx_bindings"):
            with contextlib.suppress(ImportError, OSError):
                return importlib.import_module(name)
    raise SessionError(
        "a dry run needs NVIDIA's builder, found neither TensorRT nor TensorRT-RTX: "
        "pip install 'sam2rt[tensorrt]', or where there is no GPU: pip install tensorrt-rtx"
    )


def library_name(trt: ModuleType) -> str:
    """What users call the library, with its version."""
    kind = "TensorRT-RTX" if trt.__name__.startswith("tensorrt_rtx") else "TensorRT"
    return f"{kind} {trt.__version__}"


def release(version: str) -> tuple[int, ...]:
    """(major, minor) of a version such as 10.16.1.11."""
    return tuple(int(part) for part in version.split(".")[:2])


@dataclass(eq=False)
class Messages:
    """What TensorRT logged: it reports most failures there and returns nothing."""

    errors: list[str] = field(default_factory=list)
    #: all it said, as it said it; None: nobody wants to know
    transcript: list[str] | None = None

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
    # a builder and its parser share their messages, which hear each line once
    others = [r for r in listeners if r() is not None and r() is not messages]
    listeners[:] = [*others, weakref.ref(messages)]
    return logger


def _new_logger(trt: ModuleType, listeners: list[weakref.ref[Messages]]) -> Any:
    severity = trt.ILogger.Severity
    serious = {severity.INTERNAL_ERROR, severity.ERROR}

    class Logger(trt.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()

        def log(self, level: Any, text: str) -> None:
            line = " ".join(text.split())
            for listener in [r() for r in listeners]:
                if listener is not None and listener.transcript is not None:
                    listener.transcript.append(text)
            about_memory = any(word in line.lower() for word in _MEMORY_WORDS)
            if level in serious or (level == severity.WARNING and about_memory):
                for listener in [r() for r in listeners]:
                    if listener is not None:
                        listener.errors.append(line)

    return Logger()


_MEMORY_WORDS = (
    "out of memory",
    "outofmemory",
    "insufficient memory",
    "memory allocation",
    "could not be allocated",
)


#: how TensorRT's allocator names what it asked for
_REQUESTED = re.compile(r"(?:memory|size)\D{0,20}?(\d+) ?bytes", re.IGNORECASE)
