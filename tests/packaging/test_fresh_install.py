"""What pip makes of an extra, in an environment of its own: every command, right and wrong."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from bundles import SharedBundles
from hidden_modules import run_commands

ROOT = Path(__file__).resolve().parents[2]
_NAMES = "import click; from sam2rt.cli.main import command_group; print(*command_group().commands)"


@pytest.mark.slow
def test_every_command_after_a_fresh_install(shared_bundles: SharedBundles, tmp_path: Path) -> None:
    """``pip install '.[cpu]'`` alone: a command succeeds or says in one line what is missing."""
    checkout, home = tmp_path / "checkout", tmp_path / "venv"
    outside = (
        "tests", "docs", "build", "dist", "out", "bundles", "examples", "notebooks", ".*",
        "__pycache__",
    )  # fmt: skip
    shutil.copytree(ROOT, checkout, ignore=shutil.ignore_patterns(*outside))
    subprocess.run([sys.executable, "-m", "venv", str(home)], check=True)
    python = home / "bin" / "python"
    pip = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    constraints = ["-c", str(ROOT / "constraints.txt")]
    done = subprocess.run(
        [*pip, *constraints, f"{checkout}[cpu]"], capture_output=True, text=True, cwd=tmp_path
    )
    if done.returncode:
        pytest.skip(f"pip cannot install here: {done.stderr.strip().splitlines()[-1]}")
    environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}
    names = subprocess.run(
        [str(python), "-c", _NAMES], capture_output=True, text=True, cwd=tmp_path, check=True
    ).stdout.split()
    bundle = shared_bundles.built_in(seed=0, precision="fp32").path
    wrong = [[name, "--nope"] for name in names]
    right = [["--help"], *([name, "--help"] for name in names)]
    work = {
        ("export", "sam2rt_micro", "-o", "made"): "torch",
        ("verify", str(bundle)): "",
        ("verify", str(bundle), "--checkpoint", "sam2rt_micro"): "torch",
        ("inspect", str(bundle)): "",
        ("build", str(bundle)): "tensorrt",
        ("train", "trained", "--steps", "1"): "torch",
        ("eval", "synthetic", "--clips", "1", "--frames", "3", "--bundle", str(bundle)): "",
        ("accuracy", "sam2rt_micro"): "torch",
        ("bench", str(bundle), "--frames", "1", "--checkpoint", "sam2rt_micro"): "torch",
        ("demo", "-o", "d"): "torch",
        ("doctor", str(bundle)): "",
        ("plugins",): "",
    }
    lines = [*wrong, *right, *map(list, work)]
    found = run_commands(lines, environment, tmp_path, python=python)
    assert [said.code for said in found[: len(wrong)]] == [2] * len(wrong)
    assert [said.code for said in found[len(wrong) : -len(work)]] == [0] * len(right)
    for words, said in zip(lines, found, strict=True):
        assert "Traceback" not in said.out + said.err, words
        assert said.code == 0 or said.err.count("\n") == 1, words
    for (words, lacking), said in zip(work.items(), found[-len(work) :], strict=True):
        assert said.code == (1 if lacking else 0), f"{words}: {said.err}"
        # the exporter's packages are missed in the order of its imports
        packages = ("'torch'", "'onnx'") if lacking == "torch" else (f"'{lacking}'",)
        assert not lacking or any(f"the package {name}: " in said.err for name in packages), words
