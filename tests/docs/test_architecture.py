"""The page on the architecture: its drawing is the code's, and every step names what there is."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import structure

ROOT = Path(__file__).resolve().parents[2]

PAGE = (ROOT / "docs" / "architecture.md").read_text()
STEPS = re.findall(r"^\| \d+ \| `([\w/]+\.py)` \| `([\w.]+)` \|", PAGE, re.M)


def defined(file: str) -> set[str]:
    """Functions, classes and methods of a file, methods as Class.method."""
    names = set()
    for node in ast.parse((ROOT / file).read_text()).body:
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            names.add(node.name)
        if isinstance(node, ast.ClassDef):
            names |= {f"{node.name}.{n.name}" for n in node.body if isinstance(n, ast.FunctionDef)}
    return names


def test_the_drawing_is_made_from_the_imports() -> None:
    (drawn,) = re.findall(r"```mermaid\n(.*?)```", PAGE, re.S)
    assert drawn == structure.drawing(ROOT)


def test_every_step_of_the_three_ways_is_in_the_code() -> None:
    assert len(STEPS) == 14 + 13 + 12
    assert [(file, name) for file, name in STEPS if name not in defined(file)] == []


def test_the_table_of_rooms_names_every_room_of_the_root() -> None:
    table = re.findall(r"^\| `(\w+)` \|", PAGE, re.M)
    rooms = {name.partition("/")[0] for name in structure.files_per_room(ROOT)} - {"."}
    assert sorted(table) == sorted(rooms)
