"""The blocks of code in a page of the documentation, and a folder in which they run."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np

ROOT = Path(__file__).resolve().parents[2]


class Block(NamedTuple):
    """A block of a page: its language, whether it is marked ``no-run``, and what it holds."""

    language: str
    skipped: bool
    code: str


def blocks_of(page: str) -> list[Block]:
    """The blocks for the shell and for Python in a page, named relative to the checkout."""
    text = (ROOT / page).read_text(encoding="utf-8")
    found = re.findall(r"^```(sh|python)( no-run)?\n(.*?)^```$", text, re.M | re.S)
    return [Block(language, bool(skipped), code) for language, skipped, code in found]


def run_blocks(page: str, folder: Path) -> int:
    """Run the blocks of a page in order; gives how many ran."""
    environment = {
        "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", "HOME": str(folder),
        "OMP_NUM_THREADS": "1",
    }  # fmt: skip
    ran = 0
    for language, skipped, code in blocks_of(page):
        if skipped:
            continue
        command = ["bash", "-euc", code] if language == "sh" else [sys.executable, "-c", code]
        done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, f"{code}\n{done.stdout}{done.stderr}"
        ran += 1
    return ran


def check_lines_can_be_typed(page: str) -> None:
    """Parse the command lines that do not run, such as those that need a network."""
    from sam2rt.cli.main import command_group

    group = command_group()
    for block in blocks_of(page):
        for line in block.code.splitlines() if block.skipped else ():
            words = line.split("#")[0].split()
            if words[:1] == ["sam2rt"]:
                command = group.commands[words[1]]
                command.make_context(words[1], words[2:])


def write_media(folder: Path) -> None:
    """What pages take for granted: a clip and a photograph of 640 x 360 pixels."""
    small = np.random.default_rng(0).integers(0, 255, (9, 16, 3), np.uint8)
    picture = cv2.resize(small, (640, 360), interpolation=cv2.INTER_CUBIC)
    cv2.imwrite(str(folder / "photo.jpg"), picture)
    writer = cv2.VideoWriter(
        str(folder / "clip.mp4"), cv2.VideoWriter.fourcc(*"mp4v"), 25, (640, 360)
    )
    for i in range(4):
        writer.write(np.roll(picture, 3 * i, axis=1))
    writer.release()
