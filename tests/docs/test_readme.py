"""The README is code: its blocks run, in order, on a small model under the names it uses."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import cv2
import numpy as np
import pytest
from page_blocks import blocks_of, check_lines_can_be_typed, run_blocks
from PIL import Image

from sam2rt.benchmarks.demo import prompts_of
from sam2rt.benchmarks.synthetic.clips import make_clip
from sam2rt.configs.models import MODELS
from sam2rt.export.checkpoint.official import OFFICIAL

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = blocks_of("README.md")


def test_blocks_run_in_order(folder: Path) -> None:
    assert run_blocks("README.md", folder) == 4
    for made in ("out/overlay.mp4", "out/sheet.png", "out/masks.json", "out/masks/1/00003.png"):
        assert (folder / made).is_file(), made


def test_it_fits_a_few_screens() -> None:
    assert len(README.splitlines()) <= 120


def test_it_opens_with_two_commands_that_set_everything_up() -> None:
    assert [line.split("#")[0].split() for line in BLOCKS[0][2].splitlines()] == [
        ["make", "demo"], ["make", "test"],
    ]  # fmt: skip
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"demo", "test"} <= set(re.findall(r"^(\w+):", makefile, re.MULTILINE))


def test_two_more_go_from_a_checkpoint_to_a_tracked_video() -> None:
    language, skipped, code = BLOCKS[1]
    assert (language, skipped) == ("sh", False)
    assert [line.split()[:2] for line in code.splitlines()] == [
        ["sam2rt", "export"], ["sam2rt", "track"],
    ]  # fmt: skip


def test_blocks_that_do_not_run_use_real_options() -> None:
    check_lines_can_be_typed("README.md")


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target


def test_the_lines_of_cpp_compile(tmp_path: Path) -> None:
    compiler = shutil.which("g++")
    if compiler is None:
        pytest.skip("g++ is not here")
    (code,) = re.findall(r"```cpp\n(.*?)```", README, re.S)
    source = tmp_path / "readme.cpp"
    source.write_text(
        "#include <sam2rt/sam2rt.hpp>\n"
        "struct Frame { const unsigned char* data; int width, height; } frame;\n"
        "struct Camera { bool grab(Frame&) { return false; } } camera;\n"
        f"int main() {{\n{code}}}\n"
    )
    include = ROOT / "runtime" / "cpp" / "include"
    done = subprocess.run(
        [compiler, "-std=c++17", "-fsyntax-only", f"-I{include}", str(source)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_figures_are_those_of_the_pages() -> None:
    """The table quotes other pages, which are made from measurements."""
    benchmarks = (ROOT / "docs" / "benchmarks.md").read_text()
    for quoted, measured in (
        ("2.26 s", "| whole frame, float32 | 2262 ms |"),
        ("1.90 s", "| whole frame, int8 encoder | 1901 ms |"),
        ("0.32 s", "| 512 | 323 ms |"),
        ("5.66 s", "| - against transformers, 5664 ms |"),
    ):
        assert quoted in README
        assert measured in benchmarks
    assert "| standard | 0.830 |" in (ROOT / "docs" / "accuracy.md").read_text()


def test_the_table_of_models_names_all_that_can_be_fetched() -> None:
    page = (ROOT / "docs" / "models.md").read_text()
    rows = dict(re.findall(r"^\| `(sam2\S+)` \| [\d.]+ M \| (\d+) MB", page, re.M))
    assert rows == {name: str(round(remote.size / 1e6)) for name, remote in OFFICIAL.items()}
    named = set(re.findall(r"`((?:sam2[\w.]*_)?(?:tiny|small|base_plus|large|micro\w*))`", page))
    assert set(MODELS) <= named | {"micro", "micro20"}


def test_the_moving_picture_shows_the_demonstration() -> None:
    """Left the clip, right the clip with the masks of its two objects."""
    clip = make_clip(5, "plain", 36)
    shown = [prompt.obj_id for prompt in prompts_of(clip)]
    with Image.open(ROOT / "docs" / "demo.webp") as picture:
        assert (picture.n_frames, picture.size) == (36, (512, 256))
        for t in (0, 17, 35):
            picture.seek(t)
            both = np.asarray(picture.convert("RGB")).astype(int)
            left, right = both[:, :256], both[:, 256:]
            assert np.abs(left - clip.frames[t].astype(int)).mean() < 6
            changed = (np.abs(right - left).max(axis=2) > 25).astype(np.uint8)
            painted = cv2.morphologyEx(changed, cv2.MORPH_OPEN, np.ones((3, 3), np.uint8)) > 0
            true = np.isin(clip.labels[t], shown)
            assert (painted & true).sum() / true.sum() > 0.9
            assert (painted & ~true).mean() < 0.03
