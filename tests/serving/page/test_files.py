"""The page is whole, names no other address, and its files are small."""

from __future__ import annotations

import re
from pathlib import Path

PAGE = Path(__file__).resolve().parents[3] / "serving" / "page"
MARKUP = (PAGE / "index.html").read_text()
SCRIPTS = {file.relative_to(PAGE).as_posix(): file.read_text() for file in PAGE.rglob("*.js")}
MOST_LINES = 400
#: names of formats, which nothing fetches
NAMESPACES = {"http://www.w3.org/2000/svg"}


def test_no_file_names_another_address() -> None:
    for file in PAGE.rglob("*"):
        if file.is_file():
            text = file.read_text()
            found = set(re.findall(r"\b(?:https?|wss?):/{2}[^\s\"'`)<]+", text))
            assert found <= NAMESPACES, file
            assert not re.search(r"[\"'(]//\w", text), file


def test_files_stay_small() -> None:
    lengths = {
        file.name: len(file.read_text().splitlines()) for file in PAGE.rglob("*") if file.is_file()
    }
    assert len(lengths) > 30
    assert {name: n for name, n in lengths.items() if n > MOST_LINES} == {}


def test_what_the_page_and_its_modules_load_is_there() -> None:
    for address in re.findall(r'(?:href|src)="/page/([^"]+)"', MARKUP):
        assert (PAGE / address).is_file(), address
    reached = {"main.js"}
    waiting = ["main.js"]
    while waiting:
        module = waiting.pop()
        for name in re.findall(r'from "(\.[^"]+)"', SCRIPTS[module]):
            path = (PAGE / module).parent / name
            other = path.resolve().relative_to(PAGE).as_posix()
            assert other in SCRIPTS, f"{module}: {name}"
            if other not in reached:
                reached.add(other)
                waiting.append(other)
    assert reached == set(SCRIPTS)


def test_what_the_modules_import_is_exported() -> None:
    for module, text in SCRIPTS.items():
        for names, source in re.findall(r'import \{([^}]+)\} from "(\.[^"]+)"', text):
            other = ((PAGE / module).parent / source).read_text()
            exported = set(
                re.findall(r"export (?:async )?(?:function\*?|class|const) (\w+)", other)
            )
            assert {name.strip() for name in names.split(",") if name.strip()} <= exported, module


def test_every_element_and_icon_that_is_named_is_there() -> None:
    ids = re.findall(r'\bid="([^"]+)"', MARKUP)
    assert len(ids) == len(set(ids))
    used = {name for text in SCRIPTS.values() for name in re.findall(r'byId\("([^"]+)"\)', text)}
    used |= set(re.findall(r'(?:for|aria-labelledby)="([^"]+)"', MARKUP))
    used |= set(re.findall(r'href="#([^"]+)"', MARKUP))
    scripts = "".join(SCRIPTS.values())
    used |= {f"i-{name}" for name in re.findall(r'\bicon\("(\w+)"\)', scripts)}
    used |= set(re.findall(r'"#(i-\w+)"', scripts))
    # made when it is opened
    assert used - {"help-title"} <= set(ids)


def test_no_script_and_no_handler_stands_in_the_markup() -> None:
    """The server's content security policy refuses them."""
    assert not re.search(r"<script(?![^>]*\bsrc=)", MARKUP)
    assert not re.search(r"\son\w+=", MARKUP)
    code = "".join(SCRIPTS.values())
    assert not re.search(
        r"\b(?:eval|Function)\(|innerHTML|insertAdjacentHTML|document\.write", code
    )


def test_every_control_has_a_name() -> None:
    for attributes, content in re.findall(r"<button([^>]*)>(.*?)</button>", MARKUP, re.DOTALL):
        text = re.sub(r"<[^>]+>", "", content).strip()
        assert text not in ("", "?") or "aria-label=" in attributes, attributes
    for attributes in re.findall(r"<(?:progress|canvas)([^>]*)>", MARKUP):
        assert "aria-label=" in attributes or "aria-hidden=" in attributes, attributes
    for element in ('id="file"', 'id="density"', 'id="from"'):
        before = MARKUP[: MARKUP.index(element)]
        assert before.rindex("<label") > before.rfind("</label>")
