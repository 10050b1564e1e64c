"""The README is code: its blocks run, in order, on a small model under the names it uses."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from sam2rt.export.checkpoint.load import load_checkpoint
from sam2rt.export.proof.report import BOUNDS

ROOT = Path(__file__).resolve().parents[2]
README = (ROOT / "README.md").read_text()
BLOCKS = re.findall(r"^```(sh|python)( no-run)?\n(.*?)^```$", README, re.M | re.S)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the README takes for granted: a checkpoint, a clip, a photograph."""
    path = tmp_path_factory.mktemp("readme")
    # trained: with random weights rounding grows from frame to frame, and one proof on fresh inputs
    # in five hundred fails by it
    torch.save({"model": load_checkpoint("sam2rt_micro").state}, path / "sam2.1_hiera_tiny.pt")
    small = np.random.default_rng(0).integers(0, 255, (9, 16, 3), np.uint8)
    picture = cv2.resize(small, (640, 360), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(path / "photo.jpg"), picture)
    writer = cv2.VideoWriter(
        str(path / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (640, 360)
    )
    for i in range(4):
        writer.write(np.roll(picture, 3 * i, axis=1))
    writer.release()
    return path


def test_blocks_run_in_order(folder: Path) -> None:
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    ran = 0
    for language, skipped, code in BLOCKS:
        if skipped:
            continue
        command = ["bash", "-euc", code] if language == "sh" else [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
        ran += 1
    assert ran == 7
    for made in _MADE:
        assert (folder / made).is_file(), made


_MADE = [
    "out/overlay.mp4", "out/sheet.png", "out/masks.json", "out/masks/1/00003.png",
    "segmented/mask_1.png", "boxes/mask_2.png", "bundle512/manifest.json", "refined/mask_1.png",
    "two/masks/2/00003.png", "backwards/masks/1/00001.png",
]  # fmt: skip


def test_it_opens_with_two_commands_that_set_everything_up() -> None:
    assert [line.split("#")[0].split() for line in BLOCKS[0][2].splitlines()] == [
        ["make", "demo"], ["make", "test"],
    ]  # fmt: skip
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert {"demo", "test"} <= set(re.findall(r"^(\w+):", makefile, re.MULTILINE))


def test_two_more_go_from_a_checkpoint_to_a_tracked_video() -> None:
    language, skipped, code = BLOCKS[1]
    assert (language, skipped) == ("sh", "")
    assert [line.split()[:2] for line in code.splitlines()] == [
        ["sam2rt", "export"], ["sam2rt", "track"],
    ]  # fmt: skip


def test_blocks_that_do_not_run_use_real_options() -> None:
    """What needs a network is at least parsed."""
    from sam2rt.cli.main import command_group

    group = command_group()
    for _, skipped, code in BLOCKS:
        for line in code.splitlines() if skipped else ():
            words = line.split("#")[0].split()
            if words[:1] == ["sam2rt"]:
                command = group.commands[words[1]]
                command.make_context(words[1], words[2:])


def test_bounds_are_those_of_the_code() -> None:
    rows = re.findall(
        r"^\| (fp32|fp16|bf16|int8) \| ([\d.e-]+).*?\| ([\d.]+) \| ([\d.]+) \|$", README, re.M
    )
    found = {name: tuple(map(float, numbers)) for name, *numbers in rows}
    assert found == {name: (b.relative, b.cosine, b.iou) for name, b in BOUNDS.items()}


def test_links_lead_somewhere() -> None:
    for target in re.findall(r"\]\((?!http)([^)#]+)", README):
        assert (ROOT / target).exists(), target
