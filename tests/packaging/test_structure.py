"""The shape of the house: rooms of a size, no circle of imports, no sniffing at sessions."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
import structure

ROOT = Path(__file__).resolve().parents[2]


def test_no_circle_of_imports_lazy_and_type_only_ones_included() -> None:
    graph = structure.import_graph(ROOT)
    assert len(graph) > 150
    assert "sam2rt.export.bundle" in graph["sam2rt.cli.commands.export"]  # a lazy import
    assert structure.circles(graph) == []


@pytest.mark.parametrize(
    "line",
    [
        "from ..session import Session\n",
        "def f():\n    from .. import session\n",
        "if TYPE_CHECKING:\n    from ..session import Session\n",
    ],
)
def test_a_planted_circle_is_found(line: str, tmp_path: Path) -> None:
    room = tmp_path / "runtime" / "backends"
    room.mkdir(parents=True)
    for folder in (tmp_path, tmp_path / "runtime", room):
        (folder / "__init__.py").write_text("")
    (room / "open.py").write_text(line)
    (tmp_path / "runtime" / "session.py").write_text("def g():\n    from .backends.open import x\n")
    assert structure.circles(structure.import_graph(tmp_path)) == [
        ["sam2rt.runtime.backends.open", "sam2rt.runtime.session"]
    ]


def test_rooms_hold_fifteen_files_at_most() -> None:
    rooms = structure.files_per_room(ROOT)
    assert {room: n for room, n in rooms.items() if n > structure.MOST_FILES} == {}


def test_every_room_says_what_it_is_for_and_what_it_imports() -> None:
    for room in structure.files_per_room(ROOT):
        text = (ROOT / room / "__init__.py").read_text()
        assert text.startswith('"""'), room
        assert room == "." or "import" in text.lower().split('"""')[1], room


def test_a_public_class_name_has_one_meaning(tmp_path: Path) -> None:
    assert structure.shared_class_names(ROOT) == {}
    for file in ("a.py", "b.py"):
        (tmp_path / file).write_text("class Report:\n    pass\n")
    assert structure.shared_class_names(tmp_path) == {"Report": ["a.py", "b.py"]}


def test_functions_stay_short() -> None:
    lengths = structure.function_lengths(ROOT)
    assert lengths[len(lengths) // 2] <= 8
    assert lengths[int(0.95 * len(lengths))] <= 26


def test_no_code_asks_by_name_what_a_session_has() -> None:
    assert structure.sniffed_sessions(ROOT) == []


@pytest.mark.parametrize(
    "line",
    ['fused = getattr(self.session, "fused", False)\n', 'if hasattr(session, "pixels"): pass\n'],
)
def test_a_planted_question_is_found(line: str, tmp_path: Path) -> None:
    (tmp_path / "runtime").mkdir()
    (tmp_path / "runtime" / "planted.py").write_text(line)
    assert structure.sniffed_sessions(tmp_path) == ["runtime/planted.py:1"]


def test_no_large_file_is_tracked() -> None:
    """What a build leaves in the checkout is easily added; weights that ship are the exception."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False)
    if listed.returncode:
        pytest.skip("no git checkout")
    names = [name for name in listed.stdout.decode().split("\0") if (ROOT / name).is_file()]
    large = {name for name in names if (ROOT / name).stat().st_size > 1 << 20}
    assert large == {"export/data/sam2rt_micro.safetensors"}


def test_a_nightly_test_is_a_slow_one() -> None:
    """The fast tier leaves out what is slow, and knows no other mark."""
    marks = [
        (path.name, text[: at.start()].rstrip().splitlines()[-1])
        for path in sorted((ROOT / "tests").rglob("test_*.py"))
        for text in [path.read_text()]
        for at in re.finditer(r"^@pytest\.mark\.nightly$", text, re.M)
    ]
    assert len(marks) >= 3
    assert [mark for mark in marks if mark[1] != "@pytest.mark.slow"] == []
