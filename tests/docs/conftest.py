"""What the pages take for granted, once for all of them."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import torch
from bundles import SharedBundles
from page_blocks import write_media

from sam2rt.export.checkpoint.load import load_checkpoint


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory, shared_bundles: SharedBundles) -> Path:
    """A folder with a checkpoint, its bundle, a clip and a photograph."""
    path = tmp_path_factory.mktemp("pages")
    # trained: with random weights rounding grows from frame to frame, and one proof on fresh inputs
    # in five hundred fails by it
    torch.save({"model": load_checkpoint("sam2rt_micro").state}, path / "sam2.1_hiera_tiny.pt")
    shutil.copytree(shared_bundles.built_in().path, path / "bundle")
    write_media(path)
    return path
