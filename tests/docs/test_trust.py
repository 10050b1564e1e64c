"""Each promise of the page about trust names a test that exists."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGE = ROOT / "docs" / "concepts" / "trust.md"


def _promises() -> list[tuple[str, str]]:
    """Each item of the list of promises, and the test that it names."""
    part = PAGE.read_text(encoding="utf-8").partition("## Promises")[2].partition("\n## ")[0]
    items = re.split(r"^- ", part, flags=re.M)[1:]
    return [(item.splitlines()[0], item.split("`")[1]) for item in items]


def test_every_promise_is_kept_by_a_test() -> None:
    promises = _promises()
    assert len(promises) >= 25
    missing = []
    for promise, named in promises:
        path, _, name = named.partition("::")
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        if name not in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}:
            missing.append((promise, named))
    assert missing == []


def test_the_policy_leads_to_the_page() -> None:
    policy = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", policy)
    assert links == ["docs/concepts/trust.md"]
