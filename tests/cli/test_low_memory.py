"""Low memory is called low memory, by whichever library it is met first."""

from __future__ import annotations

import importlib
import os
import resource
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from sam2rt.cli import main as cli
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import LowMemoryError, MissingExtraError, SessionError, means_low_memory
from sam2rt.runtime import packages
from sam2rt.runtime.backends.onnxruntime_session import OnnxRuntimeSession

_MB = 1 << 20
_END = ": ask for less at a time, or free some"


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="limits of Linux")
@pytest.mark.parametrize("limit", [350, 450, 500, 600])
def test_a_command_with_little_memory(limit: int, bundle: Bundle, tmp_path: Path) -> None:
    image = tmp_path / "i.png"
    cv2.imwrite(str(image), np.zeros((240, 320, 3), np.uint8))
    command = [sys.executable, "-m", "sam2rt", "segment", str(image)]
    command += ["--bundle", str(bundle.path), "--point", "5,5", "--threads", "1"]
    done = subprocess.run(
        [*command, "-o", str(tmp_path / "o.png")], capture_output=True, text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (limit * _MB, limit * _MB)),
    )  # fmt: skip
    # what fits depends on the machine; what is said does not
    if done.returncode == 0:
        assert done.stderr == ""
        return
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith("sam2rt: not enough memory ")
    assert done.stderr.endswith(f"{_END}\n")


@pytest.mark.parametrize(
    ("error", "low"),
    [
        (MemoryError(), True),
        (ImportError("libx.so: failed to map segment from shared object"), True),
        (ImportError("No module named 'cv2'"), False),
        (OSError(12, "Cannot allocate memory"), True),
        (RuntimeError("can't start new thread"), True),
        (RuntimeError("Exception during initialization: std::bad_alloc"), True),
        (RuntimeError("out of luck"), False),
    ],
)
def test_words_of_libraries(error: Exception, low: bool) -> None:
    assert means_low_memory(error) is low


@pytest.mark.parametrize(
    ("words", "kind"),
    [
        ("libopencv.so: failed to map segment from shared object", LowMemoryError),
        ("libopencv.so: cannot open shared object file", MissingExtraError),
    ],
)
def test_a_library_that_does_not_load(
    words: str, kind: type[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(name: str) -> Any:
        raise ImportError(words)

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(kind):
        packages.opencv("drawing overlays")


def test_a_graph_without_memory_is_a_session_and_a_memory_error(bundle: Bundle) -> None:
    class Full:
        def run(self, *_: Any) -> Any:
            raise RuntimeError("Failed to allocate memory for requested buffer of size 9")

    session = OnnxRuntimeSession(bundle, threads=1)
    session._graphs["mask_prompt"] = Full()
    for kind in (SessionError, MemoryError):
        with pytest.raises(kind) as caught:
            session.run("mask_prompt", {"mask": np.zeros((1, 1, 256, 256), np.float32)})
        assert str(caught.value) == f"not enough memory to run graph mask_prompt on cpu{_END}"


def test_a_full_disk_is_told_what_fixes_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of a place that no line of ours is about; other errors of the system stay as they are."""
    for code, end in ((28, ": free space on that disk"), (2, "")):
        error = OSError(code, os.strerror(code), "/x/y")

        def fail(args: list[str], error: OSError = error) -> int:
            raise error

        monkeypatch.setattr(sys.modules["sam2rt.cli.main"], "_run", fail)
        with pytest.raises(SystemExit) as done:
            cli([])
        assert done.value.code == 1
        said = f"sam2rt: [Errno {code}] {os.strerror(code)}: '/x/y'{end}\n"
        assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError(12, "Cannot allocate memory"), "([Errno 12] Cannot allocate memory)"),
        (RuntimeError("can't start new thread"), "(can't start new thread)"),
    ],
)
def test_what_the_system_says(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(args: list[str]) -> int:
        raise error

    monkeypatch.setattr(sys.modules["sam2rt.cli.main"], "_run", fail)
    with pytest.raises(SystemExit) as done:
        cli([])
    assert done.value.code == 1
    assert capsys.readouterr().err == f"sam2rt: not enough memory {line}{_END}\n"
