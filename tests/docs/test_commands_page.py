"""The page on the command line: its table is the group's, its lines can be typed, its file read."""

from __future__ import annotations

import json
import re
import shlex
import signal
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sam2rt.cli.completion import VARIABLE
from sam2rt.cli.main import INTERRUPTED, command_group
from sam2rt.cli.signals import Ended
from sam2rt.runtime.tasks.prompt_file import load_prompts

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "commands.md").read_text()


def test_the_table_has_every_command_in_the_order_of_the_help() -> None:
    table = PAGE.partition("## Prompts")[0]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.M) == list(command_group().commands)


def test_lines_can_be_typed() -> None:
    group = command_group()
    lines = [
        line for block in re.findall(r"```sh\n(.*?)```", PAGE, re.S) for line in block.splitlines()
    ]
    assert len(lines) == 6
    for line in lines:
        program, name, *rest = shlex.split(line)
        assert program == "sam2rt"
        group.commands[name].make_context(name, rest)


def test_options_on_the_page_exist() -> None:
    known = {o for c in group_params() for o in c.opts}
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+", PAGE))
    assert named - known == set()


def group_params() -> list:  # type: ignore[type-arg]
    return [p for command in command_group().commands.values() for p in command.params]


def test_the_file_of_prompts_is_read_as_the_page_says(tmp_path: Path) -> None:
    (block,) = re.findall(r"```json\n(.*?)```", PAGE, re.S)
    (tmp_path / "p.json").write_text(block)
    ids = np.zeros((540, 960), np.uint8)
    ids[:100], ids[200:300] = 7, 9
    Image.fromarray((ids > 0) * np.uint8(255)).save(tmp_path / "mask.png")
    Image.fromarray(ids).save(tmp_path / "annotation.png")
    found = load_prompts(str(tmp_path / "p.json"))
    assert [(p.obj_id, p.frame_idx) for p in found] == [
        (1, 0),
        (2, 0),
        (3, 5),
        (4, 5),
        (7, 9),
        (9, 9),
    ]
    assert found[0].points == ((210.0, 350.0, 1), (20.0, 20.0, 0))
    assert found[1].box == (300.0, 0.0, 500.0, 400.0)
    assert len(json.loads(block)["prompts"]) == 5


@pytest.mark.parametrize(
    ("code", "meaning"),
    [(INTERRUPTED, "Ctrl-C"), (Ended(signal.SIGTERM).code, "SIGTERM"), (129, "SIGHUP")],
)
def test_exit_codes_are_those_of_the_code(code: int, meaning: str) -> None:
    (row,) = [line for line in PAGE.splitlines() if line.startswith(f"| {code} |")]
    assert meaning in row


def test_the_variable_of_the_completion_is_the_code_s() -> None:
    assert PAGE.count(VARIABLE) == 3
