"""``sam2rt masks``: what lies in the folder, and when there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam2rt.cli import main
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import FrameError
from sam2rt.runtime.media.images import read_image
from sam2rt.runtime.pixels.rle import mask_from_rle
from sam2rt.runtime.predictors.mask_generator import MaskGenerator
from sam2rt.runtime.session import Session
from sam2rt.runtime.tasks.masks import write_image_masks

#: untrained weights find much the same everywhere: keep all of it
SETTINGS = {
    "points_per_side": 2,
    "pred_iou_thresh": 0.0,
    "stability_score_thresh": 0.0,
    "box_nms_thresh": 1.0,
}
OPTIONS = [f"--{name.replace('_', '-')}={value}" for name, value in SETTINGS.items()]


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 40, (60, 80, 3), np.uint8)
    pixels[10:40, 10:50] += 150
    path = tmp_path_factory.mktemp("image") / "scene.png"
    Image.fromarray(pixels).save(path)
    return path


def run(*args: str | Path, capsys: pytest.CaptureFixture[str], code: int = 0) -> tuple[str, str]:
    with pytest.raises(SystemExit) as done:
        main([str(a) for a in args])
    out, err = capsys.readouterr()
    assert done.value.code == code, err
    return out, err


def test_the_folder_holds_what_the_generator_found(
    bundle: Bundle,
    session: Session,
    image: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    records = MaskGenerator(bundle, session=session, **SETTINGS).generate(read_image(image))
    target = tmp_path / "out"
    args = ["masks", image, "--bundle", bundle.path, "-o", target, "--threads", "1", *OPTIONS]
    out, err = run(*args, capsys=capsys)
    assert (out, err) == (f"{len(records)} masks written to {target}\n", "")
    content = json.loads((target / "masks.json").read_text())
    assert content["images"] == [{"id": 1, "file_name": "scene.png", "height": 60, "width": 80}]
    assert len(records) == len(content["annotations"]) == 12
    for number, (item, record) in enumerate(zip(content["annotations"], records, strict=True), 1):
        assert item["id"] == number
        mask = mask_from_rle(item["segmentation"])
        np.testing.assert_array_equal(mask, record["segmentation"])
        pixels = read_image(target / item["file_name"])
        np.testing.assert_array_equal(pixels[..., 0], mask * np.uint8(255))
        # COCO's boxes hold the last pixel, the original's end in its middle
        x, y, w, h = record["bbox"]
        last = int(mask.any())
        assert item["bbox"] == [x, y, w + last, h + last]
        if np.isnan(record["stability_score"]):
            assert item["stability_score"] is None
            item["stability_score"] = np.nan
        for name in set(record) - {"segmentation", "bbox"}:
            np.testing.assert_allclose(item[name], record[name], rtol=0, atol=1e-6)
    names = {a["file_name"] for a in content["annotations"]} | {"masks.json", "overlay.png"}
    assert {p.name for p in target.iterdir()} == names
    overlay = read_image(target / "overlay.png")
    covered = np.any([r["segmentation"] for r in records], axis=0)
    changed = (overlay != read_image(image)).any(axis=2)
    assert changed[covered].mean() > 0.95


def test_where_nothing_passes_it_says_what_would_help(
    bundle: Bundle, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["masks", image, "--bundle", bundle.path, "-o", tmp_path / "out", "--threads", "1"]
    out, _ = run(*args, "--points-per-side", "2", "--pred-iou-thresh", "1", capsys=capsys)
    assert out == (
        f"0 masks written to {tmp_path / 'out'}\n"
        "for more, lower --pred-iou-thresh and --stability-score-thresh\n"
    )


def test_options_reach_the_generator(
    bundle: Bundle, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Everything suppressed but one mask a point, and no images of masks."""
    args = ["masks", image, "--bundle", bundle.path, "-o", tmp_path / "out", "--threads", "1"]
    out, _ = run(*args, *OPTIONS, "--single", "--no-masks", capsys=capsys)
    assert out.startswith("4 masks")
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"masks.json", "overlay.png"}


def test_nothing_found_is_a_result(
    bundle: Bundle, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    args = ["masks", image, "--bundle", bundle.path, "-o", tmp_path / "out", "--threads", "1"]
    out, _ = run(*args, *OPTIONS, "--pred-iou-thresh", "0.99999", capsys=capsys)
    assert out.startswith("0 masks")
    content = json.loads((tmp_path / "out" / "masks.json").read_text())
    assert content["annotations"] == []
    np.testing.assert_array_equal(read_image(tmp_path / "out" / "overlay.png"), read_image(image))


def test_bad_input_is_one_line_and_leaves_nothing(
    bundle: Bundle, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "out"
    missing = tmp_path / "missing.png"
    cases = [
        ([missing, "--bundle", bundle.path], f"{missing} does not exist"),
        ([image, "--bundle", tmp_path], "expected a bundle at"),
        ([image, "--bundle", bundle.path, "--device", "tpu"], "unknown device 'tpu'"),
        ([image, "--bundle", bundle.path, "--crop-n-layers", "2", "--points-per-side", "3",
          "--crop-n-points-downscale-factor", "2"], "0 points a side"),
    ]  # fmt: skip
    for args, message in cases:
        out, err = run("masks", *args, "-o", target, capsys=capsys, code=1)
        assert out == ""
        assert err.startswith("sam2rt: ")
        assert err.count("\n") == 1
        assert message in err
        assert not target.exists()
    _, err = run(
        "masks", image, "--bundle", bundle.path, "-o", target, "--points-per-side", "0",
        capsys=capsys, code=2,
    )  # fmt: skip
    assert "--points-per-side" in err


def test_an_interrupt_leaves_the_earlier_result(
    session: Session, image: Path, tmp_path: Path
) -> None:
    target = tmp_path / "out"
    arguments: dict[str, Any] = {"session": session, "settings": SETTINGS}
    write_image_masks(session.bundle, image, target, **arguments)
    before = {p.name: p.read_bytes() for p in target.iterdir()}

    def interrupt(what: str, done: int = 0, total: int | None = None) -> None:
        if what == "writing masks" and done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_image_masks(session.bundle, image, target, progress=interrupt, **arguments)
    assert {p.name: p.read_bytes() for p in target.iterdir()} == before
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_a_broken_image_writes_nothing(session: Session, tmp_path: Path) -> None:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"not an image")
    with pytest.raises(FrameError, match="cannot read the image"):
        write_image_masks(session.bundle, broken, tmp_path / "out", session=session)
    assert not (tmp_path / "out").exists()
