"""Copies the pages to where Sphinx reads them: links, drawings and the table of contents change."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path, PurePosixPath

ROOT = Path(__file__).resolve().parents[2]
#: pages of the checkout's root that the site has too
ROOT_PAGES = ("CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
#: the site's order; what is not named goes to the end of "More"
CONTENTS = {
    "Start": ("install", "tutorial", "models", "coming_from_sam2", "troubleshooting"),
    "Guides": (
        "guides/index", "guides/checkpoints", "guides/images", "guides/video", "commands",
        "guides/labelling/index", "guides/labelling/cvat", "guides/labelling/label_studio",
        "guides/labelling/xanylabeling", "guides/labelling/supervision",
        "guides/labelling/labelme", "guides/labelling/fiftyone",
        "training", "benchmarks", "tensorrt", "openvino", "pycuda", "cpp",
    ),
    "Concepts": ("architecture", "concepts/proof", "concepts/trust", "accuracy", "glossary"),
    "Reference": (
        "reference/python", "reference/commands", "reference/cpp", "reference/c",
        "reference/errors",
    ),
    "More": ("decisions/index", "releases", "CHANGELOG", "CONTRIBUTING", "SECURITY"),
}  # fmt: skip
_LINK = re.compile(r"(\]\(|^\[[^\]]+\]: )(?!https?:|#|mailto:)([^)#\s]+)", re.M)


def copied_pages(target: Path, repository: str, drawn: bool) -> list[str]:
    """Copy every page and picture to `target`; gives the pages by name, without their suffix.

    repository: address of the checkout's files, for links to what is no page. drawn: whether
    Graphviz draws what GitHub draws with Mermaid.
    """
    sources = {f"{name[:-3]}.md": ROOT / name for name in ROOT_PAGES}
    docs = ROOT / "docs"
    for path in sorted(docs.rglob("*")):
        if path.is_file() and path.suffix in (".md", ".png", ".webp", ".svg"):
            sources[path.relative_to(docs).as_posix()] = path
    places = {path: name for name, path in sources.items()}
    for name, path in sources.items():
        copy = target / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix != ".md":
            shutil.copyfile(path, copy)
            continue
        text = with_links(path.read_text(encoding="utf-8"), path, _placed(name, places, repository))
        copy.write_text(with_drawings(text) if drawn else text, encoding="utf-8")
    return [name[:-3] for name in sources if name.endswith(".md")]


def with_links(text: str, page: Path, place: Callable[[Path], str]) -> str:
    """The text of `page` with each link to a file of the checkout as `place` says."""

    def moved(match: re.Match[str]) -> str:
        return match[1] + place((page.parent / match[2]).resolve())

    parts = re.split(r"(```.*?```|`[^`\n]*`)", text, flags=re.S)
    return "".join(p if p.startswith("`") else _LINK.sub(moved, p) for p in parts)


def _placed(name: str, places: dict[Path, str], repository: str) -> Callable[[Path], str]:
    up = "../" * (len(PurePosixPath(name).parts) - 1)

    def place(file: Path) -> str:
        if file in places:
            return up + places[file]
        if not file.exists():
            raise SystemExit(f"{name} links to {file}, which does not exist: mend the link")
        return f"{repository}/{file.relative_to(ROOT).as_posix()}"

    return place


def with_drawings(text: str) -> str:
    """Mermaid's flowcharts as Graphviz's, which draws without a script from elsewhere."""
    return re.sub(r"```mermaid\n(.*?)```", lambda m: _dot(m[1]), text, flags=re.S)


def _dot(flowchart: str) -> str:
    lines = ["rankdir=TB;", 'node [shape=box, fontname="sans-serif", fontsize=11];']
    for line in flowchart.splitlines()[1:]:
        line = line.strip()
        if group := re.fullmatch(r"subgraph (\w+)", line):
            lines.append(f'subgraph cluster_{group[1]} {{ label="{group[1]}"; fontsize=11;')
        elif line == "end":
            lines.append("}")
        elif node := re.fullmatch(r"(\w+)(\[.+\])", line):
            lines.append(f"{node[1]} [label={node[2][1:-1]}];")
        elif line:
            lines.append(f"{line.replace('-->', '->')};")
    return "\n".join(["```{graphviz}", "digraph {", *lines, "}", "```"])


def with_contents(index: Path, pages: list[str]) -> None:
    """Add the tables of contents to the first page; every page has a place in one of them."""
    named = [name for names in CONTENTS.values() for name in names]
    rest = sorted(set(pages) - set(named) - {"index"})
    text = index.read_text(encoding="utf-8")
    for caption, names in CONTENTS.items():
        entries = [*names, *(rest if caption == "More" else [])]
        body = "\n".join(entry for entry in entries if entry in pages)
        text += f"\n```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{body}\n```\n"
    index.write_text(text, encoding="utf-8")


def first_sentence(page: Path) -> tuple[str, str]:
    """The title of a page and the first sentence of its prose."""
    text = re.sub(r"```.*?```", "", page.read_text(encoding="utf-8"), flags=re.S)
    title = next((line[2:] for line in text.splitlines() if line.startswith("# ")), page.stem)
    prose = [b for b in re.split(r"\n\s*\n", text) if b.strip() and b.lstrip()[0] not in "#|-!<:"]
    sentence = re.split(r"(?<=[.:])\s", " ".join(prose[0].split()))[0] if prose else ""
    return title, re.sub(r"\[([^\]]+)\](\([^)]*\)|\[[^\]]*\])", r"\1", sentence)
