"""A bundle behind links, as stores of data keep it, is loaded and run where it lies."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from sam2rt import Bundle, ImagePredictor
from sam2rt.runtime.backends.onnxruntime_session import OnnxRuntimeSession

FRAME = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)


def _masks(bundle: Bundle, backend: str = "onnxruntime") -> np.ndarray:
    with ImagePredictor(bundle, backend=backend, threads=1) as image:
        image.set_image(FRAME)
        return image.predict([[20, 30]], [1])[2]


def _linked(bundle: Bundle, folder: Path, layout: str) -> Path:
    """A folder of links: files side by side (Hugging Face), or one folder each (git-annex, DVC)."""
    snapshot = folder / "snapshots" / "revision"
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(p for p in bundle.path.iterdir() if p.is_file())):
        blob = folder / "blobs" / (str(number) if layout == "apart" else "") / f"{number:064d}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, blob)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


@pytest.mark.parametrize("layout", ["beside", "apart"])
def test_graphs_and_their_weights_open_behind_links(
    bundle: Bundle, tmp_path: Path, layout: str
) -> None:
    linked = Bundle.load(_linked(bundle, tmp_path, layout))
    np.testing.assert_array_equal(_masks(linked), _masks(bundle))


@pytest.mark.parametrize("layout", ["beside", "apart"])
def test_openvino_opens_them_too(bundle: Bundle, tmp_path: Path, layout: str) -> None:
    pytest.importorskip("openvino", reason="the package openvino is not installed")
    linked = Bundle.load(_linked(bundle, tmp_path, layout))
    np.testing.assert_array_equal(_masks(linked, "openvino"), _masks(bundle, "openvino"))


def test_a_bundle_opens_after_the_working_folder_changed(
    bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(bundle.path.parent)
    named = Bundle.load(bundle.path.name)
    monkeypatch.chdir(tmp_path)
    with OnnxRuntimeSession(named, threads=1) as session:
        assert "image_encoder" in session.graphs
    np.testing.assert_array_equal(_masks(named), _masks(bundle))
