"""Official models at 1024 pixels with recipe weights: tiny in every CI run, all of them nightly."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from exported import forget
from golden import recipe_state

from sam2rt.configs.bundle import Bundle
from sam2rt.configs.graphs import graph_specs, per_object_specs
from sam2rt.configs.models import MODELS, model_config
from sam2rt.export.bundle import export_bundle
from sam2rt.export.checkpoint.load import Checkpoint
from sam2rt.export.verify import verify_bundle

OFFICIAL = [n for n in MODELS if n.startswith(("sam2.1_", "sam2_"))]


def check_official(bundle: Bundle, name: str, image_size: int) -> None:
    """The proof held when the bundle was made, and holds again on fresh sessions."""
    for proof in (bundle.proof, verify_bundle(bundle.path, threads=2)):
        check(bundle, proof, name, image_size)


def check(bundle: Bundle, proof: Mapping[str, Any], name: str, image_size: int) -> None:
    """The bundle is that model with all its graphs, and the proof passed on enough results."""
    config = model_config(name).with_image_size(image_size)
    assert bundle.model == config
    specs = graph_specs(config) | per_object_specs(config)
    assert {name: entry.spec for name, entry in bundle.graphs.items()} == specs
    assert proof["status"] == "passed"
    assert proof["clip"]["lowest_iou"] >= 0.99
    assert 2 * proof["clip"]["compared"] >= proof["clip"]["results"] > 0


@pytest.mark.slow
def test_tiny(tiny_bundle: Bundle) -> None:
    check_official(tiny_bundle, "sam2.1_hiera_tiny", 1024)


@pytest.mark.slow
def test_tiny_at_512(tmp_path: Path) -> None:
    name = "sam2.1_hiera_tiny"
    checkpoint = Checkpoint(model_config(name), recipe_state(name), "0" * 64, "the recipe")
    # weights that are not trained, so of one clip: docs/decisions/proof.md
    made = export_bundle(checkpoint, tmp_path / name, image_size=512, threads=2, seed=0)
    check_official(made, name, 512)


def test_there_are_eight() -> None:
    assert len(OFFICIAL) == 8


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(2400)
@pytest.mark.parametrize("name", OFFICIAL)
def test_at_1024_pixels(name: str, tmp_path: Path) -> None:
    """As a user does, in processes of their own: a large model takes many gigabytes."""
    forget()
    weights, target = tmp_path / f"{name}.pt", tmp_path / name
    torch.save({"model": recipe_state(name)}, weights)
    sam2rt("export", weights, "-o", target, "--seed", "0")
    sam2rt("verify", target)
    bundle = Bundle.load(target)
    check(bundle, bundle.proof, name, 1024)
    # a large bundle takes a gigabyte, and so do its weights
    shutil.rmtree(target)
    weights.unlink()


def sam2rt(*arguments: str | Path) -> None:
    command = [
        sys.executable,
        "-c",
        "from sam2rt.cli import main; main()",
        *map(str, arguments),
    ]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
