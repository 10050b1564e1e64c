"""Follows the links of built pages without a network, and looks for what asks for one."""

from __future__ import annotations

from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

#: what a browser fetches by itself, by element
_FETCHED = {"img": "src", "script": "src", "iframe": "src", "source": "src", "video": "src"}
_FETCHED |= {"object": "data", "embed": "src", "audio": "src"}


class _Page(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: set[str] = set()
        self.links: list[str] = []
        self.fetched: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        self.ids.update(v for k, v in given.items() if k in ("id", "name"))
        if tag == "a" and "href" in given:
            self.links.append(given["href"])
        if tag == "link" and "href" in given:
            self.fetched.append(given["href"])
        if tag in _FETCHED and _FETCHED[tag] in given:
            self.fetched.append(given[_FETCHED[tag]])


def faults(folder: Path) -> list[str]:
    """One line for each dead link, and for each address that a browser would ask by itself."""
    read: dict[Path, _Page] = {}
    for path in sorted(folder.rglob("*.html")):
        page = read[path.resolve()] = _Page()
        page.feed(path.read_text(encoding="utf-8"))
    found = []
    for path, page in read.items():
        where = path.relative_to(folder.resolve())
        found += [
            f"{where} fetches {url}, which is elsewhere: take it out"
            for url in page.fetched
            if urlsplit(url).scheme in ("http", "https") or url.startswith("//")
        ]
        for url in (*page.links, *page.fetched):
            if problem := _problem(url, path, read):
                found.append(f"{where} links to {url}: {problem}")
    for sheet in folder.rglob("*.css"):
        text = sheet.read_text(encoding="utf-8", errors="replace")
        if "url(http" in text or "url(//" in text or "@import" in text:
            found.append(f"{sheet.relative_to(folder)} fetches from elsewhere: take it out")
    return found


def _problem(url: str, page: Path, read: dict[Path, _Page]) -> str:
    parts = urlsplit(url)
    if parts.scheme or parts.netloc:
        return "" if parts.scheme in ("https", "mailto", "data") else "expected https"
    target = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    if not target.exists():
        return "there is no such file"
    if parts.fragment and target in read and unquote(parts.fragment) not in read[target].ids:
        return "there is no such place on that page"
    return ""
