"""All eight official models: exported at 1024 pixels with recipe weights, and proved twice."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from golden import recipe_state

from sam2rt.configs.bundle import Bundle
from sam2rt.configs.graphs import graph_specs
from sam2rt.configs.models import MODELS, model_config
from sam2rt.export.bundle import export_bundle
from sam2rt.export.checkpoints import Checkpoint
from sam2rt.export.verify import verify_bundle

OTHERS = [n for n in MODELS if n.startswith(("sam2.1_", "sam2_")) and n != "sam2.1_hiera_tiny"]


def judge(bundle: Bundle, name: str, image_size: int) -> None:
    """The bundle is that model, its proof held when made, and holds again on fresh sessions."""
    config = model_config(name).with_image_size(image_size)
    assert bundle.model == config
    assert {k: g.spec for k, g in bundle.graphs.items()} == graph_specs(config)
    for proof in (bundle.proof, verify_bundle(bundle.path, threads=2)):
        assert proof["status"] == "passed"
        assert proof["clip"]["lowest_iou"] >= 0.99
        assert 2 * proof["clip"]["compared"] >= proof["clip"]["results"] > 0


def test_tiny(tiny_bundle: Bundle) -> None:
    judge(tiny_bundle, "sam2.1_hiera_tiny", 1024)


def test_tiny_at_512(tmp_path: Path) -> None:
    name = "sam2.1_hiera_tiny"
    checkpoint = Checkpoint(model_config(name), recipe_state(name), "0" * 64, "the recipe")
    judge(export_bundle(checkpoint, tmp_path / name, image_size=512, threads=2), name, 512)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_others(name: str, tmp_path: Path) -> None:
    checkpoint = Checkpoint(model_config(name), recipe_state(name), "0" * 64, "the recipe")
    judge(export_bundle(checkpoint, tmp_path / name, threads=2), name, 1024)
    # a large bundle takes a gigabyte
    shutil.rmtree(tmp_path / name)
