"""Weights that lie in another folder than their graph, as stores of data keep them."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from cpp_library import Image, Library

from sam2rt import ImagePredictor
from sam2rt.configs.bundle import Bundle
from sam2rt.runtime.session import Session

pytestmark = pytest.mark.slow


def _linked(bundle: Bundle, folder: Path, apart: bool) -> Path:
    """A folder of links: files side by side (Hugging Face), or one folder each (git-annex, DVC)."""
    snapshot = folder / "snapshots" / "revision"
    snapshot.mkdir(parents=True)
    for number, file in enumerate(sorted(p for p in bundle.path.iterdir() if p.is_file())):
        blob = folder / "blobs" / (str(number) if apart else "") / f"{number:064d}"
        blob.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, blob)
        (snapshot / file.name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


@pytest.mark.parametrize("apart", [False, True], ids=["beside", "apart"])
def test_graphs_and_their_weights_open_behind_links(
    library: Library, micro_bundle: Bundle, micro_session: Session, tmp_path: Path, apart: bool
) -> None:
    frame = np.random.default_rng(0).integers(0, 256, (60, 80, 3), np.uint8)
    expected = ImagePredictor(micro_bundle, session=micro_session)
    expected.set_image(frame)
    wanted = expected.predict(np.array([[20, 30]]), np.array([1]))
    linked = library.bundle(_linked(micro_bundle, tmp_path, apart))
    image = Image(library, library.session(linked))
    image.set(frame)
    masks, ious = image.predict([[20, 30]], [1], box=None, multimask=True)
    np.testing.assert_array_equal(masks, wanted[0])
    np.testing.assert_array_equal(ious, wanted[1])
