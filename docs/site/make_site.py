"""Builds the site: ``python docs/site/make_site.py [TARGET]``, without a network; see `make docs`.

The pages are copied, the reference is written from the code, Sphinx makes pages of HTML with every
warning an error, and then each link is followed. Doxygen and Graphviz are used where they are
installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import site_links
import site_pages
import site_reference
import tomllib

ROOT = Path(__file__).resolve().parents[2]


def main(target: Path) -> None:
    """Build into `target`/html. Ends with an error for any warning and any dead link."""
    source, html, xml = target / "source", target / "html", target / "doxygen"
    for folder in (source, html, xml):
        shutil.rmtree(folder, ignore_errors=True)
    repository = _address("Source") + "/blob/main"
    drawn = shutil.which("dot") is not None
    names = site_pages.copied_pages(source, repository, drawn)
    (source / "reference").mkdir(exist_ok=True)
    doxygen = _doxygen(xml) if shutil.which("doxygen") else None
    site_reference.write_python(source / "reference" / "python.md")
    site_reference.write_commands(source / "reference" / "commands.md")
    site_reference.write_errors(source / "reference" / "errors.md")
    site_reference.write_cpp(source / "reference", doxygen)
    names += [f"reference/{name}" for name in ("python", "commands", "errors", "cpp", "c")]
    site_pages.with_contents(source / "index.md", names)
    _sphinx(source, html, doxygen, drawn)
    _write_llms(html, source, names)
    if found := site_links.faults(html):
        raise SystemExit("\n".join(found))
    print(f"built {len(names)} pages, every link leads somewhere: {html / 'index.html'}")


def _address(name: str) -> str:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return str(project["urls"][name])


def _doxygen(xml: Path) -> Path:
    xml.mkdir(parents=True)
    settings = {
        "INPUT": str(ROOT / "runtime" / "cpp" / "include"), "RECURSIVE": "YES",
        "OUTPUT_DIRECTORY": str(xml), "GENERATE_XML": "YES", "GENERATE_HTML": "NO",
        "GENERATE_LATEX": "NO", "QUIET": "YES", "WARN_IF_UNDOCUMENTED": "NO",
        "WARN_AS_ERROR": "YES", "ENABLE_PREPROCESSING": "YES", "MACRO_EXPANSION": "YES",
        "EXPAND_ONLY_PREDEF": "YES", "EXCLUDE_PATTERNS": "*/export.h",
        "PREDEFINED": "SAM2RT_API= SAM2RT_HIDDEN= DOXYGEN __cplusplus",
        "EXTRACT_ALL": "YES", "JAVADOC_AUTOBRIEF": "YES", "TYPEDEF_HIDES_STRUCT": "YES",
        "FILTER_PATTERNS": f'*sam2rt.h="sed -E -f {Path(__file__).parent}/c_comments.sed"',
    }  # fmt: skip
    text = "\n".join(f"{name} = {value}" for name, value in settings.items())
    subprocess.run(["doxygen", "-"], input=text, text=True, check=True)
    return xml / "xml"


def _sphinx(source: Path, html: Path, doxygen: Path | None, drawn: bool) -> None:
    environment = dict(os.environ)
    if doxygen is not None:
        environment["SAM2RT_DOXYGEN"] = str(doxygen)
    if drawn:
        environment["SAM2RT_DOT"] = "1"
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    settings = str(Path(__file__).parent)
    done = subprocess.run([*command, "-c", settings, str(source), str(html)], env=environment)
    if done.returncode:
        raise SystemExit("Sphinx warned: mend what stands above")


def _write_llms(html: Path, source: Path, names: list[str]) -> None:
    """``llms.txt``: what there is to read, one line a page (llmstxt.org)."""
    lines = [
        "# sam2rt",
        "",
        "> SAM 2 and SAM 2.1 in production: proved export, runtime without torch.",
    ]
    for caption, contents in site_pages.CONTENTS.items():
        lines += ["", f"## {caption}", ""]
        for name in (name for name in contents if name in names):
            title, sentence = site_pages.first_sentence(source / f"{name}.md")
            lines.append(f"- [{title}]({name}.html): {sentence}".rstrip(": "))
    (html / "llms.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if sys.argv[1:] else ROOT / "build" / "docs")
