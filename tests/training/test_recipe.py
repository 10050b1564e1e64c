"""The recipe: its defaults are the command's and what the documentation says."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from sam2rt.cli import main
from sam2rt.cli.commands.train import train
from sam2rt.configs.models import MODELS
from sam2rt.training import run
from sam2rt.training.recipe import COOL_DOWN, Recipe

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "training.md").read_text(encoding="utf-8")
#: fields of the recipe that are no options
FIXED = {"warm_up", "longer_from", "weights", "average"}
#: options that are no fields: they do not decide the outcome
ASIDE = {"folder", "hours", "device", "threads", "as_json", "quiet"}


def test_the_command_without_options_follows_the_recipe(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    followed: list[Recipe] = []

    def noted(recipe: Recipe, folder: Path, **_: Any) -> run.Trained:
        followed.append(recipe)
        return run.Trained(0, folder / "w")

    monkeypatch.setattr(run, "train", noted)
    with pytest.raises(SystemExit, match="0"):
        main(["train", str(tmp_path / "r")])
    assert followed == [Recipe()]
    options = {param.name for param in train.params} - ASIDE
    assert options == {f.name for f in fields(Recipe)} - FIXED


def test_the_documentation_gives_the_defaults() -> None:
    table = PAGE.partition("## The recipe")[2].partition("\n## ")[0]
    shown = dict(re.findall(r"^\| `--([a-z-]+)` \| ([^|]+) \|", table, re.MULTILINE))
    wanted = {
        name.replace("_", "-"): str(getattr(Recipe(), name))
        for name in (f.name for f in fields(Recipe))
        if name not in {*FIXED, "start", "data"}
    }
    wanted["model"] = Recipe().model.name
    wanted["cool-down"] = f"{COOL_DOWN}, at most a third of `--steps`"
    assert shown == wanted
    curriculum = re.findall(r"^\| `--([a-z-]+)` (\d+) \|", PAGE, re.MULTILINE)
    assert curriculum == [
        (name, wanted[name]) for name in ("clips-from", "plain-only", "balanced-until", "steps")
    ]


def test_the_documentation_names_options_that_exist() -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]*", PAGE))
    assert named <= {option for param in train.params for option in param.opts}


def test_fine_tuning_starts_where_the_curriculum_ends() -> None:
    tiny = MODELS["sam2.1_hiera_tiny"]
    tuned = Recipe(steps=500, rate=2e-5, seed=3).fine_tuned(tiny)
    assert (tuned.model, tuned.steps, tuned.rate, tuned.seed) == (tiny, 500, 2e-5, 3)
    assert (tuned.warm_up, Recipe(steps=20).fine_tuned(tiny).warm_up) == (50, 20)
    assert tuned.weights_at(0) == tuned.weights
    assert "hard" in tuned.batch_plan(0).levels
    frames = {tuned.batch_plan(step).frames - tuned.batch_plan(step).burn_in for step in range(50)}
    assert frames == {1, tuned.longest}


def test_the_record_holds_every_field(tmp_path: Path) -> None:
    record = json.loads(json.dumps(Recipe(data=tmp_path, steps=30).describe()))
    assert set(record) == {f.name for f in fields(Recipe)}
    assert (record["model"], record["data"]) == ("sam2rt_micro", str(tmp_path))
    assert record["cool_down"] == 10


@pytest.mark.parametrize("missing", ["torch", "safetensors"])
def test_without_the_extra_it_is_one_line(missing: str, tmp_path: Path) -> None:
    code = (
        f"import sys; sys.modules['{missing}'] = None\n"
        "from sam2rt.cli import main; main(['train', sys.argv[1]])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "r")], capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr == f"sam2rt: training needs the package '{missing}': " + (
        "pip install 'sam2rt[export]'\n"
    )
    assert list(tmp_path.iterdir()) == []
