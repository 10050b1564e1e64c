"""``sam2rt train``: what its options become, and one line for what cannot be done."""

from __future__ import annotations

import json
import queue
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.numpy import save_file

from sam2rt.cli import main
from sam2rt.configs.errors import FrameError
from sam2rt.training import average, batches, run
from sam2rt.training.batches import FolderSource, PrefetchedBatches, synthetic_source
from sam2rt.training.recipe import BatchPlan, Recipe


def failed(command: Any, *args: str | Path, capsys: pytest.CaptureFixture[str]) -> str:
    """The message a command ends with: a single line, no traceback."""
    with pytest.raises(SystemExit) as done:
        command([str(a) for a in args])
    assert done.value.code not in (None, 0)
    (line,) = capsys.readouterr().err.splitlines()
    return line


def train(args: list[str]) -> None:
    main(["train", *args])


@pytest.mark.parametrize(
    ("args", "cool_down"),
    [
        (["--steps", "500"], 166),
        (["--steps", "13500"], 4000),
        (["--steps", "500", "--cool-down", "450"], 450),
    ],
)
def test_a_short_run_reaches_its_rate(
    args: list[str], cool_down: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained: list[Recipe] = []

    def trainer(recipe: Recipe, device: str) -> Any:
        trained.append(recipe)
        return SimpleNamespace(step=0, save_weights=lambda path: None)

    monkeypatch.setattr(run, "Trainer", trainer)
    monkeypatch.setattr(run, "run", lambda *_, **__: None)
    folder = tmp_path / "run"
    with pytest.raises(SystemExit, match="0"):
        train([str(folder), "--model", "micro", "--rate", "2e-5", *args])
    (recipe,) = trained
    assert recipe.falling_steps == cool_down
    assert json.loads((folder / "recipe.json").read_text())["cool_down"] == cool_down
    if "--cool-down" not in args:
        assert max(recipe.rate_at(step) for step in range(recipe.steps)) == 2e-5


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--steps", "-3"], "-3 is not in the range x>=1"),
        (["--cool-down", "-1"], "-1 is not in the range x>=0"),
        (["--clips", "2"], "2.0 is not in the range 0<=x<=1"),
        (["--objects", "0"], "0 is not in the range x>=1"),
        (["--seed", "-1"], "-1 is not in the range x>=0"),
        (["--threads", "99999"], "99999 is not in the range 0<=x<=1024"),
        (["--data", "nowhere"], "sam2rt: nowhere holds no annotated video: expected JPEGImages/"),
        (["--from", "nowhere.pt"], "nowhere.pt"),
        (["--device", "abacus"], "sam2rt: --device abacus cannot be used here ("),
    ],
)
def test_bad_options_are_one_line(
    args: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    line = failed(train, tmp_path / "r", "--model", "micro", *args, capsys=capsys)
    assert message in line
    assert list(tmp_path.iterdir()) == []


def test_broken_files_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    state, weights = tmp_path / "state.pt", tmp_path / "w.safetensors"
    state.write_text("no state")
    line = failed(train, tmp_path, "--model", "micro", "--steps", "1", capsys=capsys)
    assert line.startswith(f"sam2rt: {state} is no state of this model's training (")
    assert state.read_text() == "no state"
    weights.write_text("no weights")
    line = failed(train, tmp_path / "r", "--from", weights, capsys=capsys)
    assert line.startswith(f"sam2rt: {weights} is no checkpoint")
    line = failed(average.main, weights, "-o", tmp_path / "mean", capsys=capsys)
    assert line.startswith(f"sam2rt: {weights} is no safetensors file, or truncated (")
    assert not (tmp_path / "mean").exists()
    save_file({"a": np.ones(2, np.float32)}, weights)
    line = failed(average.main, weights, "-o", tmp_path / "no" / "mean", capsys=capsys)
    assert "there is no folder" in line
    line = failed(train, weights, capsys=capsys)
    assert f"Directory '{weights}' is a file" in line
    torch.save({"model": {}}, state)
    line = failed(train, tmp_path, "--model", "micro", "--steps", "1", capsys=capsys)
    assert "is no state of this model's training" in line


def test_an_unreadable_image_is_named(tmp_path: Path) -> None:
    for part, name in (("JPEGImages", "0.jpg"), ("Annotations", "0.png")):
        (tmp_path / part / "v").mkdir(parents=True)
        (tmp_path / part / "v" / name).write_text("no picture")
    with pytest.raises(FrameError, match=r"cannot read the image .*0\.png \(cannot identify"):
        FolderSource(tmp_path)
    # a map is looked at before the work, an image when it is drawn
    Image.fromarray(np.ones((4, 4), np.uint8)).save(tmp_path / "Annotations" / "v" / "0.png")
    plan = BatchPlan(1, 1, 1, ("plain",), 32)
    drawn: queue.Queue[Any] = queue.Queue()
    batches._draw(drawn, 0, lambda step: plan, FolderSource(tmp_path), 0)
    said = drawn.get_nowait()
    assert said.startswith("an image or mask cannot be read (cannot identify image file ")
    assert said.endswith("): fix it or take its video out")
    drawing = PrefetchedBatches(0, lambda step: plan, synthetic_source, 0)
    drawing._queue = SimpleNamespace(get=lambda timeout: said)
    with pytest.raises(FrameError) as refused:
        next(drawing._batches())
    assert str(refused.value) == said
