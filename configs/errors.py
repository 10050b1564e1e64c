"""The errors sam2rt raises on purpose.

Each is a subclass of the built-in type a caller would expect, so code written for the
original predictors keeps catching what it caught. Every message is one line: what was
expected, what was found, what fixes it.
"""

from __future__ import annotations


class Sam2rtError(Exception):
    """Base of every error raised on purpose; the CLI prints its message as one line.

    What cannot be printed is escaped: names in files may hold what a terminal obeys.
    """

    def __init__(self, message: str = "") -> None:
        super().__init__(printable(message))


def printable(text: str) -> str:
    """The text with characters that cannot be printed as their escapes; spaces stay."""
    if text.isprintable():
        return text
    return "".join(
        c if c.isprintable() or c in "\n\t" else c.encode("unicode_escape").decode() for c in text
    )


class InputError(Sam2rtError, ValueError):
    """A prompt, a frame or an argument that cannot be used."""


class FrameError(InputError):
    """A video, folder or frame that cannot be read."""


class StateError(Sam2rtError, RuntimeError):
    """A call that the present state does not allow, such as propagating without prompts."""


class BundleError(Sam2rtError, ValueError):
    """A bundle that is missing, incomplete, edited or of another schema."""


class CheckpointError(Sam2rtError, ValueError):
    """A file that is no SAM 2 checkpoint, or one of another model than asked for."""


class ProofError(Sam2rtError, ValueError):
    """An export or engine whose outputs differ from the reference by more than its bound."""


class SessionError(Sam2rtError, RuntimeError):
    """A backend that cannot be opened or that failed while running a graph."""


class NotFiniteError(SessionError):
    """Graphs that gave NaN or infinity where numbers are expected."""


class LowMemoryError(SessionError, MemoryError):
    """No memory for what was asked, whichever library said so and in whatever words."""

    def __init__(self, what: str) -> None:
        super().__init__(f"not enough memory {what}: ask for less at a time, or free some")


#: how libraries say that there is no memory: C++, C, the loader of libraries, torch, ONNX Runtime
_NO_MEMORY = (
    "bad_alloc", "Cannot allocate memory", "failed to map segment", "can't allocate memory",
    "Failed to allocate memory", "can't start new thread", "Insufficient memory",
)  # fmt: skip


def means_low_memory(error: BaseException) -> bool:
    """Whether the error says that there is no memory, whatever its type."""
    if isinstance(error, MemoryError):
        return True
    return any(words in str(error) for words in _NO_MEMORY)


class StorageError(Sam2rtError, OSError):
    """A result that cannot be written for what the machine lacks, such as room on its disk.

    why: what the system said; remedy: what fixes it.
    """

    def __init__(self, path: object, why: str, remedy: str) -> None:
        super().__init__(f"{path} cannot be written ({why}): {remedy}")
        self.why, self.remedy = why, remedy


class MissingToolError(Sam2rtError, ImportError):
    """A labelling tool or the like that sam2rt plugs into and no extra installs."""


class MissingExtraError(Sam2rtError, ImportError):
    """A feature whose optional packages are not installed, or do not load for the reason `why`."""

    def __init__(self, feature: str, package: str, extra: str, why: str = "") -> None:
        line = f"{feature} needs the package '{package}'"
        if why:
            line += f", which is installed and does not load ({why})"
            super().__init__(f"{line}: install what it lacks, or {package} again")
        else:
            super().__init__(f"{line}: pip install 'sam2rt[{extra}]'")
