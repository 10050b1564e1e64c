"""What the house looks like in figures: ``python tests/packaging/structure.py [CHECKOUT]``.

``--drawing`` prints the rooms and their imports as a Mermaid flowchart instead.

Files per room, circles of imports (lazy and type-only ones included), ``getattr`` on sessions,
lines per function, and long lines of documentation; read from the source, nothing is imported.
"""

from __future__ import annotations

import ast
import json
import statistics
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

PACKAGE = "sam2rt"
#: folders of a checkout that are no part of the package
OUTSIDE = {"tests", "docs", "build", "dist", "out", "bundles", "examples", "notebooks"}
MOST_FILES = 15


def python_files(root: Path) -> Iterator[Path]:
    """Those of the package; folders outside are not even listed: tests may write there now."""
    for path in sorted(root.iterdir()):
        if path.name in OUTSIDE or path.name.startswith("."):
            continue
        if path.is_dir():
            yield from sorted(path.rglob("*.py"))
        elif path.suffix == ".py":
            yield path


def modules(root: Path) -> dict[str, Path]:
    """Every module of the package by its dotted name; a room stands for its ``__init__``."""
    found = {}
    for path in python_files(root):
        parts = path.relative_to(root).parts
        if parts == ("setup.py",):
            continue
        names = [*parts[:-1], path.stem]
        if names[-1] == "__init__":
            names.pop()
        found[".".join([PACKAGE, *names])] = path
    return found


def import_graph(root: Path) -> dict[str, set[str]]:
    """What each module imports of the package, wherever in the file the import stands."""
    known = modules(root)
    return {
        name: set(_imported(name, path, known)) - {name, PACKAGE} for name, path in known.items()
    }


def _imported(name: str, path: Path, known: dict[str, Path]) -> Iterator[str]:
    package = name if path.stem == "__init__" else name.rpartition(".")[0]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in known)
        if not isinstance(node, ast.ImportFrom):
            continue
        base = node.module or ""
        if node.level:
            around = package.split(".")[: len(package.split(".")) - node.level + 1]
            base = ".".join([*around, *([node.module] if node.module else [])])
        for alias in node.names:
            full = f"{base}.{alias.name}"
            if full in known:
                yield full
            elif base in known:
                yield base


def circles(graph: dict[str, set[str]]) -> list[list[str]]:
    """The groups of modules that reach each other (Tarjan's strongly connected components)."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    found: list[list[str]] = []

    def visit(name: str) -> None:
        index[name] = low[name] = len(index)
        stack.append(name)
        for other in graph[name]:
            if other not in index:
                visit(other)
                low[name] = min(low[name], low[other])
            elif other in stack:
                low[name] = min(low[name], index[other])
        if low[name] == index[name]:
            group = [stack.pop()]
            while group[-1] != name:
                group.append(stack.pop())
            if len(group) > 1:
                found.append(sorted(group))

    for name in graph:
        if name not in index:
            visit(name)
    return sorted(found)


def room_graph(root: Path) -> dict[str, set[str]]:
    """What each room imports of the others, as far as it does not follow from the rest.

    A room whose inner rooms and itself import each other is drawn as one.
    """
    known = modules(root)

    def room(module: str) -> str:
        path = known[module].parent.relative_to(root)
        return path.parts[0] if path.parts[:1] in _ONE_ROOM else path.as_posix()

    graph: dict[str, set[str]] = {}
    for module, imported in import_graph(root).items():
        graph.setdefault(room(module), set()).update(room(other) for other in imported)
    graph.pop(".", None)
    for name, others in graph.items():
        others -= {name, "."}
    reached = {name: _reached(graph, name) for name in graph}
    return {
        name: {o for o in others if not any(o in reached[p] for p in others - {o})}
        for name, others in graph.items()
    }


#: rooms drawn without their inner rooms
_ONE_ROOM = (("cli",), ("benchmarks",))


def _reached(graph: dict[str, set[str]], name: str) -> set[str]:
    found: set[str] = set()
    waiting = [name]
    while waiting:
        for other in graph[waiting.pop()] - found:
            found.add(other)
            waiting.append(other)
    return found


def drawing(root: Path) -> str:
    """The rooms and what they import, as a Mermaid flowchart."""
    graph = room_graph(root)
    groups: dict[str, list[str]] = {}
    for room in sorted(graph):
        groups.setdefault(room.partition("/")[0], []).append(room)
    lines = ["flowchart TD"]
    for group, rooms in groups.items():
        if len(rooms) == 1:
            lines.append(f"  {_node(rooms[0])}")
            continue
        lines.append(f"  subgraph {group}")
        lines += [f"    {_node(room)}" for room in rooms]
        lines.append("  end")
    lines += [
        f"  {_key(room)} --> {_key(o)}" for room in sorted(graph) for o in sorted(graph[room])
    ]
    return "\n".join(lines) + "\n"


def _key(room: str) -> str:
    return room.replace("/", "_") if "/" in room else f"{room}_"


def _node(room: str) -> str:
    return f'{_key(room)}["{room}"]'


def files_per_room(root: Path) -> Counter[str]:
    """Python files of each folder of the package."""
    return Counter(path.parent.relative_to(root).as_posix() for path in modules(root).values())


def sniffed_sessions(root: Path) -> list[str]:
    """Places that ask by name what a session has, instead of calling it."""
    found = []
    for path in modules(root).values():
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Name):
                continue
            if node.func.id not in ("getattr", "hasattr") or not node.args:
                continue
            if "session" in ast.unparse(node.args[0]).lower():
                found.append(f"{path.relative_to(root).as_posix()}:{node.lineno}")
    return found


def shared_class_names(root: Path) -> dict[str, list[str]]:
    """Public classes that stand in more than one file: a name has one meaning."""
    found: dict[str, list[str]] = {}
    for path in modules(root).values():
        for node in ast.parse(path.read_text(encoding="utf-8")).body:
            if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                found.setdefault(node.name, []).append(path.relative_to(root).as_posix())
    return {name: files for name, files in found.items() if len(files) > 1}


def function_lengths(root: Path) -> list[int]:
    """Lines of every function, from its name to its last line, sorted."""
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return sorted(
        (node.end_lineno or node.lineno) - node.lineno + 1
        for path in modules(root).values()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, kinds)
    )


def long_lines(root: Path, most: int = 120) -> list[str]:
    """Lines of the documentation over `most` characters, fenced code and tables included."""
    pages = [*sorted(root.glob("*.md")), *sorted((root / "docs").rglob("*.md"))]
    return [
        f"{page.relative_to(root).as_posix()}:{number}"
        for page in pages
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), 1)
        if len(line) > most
    ]


def figures(root: Path) -> dict[str, object]:
    lengths = function_lengths(root)
    rooms = files_per_room(root)
    return {
        "rooms": len(rooms),
        "most files in a room": max(rooms.items(), key=lambda item: item[1]),
        "rooms over 15 files": {r: n for r, n in rooms.items() if n > MOST_FILES},
        "circles": circles(import_graph(root)),
        "getattr on sessions": sniffed_sessions(root),
        "class names with two meanings": shared_class_names(root),
        "functions": len(lengths),
        "lines per function, median": statistics.median(lengths),
        "lines per function, 95 %": lengths[int(0.95 * len(lengths))],
        "longest function": lengths[-1],
        "documentation lines over 120": len(long_lines(root)),
    }


if __name__ == "__main__":
    checkout = Path(__file__).resolve().parents[2]
    if sys.argv[1:] == ["--drawing"]:
        print(drawing(checkout), end="")
    else:
        print(json.dumps(figures(Path(sys.argv[1]) if sys.argv[1:] else checkout), indent=1))
