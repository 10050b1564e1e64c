"""Writes the reference: Python from docstrings, commands from their help, C++ from Doxygen."""

from __future__ import annotations

import ast
import re
import xml.etree.ElementTree as ET
from collections import defaultdict
from pathlib import Path

import click

import sam2rt
from sam2rt.cli.main import command_group
from sam2rt.configs import errors

ROOT = Path(__file__).resolve().parents[2]
_ROOMS = ("configs", "plugins", "runtime", "export", "training", "benchmarks", "serving", "cli")
#: what is not at the front door, by the module that holds it
_FURTHER = {
    "Export and proof": (
        "sam2rt.export.checkpoint.load.load_checkpoint",
        "sam2rt.export.bundle.export_bundle",
        "sam2rt.export.verify.verify_bundle",
        "sam2rt.export.engines.build.build_engines",
    ),
    "Work of the commands": (
        "sam2rt.runtime.tasks.segment.segment_image",
        "sam2rt.runtime.tasks.track.track_video",
    ),
    "Many clips": (
        "sam2rt.serving.many.run.track_many",
        "sam2rt.serving.many.run.Spreading",
        "sam2rt.serving.many.clips.ClipOptions",
        "sam2rt.serving.many.ray.ClipTracker",
    ),
    "Results of a stream": ("sam2rt.runtime.predictors.stream_result.StreamResult",),
    "A backend of your own": ("sam2rt.runtime.session.Session",),
}


def write_python(page: Path) -> None:
    """One entry for each public name of ``sam2rt``, and for what the guides name."""
    # the module of pipelines has an entry below
    names = [name for name in sam2rt.__all__ if not name.startswith("__") and name != "ray"]
    plain = [f"{getattr(sam2rt, n).__module__}.{n}" for n in names if not n.endswith("Error")]
    parts = ["# Python", "Everything here works without torch, but for what exports.", "## sam2rt"]
    parts += [_entry(name) for name in plain]
    for title, further in _FURTHER.items():
        parts += [f"## {title}", *(_entry(name) for name in further)]
    parts.append("## Errors")
    parts.append("Each is told in [Troubleshooting](../troubleshooting.md) by its text.")
    parts += [_entry(f"sam2rt.configs.errors.{name}", members=False) for name in error_classes()]
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _entry(name: str, members: bool = True) -> str:
    value = name.rpartition(".")[2]
    kind = "class" if value[:1].isupper() else "function"
    if value.endswith("Error"):
        kind = "exception"
    lines = ["```{eval-rst}", f".. auto{kind}:: {name}"]
    if kind == "class" and members:
        lines += ["   :members:", "   :inherited-members: object, ABC, Generic"]
    if kind == "exception":
        lines.append("   :show-inheritance:")
    return "\n".join([*lines, "```"])


def error_classes() -> list[str]:
    """The errors that sam2rt raises on purpose, as they stand in the file."""
    tree = ast.parse(Path(errors.__file__).read_text(encoding="utf-8"))
    return [node.name for node in tree.body if isinstance(node, ast.ClassDef)]


def messages() -> dict[str, list[tuple[str, str]]]:
    """Every message that the code raises, by its error: the text with `...` for what is put in."""
    found: dict[str, set[tuple[str, str]]] = defaultdict(set)
    known = set(error_classes())
    for room in _ROOMS:
        for path in sorted((ROOT / room).rglob("*.py")):
            where = path.relative_to(ROOT).as_posix()
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if not isinstance(node, ast.Raise) or not isinstance(node.exc, ast.Call):
                    continue
                name = ast.unparse(node.exc.func).rpartition(".")[2]
                if name in known and node.exc.args:
                    text = _text(node.exc.args)
                    if re.search(r"\w{3}", text):
                        found[name].add((text, where))
    return {name: sorted(found[name]) for name in error_classes() if name in found}


def _text(parts: list[ast.expr]) -> str:
    """The words of a message's expression."""
    words = []
    for part in parts:
        if isinstance(part, ast.JoinedStr):
            words += [v.value if isinstance(v, ast.Constant) else "..." for v in part.values]
        elif isinstance(part, ast.Constant) and isinstance(part.value, str):
            words.append(part.value)
    return " ".join("".join(words).replace("......", "...").split())


def write_errors(page: Path) -> None:
    """Every message, so that the search finds the text that a user pastes."""
    parts = [
        "# Messages",
        "Every message that sam2rt raises on purpose, by its error. `...` stands for what is put "
        "in. What each error means is in [Troubleshooting](../troubleshooting.md).",
    ]
    for name, entries in messages().items():
        parts.append(f"## {name}")
        parts.append(f"See [{name}](../troubleshooting.md#{name.lower()}).")
        parts.append("\n".join(f"- ``{text}`` ({where})" for text, where in entries))
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def write_commands(page: Path) -> None:
    """The help of each command, as the command prints it."""
    group = command_group()
    parts = ["# Commands", "What each command prints for `-h`; [the guide](../commands.md)."]
    for name, command in group.commands.items():
        context = click.Context(command, info_name=f"sam2rt {name}", max_content_width=100)
        parts += [f"## sam2rt {name}", f"```text\n{command.get_help(context)}\n```"]
    page.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def write_cpp(folder: Path, xml: Path | None) -> None:
    """The pages of the C++ and the C interface, from Doxygen's XML where it could be made."""
    headers = sorted((ROOT / "runtime" / "cpp" / "include").rglob("*.h*"))
    title = "# C++\n\nSee [the guide](../cpp.md) for building, lifecycle and threads.\n\n"
    c = "# C\n\nSee [the guide](../cpp.md#c-and-every-language-that-calls-c).\n\n"
    if xml is None:
        names = "\n".join(f"- `{path.relative_to(ROOT).as_posix()}`" for path in headers)
        text = f"Built without Doxygen. Each declaration is told in its header:\n\n{names}\n"
        title, c = title + text, c + text
    else:
        title += "\n\n".join(_doxygen(*found) for found in _classes(xml)) + "\n"
        c += _doxygen("file", "sam2rt.h")
    (folder / "cpp.md").write_text(title, encoding="utf-8")
    (folder / "c.md").write_text(c, encoding="utf-8")


def _classes(xml: Path) -> list[tuple[str, str]]:
    """The kind and the name of each class of the C++ interface."""
    index = ET.parse(xml / "index.xml").getroot()
    found = [(c.get("kind", ""), c.findtext("name", "")) for c in index]
    public = [(kind, n) for kind, n in found if n.startswith("sam2rt::") and "Impl" not in n]
    return [(kind, name) for kind, name in public if kind in ("class", "struct")]


def _doxygen(kind: str, name: str) -> str:
    lines = ["```{eval-rst}", f".. doxygen{kind}:: {name}"]
    if kind != "file":
        lines.append("   :members:")
    return "\n".join([*lines, "```\n"])
