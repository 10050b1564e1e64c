"""Troubleshooting by an error's text: every error and every remedy of the code has its place."""

from __future__ import annotations

import re
from pathlib import Path

import site_reference

from sam2rt.configs import errors, remedies

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")


def test_every_error_has_a_section() -> None:
    sections = re.findall(r"^##+ (\w+Error)$", PAGE, re.M)
    assert sections == [name for name in _raised() if name in sections]
    assert set(sections) == set(_raised())
    for name in sections:
        kind = getattr(errors, name)
        told = PAGE.partition(f"# {name}\n")[2].partition("\n#")[0]
        base = re.search(r"\((?:an?) `(\w+)`(?: and an? `(\w+)`)?\)", told)
        assert base is not None, name
        for parent in filter(None, base.groups()):
            assert parent in {c.__name__ for c in kind.__mro__[1:]}, name


def _raised() -> list[str]:
    order = [
        "InputError", "FrameError", "StateError", "BundleError", "CheckpointError", "ProofError",
        "SessionError", "NotFiniteError", "LowMemoryError", "StorageError", "MissingExtraError",
        "MissingToolError",
    ]  # fmt: skip
    assert set(order) | {"Sam2rtError"} == set(site_reference.error_classes())
    return order


def test_every_remedy_of_the_machine_is_told() -> None:
    for remedy in remedies._REMEDIES.values():
        assert f"| {remedy} |" in PAGE, remedy


def test_texts_on_the_page_are_those_of_the_code() -> None:
    """Each is the beginning or a part of a message that is raised, or of an error's own text."""
    own = [
        "... needs the package '...': pip install 'sam2rt[...]'",
        "... needs the package '...', which is installed and does not load (...)",
        "... cannot be written (...): ...",
        "not enough memory ...: ask for less at a time, or free some",
    ]
    raised = [text for entries in site_reference.messages().values() for text, _ in entries] + own
    part = PAGE.partition("## The machine")[0]
    items = re.findall(r"^- (`.*?)(?=^- |^#|^\n)", part, re.M | re.S)
    told = []
    for item in items:
        head = re.split(r"`[:.]\s|`[:.]$", " ".join(item.split()), maxsplit=1)[0] + "`"
        told += re.findall(r"`([^`]+)`", head)
    assert len(told) > 50
    assert [text for text in told if not any(text in message for message in raised)] == []


def test_the_list_of_messages_holds_every_error_that_is_raised(tmp_path: Path) -> None:
    page = tmp_path / "errors.md"
    site_reference.write_errors(page)
    listed = page.read_text(encoding="utf-8")
    assert listed.count("\n- ``") > 350
    assert "``an array of frames must be [T, H, W, 3], got shape ...: for one frame use" in listed
    assert "``no object to track: add points, a box or a mask first``" in listed
    for name in site_reference.messages():
        assert f"\n## {name}\n" in listed
        assert f"#{name.lower()})" in listed


def test_own_texts_are_those_of_the_errors() -> None:
    from sam2rt.configs.errors import LowMemoryError, MissingExtraError, StorageError

    assert (
        str(MissingExtraError("x", "p", "e")) == "x needs the package 'p': pip install 'sam2rt[e]'"
    )
    assert "which is installed and does not load (w)" in str(MissingExtraError("x", "p", "e", "w"))
    assert str(StorageError("f", "w", "r")) == "f cannot be written (w): r"
    assert str(LowMemoryError("x")) == "not enough memory x: ask for less at a time, or free some"
