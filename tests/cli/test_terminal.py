"""Names that a terminal would obey are printed as their escapes, by every command."""

from __future__ import annotations

import json
import re
import shutil
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image

from sam2rt.cli import main as cli
from sam2rt.cli import progress_line
from sam2rt.cli.group import make_group
from sam2rt.cli.progress_line import ProgressLine
from sam2rt.configs.bundle import Bundle
from sam2rt.training import average

#: clears the screen, renames the window, writes from right to left; 8-bit forms, too
EVIL = "a\x1b[2Jb\x1b]0;c\x07d\u202ee\x9bf"
#: as it is printed
ESCAPED = r"a\x1b[2Jb\x1b]0;c\x07d\u202ee\x9bf"


@pytest.fixture
def evil(tmp_path: Path, bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of that name, with a bundle, a clip and a data set of that name."""
    folder = tmp_path / EVIL
    folder.mkdir()
    shutil.copytree(bundle.path, folder / EVIL)
    for part in (f"{EVIL}.clip", f"data/JPEGImages/{EVIL}", f"data/Annotations/{EVIL}"):
        (folder / part).mkdir(parents=True)
    for t in range(3):
        frame = np.full((48, 64, 3), 40, np.uint8)
        frame[10:30, 10 + 4 * t : 34 + 4 * t] = (60, 190, 230)
        Image.fromarray(frame).save(folder / f"{EVIL}.clip" / f"{t}.png")
        Image.fromarray(frame).save(folder / "data" / "JPEGImages" / EVIL / f"{t:05d}.jpg")
        labels = Image.fromarray((frame[..., 0] == 60).astype(np.uint8))
        labels.putpalette([0, 0, 0, 255, 0, 0])
        labels.save(folder / "data" / "Annotations" / EVIL / f"{t:05d}.png")
    # every report of progress becomes a line
    monkeypatch.setattr(progress_line, "EVERY", 0.0)
    monkeypatch.setenv("SAM2RT_CACHE", str(folder / "cache"))
    return folder


#: a line of each command and its code; BUNDLE, CLIP, DATA and OUT are places in the evil folder
QUICK: dict[str, tuple[str, int]] = {
    "accuracy": ("OUT/none.pt -o OUT/page --work OUT/work", 1),
    "bench": ("OUT/none", 1),
    "build": ("OUT/none", 1),
    "demo": ("OUT/none.pt -o OUT/demo", 1),
    "doctor": ("OUT/none", 1),
    "download": ("OUT", 1),
    "eval": ("DATA --bundle BUNDLE --threads 1 --processes 1 --json OUT/r.json", 0),
    "export": ("OUT/none.pt -o OUT/b", 1),
    "inspect": ("OUT/none", 1),
    "masks": ("CLIP/0.png --bundle BUNDLE --points-per-side 1 --threads 1 -o OUT/m", 0),
    "segment": ("CLIP/0.png --bundle BUNDLE --point 20,20 --threads 1 -o OUT/s.png", 0),
    "serve": ("OUT/none", 1),
    "track": ("CLIP --bundle BUNDLE --point 20,20 --threads 1 -o OUT/t", 0),
    "track-many": ("CLIP --bundle BUNDLE --point 20,20 --processes 1 -o OUT/n", 0),
    "triton": ("OUT/none -o OUT/r", 1),
    "train": ("OUT/run --from OUT/none.pt", 1),
    "verify": ("OUT/none", 1),
}
LONG: dict[str, tuple[str, int]] = {
    "demo": ("-o OUT/demo --frames 2 --threads 1", 0),
    "export": ("WEIGHTS -o OUT/b --threads 1", 0),
    "train": ("OUT/run --model micro --steps 1 --images 1 --objects 1 --threads 1", 0),
    "verify": ("BUNDLE --threads 1", 0),
}
#: commands that print no name of a file
NAMELESS = {"plugins"}


def _said(line: str, code: int, evil: Path, capfd: pytest.CaptureFixture[str]) -> str:
    places = {
        "BUNDLE": evil / EVIL, "CLIP": evil / f"{EVIL}.clip", "DATA": evil / "data", "OUT": evil,
        "WEIGHTS": evil / f"{EVIL}.pt",
    }  # fmt: skip
    words = [re.sub("^[A-Z]+", lambda m: str(places.get(m[0], m[0])), w) for w in line.split()]
    with pytest.raises(SystemExit) as done:
        cli(words)
    out, err = capfd.readouterr()
    assert done.value.code == code, err
    return out + err


def _check(said: str) -> None:
    assert ESCAPED in said or json.dumps(EVIL)[1:-1] in said
    raw = {c for c in said if not c.isprintable()} - {"\n"}
    assert raw == set()


def test_every_command_is_walked() -> None:
    assert set(QUICK) | NAMELESS == set(make_group().commands)
    assert set(LONG) <= set(QUICK)


@pytest.mark.parametrize("command", QUICK)
def test_names_command_no_terminal(
    command: str, evil: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    line, code = QUICK[command]
    _check(_said(f"{command} {line}", code, evil, capfd))


@pytest.mark.parametrize("command", ["eval", "masks", "segment", "track"])
def test_nor_does_json(command: str, evil: Path, capfd: pytest.CaptureFixture[str]) -> None:
    line, code = QUICK[command]
    line = line.replace(" --json OUT/r.json", "") + " --json"
    _check(_said(f"{command} {line}", code, evil, capfd))


@pytest.mark.slow
@pytest.mark.parametrize("command", LONG)
def test_names_command_no_terminal_at_the_end_either(
    command: str, evil: Path, shared_bundles: Any, capfd: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(shared_bundles.weights(), evil / f"{EVIL}.pt")
    line, code = LONG[command]
    said = _said(f"{command} {line}", code, evil, capfd)
    assert {c for c in said if not c.isprintable()} - {"\n"} == set()
    if command in ("demo", "export"):
        assert ESCAPED in said


def test_a_line_of_progress_is_one_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal:
        text = ""

        def isatty(self) -> bool:
            return True

        def write(self, text: str) -> None:
            self.text += text

        def flush(self) -> None:
            pass

        def fileno(self) -> int:
            raise OSError

    stream: Any = Terminal()
    with ProgressLine(stream, delay=0.0) as progress:
        progress(f"{EVIL}\n\tmore\x85lines", 1, 2)
    assert stream.text.replace("\r\033[K", "") == f"{ESCAPED} more lines 1 of 2 (50 %)"


def test_the_mean_of_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from safetensors.numpy import save_file

    weights = tmp_path / f"{EVIL}.safetensors"
    save_file({"a": np.zeros(1, np.float32)}, weights)
    average.main([str(weights), "-o", str(tmp_path / f"{EVIL}.mean")])
    _check(capsys.readouterr().out)
    monkeypatch.setattr(sys, "argv", ["average"])
    with pytest.raises(SystemExit):
        average.main([str(weights), "-o", str(tmp_path / EVIL / "none")])
    _check(capsys.readouterr().err)


def test_what_cannot_be_encoded_is_escaped_too(
    bundle: Bundle, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """Names of files are bytes: here are some that are no UTF-8."""
    image = tmp_path / "i.png"
    cv2.imwrite(str(image), np.zeros((48, 64, 3), np.uint8))
    target = tmp_path / "o\udcff"
    with pytest.raises(SystemExit) as done:
        cli(["segment", str(image), "--bundle", str(bundle.path), "--point", "5,5", "-o",
             str(target)])  # fmt: skip
    out, err = capfd.readouterr()
    assert done.value.code == 0, err
    assert r"o\udcff" in out + err
    assert target.exists()
