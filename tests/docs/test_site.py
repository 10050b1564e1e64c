"""The site of the documentation: it builds without a warning, and its links lead somewhere."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import pytest
import site_links
import site_pages
import structure

ROOT = Path(__file__).resolve().parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]


@pytest.mark.slow
def test_it_builds_without_warnings_and_within_two_minutes(tmp_path: Path) -> None:
    pytest.importorskip("furo")
    started = time.monotonic()
    command = [sys.executable, str(ROOT / "docs" / "site" / "make_site.py"), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert time.monotonic() - started < 120
    html = tmp_path / "html"
    index = (html / "searchindex.js").read_text(encoding="utf-8")
    found = json.loads(index[index.index("{") : index.rindex("}") + 1])
    assert {"troubleshooting", "reference/python", "reference/errors"} <= set(found["docnames"])
    # a pasted error leads to its page
    assert "uint8" in found["terms"]
    python = (html / "reference" / "python.html").read_text(encoding="utf-8")
    assert "propagate_in_video" in python
    commands = (html / "reference" / "commands.html").read_text(encoding="utf-8")
    assert "--engine-variants" in commands
    llms = (html / "llms.txt").read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)]+)\)", llms):
        assert (html / target).is_file(), target


@pytest.mark.parametrize(
    ("body", "fault"),
    [
        ('<a href="gone.html">x</a>', "index.html links to gone.html: there is no such file"),
        ('<a href="#gone">x</a>', "index.html links to #gone: there is no such place on that page"),
        (
            '<a href="http://a.example">x</a>',
            "index.html links to http://a.example: expected https",
        ),
        (
            '<script src="https://a.example/x.js"></script>',
            "index.html fetches https://a.example/x.js, which is elsewhere: take it out",
        ),
        (
            '<link rel="stylesheet" href="https://a.example/x.css">',
            "index.html fetches https://a.example/x.css, which is elsewhere: take it out",
        ),
    ],
)
def test_what_is_wrong_with_a_page_is_found(body: str, fault: str, tmp_path: Path) -> None:
    page = tmp_path / "index.html"
    page.write_text(f'<p id="here">{body}</p>')
    assert site_links.faults(tmp_path) == [fault]
    page.write_text('<p id="here"><a href="#here">x</a><a href="https://a.example">y</a></p>')
    assert site_links.faults(tmp_path) == []


def test_a_style_sheet_that_fetches_fonts_is_found(tmp_path: Path) -> None:
    (tmp_path / "x.css").write_text("a { background: url(https://a.example/x.png) }")
    assert site_links.faults(tmp_path) == ["x.css fetches from elsewhere: take it out"]


def test_links_go_where_the_site_has_them() -> None:
    text = "[a](../CONTRIBUTING.md#tests) [b](cpp.md) [c](https://x.example) `[d](gone.md)`\n"
    page = ROOT / "docs" / "architecture.md"
    moved = site_pages.with_links(text, page, lambda path: f"<{path.name}>")
    assert moved == (
        "[a](<CONTRIBUTING.md>#tests) [b](<cpp.md>) [c](https://x.example) `[d](gone.md)`\n"
    )


def test_drawings_keep_every_arrow() -> None:
    drawing = structure.drawing(ROOT)
    dot = site_pages.with_drawings(f"```mermaid\n{drawing}```\n")
    arrows = re.findall(r"(\w+) --> (\w+)", drawing)
    assert re.findall(r"^(\w+) -> (\w+);$", dot, re.M) == arrows
    assert dot.count("{") == dot.count("}")
    assert 'runtime_tasks [label="runtime/tasks"];' in dot


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_commands_on_every_page_can_be_typed(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Most blocks run elsewhere; of all others at least the options are real."""
    from sam2rt.cli.main import command_group

    monkeypatch.chdir(tmp_path)
    for bundle in ("TINY", "TRAINED", "TRAINED_INT8", "FP32", "BF16", "INT8"):
        (tmp_path / bundle).mkdir()
    group = command_group()
    for block in re.findall(r"```(?:sh|text)?[^\n]*\n(.*?)```", page.read_text(), re.S):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line.split(" #")[0]) if line.startswith("sam2rt ") else []
            if words[1:] and words[1] in group.commands and "..." not in words:
                group.commands[words[1]].make_context(words[1], words[2:])


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_python_on_every_page_compiles(page: Path) -> None:
    for block in re.findall(r"```python[^\n]*\n(.*?)```", page.read_text(), re.S):
        compile(block, page.name, "exec")
