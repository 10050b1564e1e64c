"""Guides are code: their blocks run, in order, on a small model under the names they use."""

from __future__ import annotations

import json
import re
from pathlib import Path

import cv2
import numpy as np
import pytest
from page_blocks import blocks_of, check_lines_can_be_typed, run_blocks

from sam2rt.benchmarks.synthetic.clips import make_clip
from sam2rt.export.proof.report import BOUNDS
from sam2rt.runtime.pixels.rle import mask_from_rle

ROOT = Path(__file__).resolve().parents[2]
#: each page with the number of its blocks that run and some of what they leave
PAGES = {
    "docs/install.md": (1, ()),
    "docs/tutorial.md": (7, ("first/demo.mp4", "image/overlay.png", "tracked/overlay.mp4")),
    "docs/concepts/proof.md": (1, ()),
    "docs/guides/checkpoints.md": (1, ("bundle512/manifest.json",)),
    "docs/guides/images.md": (
        4,
        ("segmented/mask_1.png", "boxes/mask_2.png", "refined/mask_1.png"),
    ),
    "docs/guides/video.md": (
        4,
        ("first.png", "two/masks/2/00003.png", "backwards/masks/1/00001.png"),
    ),
}


@pytest.mark.parametrize("page", PAGES)
def test_blocks_run_in_order(page: str, folder: Path) -> None:
    ran, made = PAGES[page]
    assert run_blocks(page, folder) == ran
    assert [name for name in made if not (folder / name).is_file()] == []


@pytest.mark.parametrize("page", [*PAGES, "docs/models.md", "docs/guides/many_clips.md"])
def test_blocks_that_do_not_run_use_real_options(page: str) -> None:
    assert blocks_of(page)
    check_lines_can_be_typed(page)


def test_the_tutorial_finds_the_object_that_it_clicks(folder: Path) -> None:
    """Its clip is the demonstration's, whose masks are known."""
    if not (folder / "tracked" / "masks.json").is_file():
        run_blocks("docs/tutorial.md", folder)
    labels = make_clip(5, "plain", 12).labels
    clicked = labels[0][190, 65]
    assert clicked > 0
    found = cv2.imread(str(folder / "image" / "mask_1.png"), cv2.IMREAD_GRAYSCALE) > 0
    assert _iou(found, labels[0] == clicked) > 0.9
    document = json.loads((folder / "tracked" / "masks.json").read_text())
    masks = [mask_from_rle(entry["segmentation"]) for entry in document["annotations"]]
    assert len(masks) == 12
    ious = [_iou(mask > 0, labels[t] == clicked) for t, mask in enumerate(masks)]
    assert min(ious) > 0.9


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    return float((first & second).sum() / (first | second).sum())


def test_bounds_are_those_of_the_code() -> None:
    page = (ROOT / "docs" / "concepts" / "proof.md").read_text()
    rows = re.findall(
        r"^\| (fp32|fp16|bf16|int8) \| ([\d.e-]+).*?\| ([\d.]+) \| ([\d.]+) \|$", page, re.M
    )
    found = {name: tuple(map(float, numbers)) for name, *numbers in rows}
    assert found == {name: (b.relative, b.cosine, b.iou) for name, b in BOUNDS.items()}
