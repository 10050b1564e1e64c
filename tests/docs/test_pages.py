"""Pages read well and stay true: lines and sentences are short, paths and modules exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import structure

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md")]
_FOLDERS = "configs|plugins|runtime|export|training|benchmarks|cli|tests|docs"


def _missing(page: Path) -> list[str]:
    text = page.read_text(encoding="utf-8")
    paths = re.findall(rf"`((?:{_FOLDERS})/[\w/.+-]*)`", text)
    modules = re.findall(rf"\bsam2rt\.((?:{_FOLDERS})(?:\.\w+)+)", text)
    return [path for path in paths if not (ROOT / path).exists()] + [
        module for module in modules if not _is_module(module)
    ]


def _is_module(name: str) -> bool:
    """Whether a dotted name is a module, or a name in one."""
    path = ROOT / name.replace(".", "/")
    whole = path.with_suffix(".py").is_file() or (path / "__init__.py").is_file()
    return whole or path.parent.with_suffix(".py").is_file()


def test_paths_and_modules_in_the_documentation_exist() -> None:
    assert len(PAGES) > 10
    assert {page.name: found for page in PAGES if (found := _missing(page))} == {}


def test_a_path_that_has_gone_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("See `runtime/ort.py` and sam2rt.runtime.trt.TensorRTSession, `docs/cpp.md`.\n")
    assert _missing(page) == ["runtime/ort.py", "runtime.trt.TensorRTSession"]


def _sentences(text: str) -> Iterator[str]:
    """Sentences of the prose: code, tables, headings and link lists left out."""
    prose = re.sub(r"```.*?```", "\n\n", text, flags=re.S)
    for block in re.split(r"\n\s*\n|\n(?=[-*#|>]|\d+\.)", prose):
        if not block.lstrip().startswith(("|", "#", "[")):
            yield from re.split(r"(?<=[.!?])\s+", " ".join(block.split()))


def test_lines_have_120_characters_at_most() -> None:
    assert structure.long_lines(ROOT) == []


def test_sentences_have_forty_words_at_most() -> None:
    long = {
        f"{page.name}: {sentence[:60]}"
        for page in PAGES
        for sentence in _sentences(page.read_text(encoding="utf-8"))
        if len(sentence.split()) > 40
    }
    assert long == set()
    assert [len(s.split()) for s in _sentences("One two. Three\n- four five six\n")] == [2, 1, 4]
