"""What an import costs, and which way imports go."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from sam2rt.configs.bundle import Bundle

ROOT = Path(__file__).resolve().parents[2]
_LOADED = "import sys, json; print(json.dumps(sorted({m.partition('.')[0] for m in sys.modules})))"


def _loaded_after(code: str, cwd: Path) -> set[str]:
    """Top-level modules that `code` adds to a fresh interpreter, standard library left out."""

    def run(source: str) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-c", source], capture_output=True, text=True, check=True, cwd=cwd
        )
        return set(json.loads(done.stdout.splitlines()[-1]))

    return run(f"{code}; {_LOADED}") - run(_LOADED) - set(sys.stdlib_module_names)


def test_importing_the_package_loads_numpy_at_most(tmp_path: Path) -> None:
    assert _loaded_after("import sam2rt", tmp_path) <= {"sam2rt", "numpy"}


def test_public_errors_and_bundle_load_numpy_at_most(tmp_path: Path) -> None:
    code = "import sam2rt; sam2rt.Bundle; sam2rt.InputError; sam2rt.MissingExtraError"
    assert _loaded_after(code, tmp_path) <= {"sam2rt", "numpy"}


def test_importing_has_no_side_effects(tmp_path: Path) -> None:
    code = (
        "import os, sys, signal, threading, warnings\n"
        "before = dict(os.environ), list(sys.path), list(warnings.filters), sys.flags\n"
        "handler = signal.getsignal(signal.SIGINT)\n"
        "import sam2rt\n"
        "after = dict(os.environ), list(sys.path), list(warnings.filters), sys.flags\n"
        "assert before == after\n"
        "assert signal.getsignal(signal.SIGINT) is handler\n"
        "assert threading.active_count() == 1\n"
    )
    env = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    done = subprocess.run(
        [sys.executable, "-B", "-c", code], capture_output=True, text=True, cwd=tmp_path, env=env
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert list(tmp_path.iterdir()) == []


_USE_EVERYTHING = """
import numpy as np
import sam2rt
bundle = sam2rt.Bundle.load({path!r})
frame = np.random.default_rng(0).integers(0, 255, (40, 60, 3), np.uint8)
with sam2rt.ImagePredictor(bundle, threads=1) as image:
    image.set_image(frame)
    masks, ious, low = image.predict([[30, 20]], [1])
assert masks.shape == (3, 40, 60), masks.shape
with sam2rt.VideoPredictor(bundle, threads=1) as video:
    state = video.init_state([frame] * 3)
    video.add_new_points_or_box(state, 0, 1, points=[[30, 20]], labels=[1])
    assert len(list(video.propagate_in_video(state))) == 3
with sam2rt.StreamTracker(bundle, threads=1) as tracker:
    tracker.add_points(1, [[30, 20]], [1])
    assert tracker.step(frame).masks.shape == (1, 40, 60)
"""


def test_running_a_bundle_loads_neither_torch_nor_onnx(bundle: Bundle, tmp_path: Path) -> None:
    code = _USE_EVERYTHING.format(path=str(bundle.path))
    loaded = _loaded_after(f"exec({code!r})", tmp_path)
    assert "onnxruntime" in loaded
    assert not {"torch", "onnx", "onnxscript", "transformers", "safetensors"} & loaded


def test_unknown_public_name_is_an_attribute_error() -> None:
    import sam2rt

    with pytest.raises(AttributeError, match="module 'sam2rt' has no attribute 'Predictor'"):
        _ = sam2rt.Predictor


def test_the_tests_use_the_installed_package_alone() -> None:
    """The checkout's root is itself a package: collecting must not import it a second time."""
    import sam2rt

    folder = Path(sam2rt.__file__).resolve().parent
    again = [
        name
        for name, module in list(sys.modules.items())
        if name.partition(".")[0] != "sam2rt"
        and (file := getattr(module, "__file__", None))
        and Path(file).is_absolute()
        and Path(file).resolve().parent in (folder, folder / "configs", folder / "runtime")
    ]
    assert again == []


def _lint_imports(folder: Path) -> subprocess.CompletedProcess[str]:
    code = (
        "import sys; from importlinter.cli import lint_imports; "
        "sys.exit(lint_imports(config_filename='pyproject.toml', no_cache=True))"
    )
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=folder)


@pytest.fixture
def package_copy(tmp_path: Path) -> Path:
    copied = shutil.copytree(
        ROOT, tmp_path / "sam2rt",
        # build may change meanwhile: another process compiles there
        ignore=shutil.ignore_patterns(
            ".*", "tests", "docs", "build", "dist", "out", "bundles", "*.egg-info", "__pycache__"
        ),
    )  # fmt: skip
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    return copied


def test_import_contracts_hold(package_copy: Path) -> None:
    done = _lint_imports(package_copy.parent)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Contracts: 15 kept, 0 broken." in done.stdout


@pytest.mark.parametrize(
    ("file", "line", "broken"),
    [
        ("runtime/tasks/planted.py", "import torch\n", "reach neither torch nor onnx"),
        ("runtime/tasks/planted.py", "from ...export import bundle\n", "data flows one way"),
        ("configs/planted.py", "from .. import runtime\n", "data flows one way"),
        ("plugins/planted.py", "def f():\n    import onnx\n", "reach neither torch nor onnx"),
        ("export/proof/planted.py", "def f():\n    import torch\n", "reach neither torch nor onnx"),
        (
            "export/engines/planted.py",
            "from ..graphs import int8\n",
            "reach neither torch nor onnx",
        ),
        ("export/proof/planted.py", "from ..engines import build\n", "rooms of the export"),
        ("export/model/planted.py", "from .. import graphs\n", "rooms of the export"),
        ("runtime/pixels/planted.py", "from .. import tracking\n", "rooms of the runtime"),
        ("runtime/backends/planted.py", "from .. import media\n", "rooms of the runtime"),
        ("runtime/planted.py", "", "rooms of the runtime"),
        ("benchmarks/synthetic/planted.py", "from .. import speed\n", "rooms of the benchmarks"),
        ("cli/planted.py", "", "rooms of the command line"),
        ("runtime/tasks/planted.py", "import click\n", "click is known to the command line"),
        ("serving/sessions/planted.py", "import click\n", "click is known to the command line"),
        ("serving/sessions/planted.py", "import starlette\n", "web libraries are known to"),
        (
            "runtime/tasks/planted.py",
            "def f():\n    import uvicorn\n",
            "web libraries are known to",
        ),
        ("benchmarks/speed/planted.py", "import uvicorn\n", "benchmarks know the server"),
        ("export/planted.py", "from ..serving import sessions\n", "data flows one way"),
        ("serving/planted.py", "from ..export import bundle\n", "data flows one way"),
        ("serving/sessions/planted.py", "from ..web import app\n", "rooms of the serving"),
        ("serving/sessions/planted.py", "def f():\n    import ray\n", "Ray is known to the room"),
        ("serving/many/clips.py", "from . import plan\n", "rooms of many clips"),
        ("serving/web/planted.py", "def f():\n    import torch\n", "serving reaches neither"),
    ],
)
def test_a_planted_import_breaks_its_contract(
    package_copy: Path, file: str, line: str, broken: str
) -> None:
    (package_copy / file).write_text(line)
    done = _lint_imports(package_copy.parent)
    assert done.returncode == 1
    report = next(row for row in done.stdout.splitlines() if broken in row)
    assert "BROKEN" in report
