"""The wheel holds what the checkout holds."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sam2rt.configs.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
#: folders of the checkout that are no part of the package
OUTSIDE = {"tests", "docs", "build", "dist", "out", "bundles", "examples", "notebooks"}


def _files(root: Path) -> Iterator[Path]:
    """All files but those outside, whose folders are not even listed: tests may write there."""
    for path in root.iterdir():
        if path.name not in OUTSIDE and not path.name.startswith("."):
            yield from path.rglob("*") if path.is_dir() else [path]


def _modules(root: Path) -> set[str]:
    """Python files of the package, relative to its root."""
    return {
        path.relative_to(root).as_posix()
        for path in _files(root)
        if path.suffix == ".py" and path != root / "setup.py"
    }


def test_found_packages_are_the_folders() -> None:
    """An unlisted folder works in an editable install and is absent from the wheel."""
    folders = {str(Path(file).parent).replace("/", ".") for file in _modules(ROOT)}
    expected = {"sam2rt" if folder == "." else f"sam2rt.{folder}" for folder in folders}
    code = (
        "import setuptools\n"
        "setuptools.setup = lambda packages, **_: print(*packages)\n"
        "exec(open('setup.py').read())"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT)
    found = set(done.stdout.split())
    assert found == expected, done.stderr
    for folder in folders:
        assert (ROOT / folder.lstrip(".").replace(".", "/") / "__init__.py").is_file(), folder


def test_only_the_front_doors_and_the_setup_lie_in_the_root() -> None:
    assert {file.name for file in ROOT.glob("*.py")} == {"__init__.py", "__main__.py", "setup.py"}


@pytest.mark.parametrize("arguments", [["--version"], ["segment"], ["--help"]])
def test_the_package_runs_as_the_command_does(arguments: list[str], tmp_path: Path) -> None:
    """Where scripts are not on the search path, ``python -m sam2rt`` is all there is."""
    ways = (["-c", "from sam2rt.cli import main; main()"], ["-m", "sam2rt"])
    command, module = (
        subprocess.run(
            [sys.executable, *way, *arguments], capture_output=True, text=True, cwd=tmp_path
        )
        for way in ways
    )
    assert (module.returncode, module.stdout, module.stderr) == (
        command.returncode,
        command.stdout,
        command.stderr,
    )
    assert module.returncode == (2 if arguments == ["segment"] else 0)
    assert "sam2rt" in module.stdout + module.stderr


def test_the_version_stands_in_one_file(wheel: Path) -> None:
    import sam2rt

    assert f"-{VERSION}-" in wheel.name
    assert sam2rt.__version__ == VERSION
    kinds = {".py", ".toml", ".cmake", ".cpp", ".in", ".txt"}
    written = [
        path.relative_to(ROOT).as_posix()
        for path in _files(ROOT)
        if path.suffix in kinds and path.name != "constraints.txt"
        if VERSION in path.read_text(encoding="utf-8")
    ]
    assert written == ["configs/version.py"]


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns(".*", *OUTSIDE, "*.egg-info", "__pycache__")
    shutil.copytree(ROOT, folder / "checkout", ignore=ignore)
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "-o", str(folder)]
    done = subprocess.run(
        [*command, str(folder / "checkout")], capture_output=True, text=True, cwd=folder
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return next(folder.glob("*.whl"))


def test_wheel_holds_every_module_and_the_type_marker(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    inside = {name.removeprefix("sam2rt/") for name in names if name.startswith("sam2rt/")}
    assert {name for name in inside if name.endswith(".py")} == _modules(ROOT)
    assert "py.typed" in inside
    files = (ROOT / "plugins" / "cpu").iterdir()
    sources = {f"plugins/cpu/{f.name}" for f in files if f.suffix in (".cpp", ".hpp", ".json")}
    assert "plugins/cpu/flags.json" in sources
    assert sources <= inside
    outside = {name.partition("/")[0] for name in names} - {"sam2rt"}
    assert {name.rpartition(".")[2] for name in outside} == {"dist-info"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_wheel_holds_the_page(wheel: Path) -> None:
    page = ROOT / "serving" / "page"
    files = {file.relative_to(ROOT).as_posix() for file in page.rglob("*") if file.is_file()}
    assert {"serving/page/index.html", "serving/page/main.js"} <= files
    with zipfile.ZipFile(wheel) as archive:
        inside = {name.removeprefix("sam2rt/") for name in archive.namelist()}
        assert {name for name in inside if name.startswith("serving/page/")} == files
        assert archive.read("sam2rt/serving/page/main.js") == (page / "main.js").read_bytes()


def test_the_readme_renders_on_the_index_with_absolute_links(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        name = next(name for name in archive.namelist() if name.endswith("/METADATA"))
        description = archive.read(name).decode().partition("\n\n")[2]
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    links = re.findall(r"\]\(([^)]+)\)", description)
    # the drawing alone is left out
    assert len(links) == len(re.findall(r"\]\(([^)]+)\)", readme)) > 15
    assert [link for link in links if not link.startswith("https://")] == []
    for link in links:
        path = re.sub(r"^https://[^/]+/[^/]+/[^/]+/(blob/)?main/", "", link)
        assert (ROOT / path.partition("#")[0]).exists(), link
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", description)
    assert len(pictures) == 2
    for picture in pictures:
        assert picture.startswith("https://raw.githubusercontent.com/")
    assert "mermaid" not in description
    command = [sys.executable, "-m", "twine", "check", "--strict", str(wheel)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


def test_wheel_installs_the_command(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        entry = next(name for name in archive.namelist() if name.endswith("entry_points.txt"))
        assert "sam2rt = sam2rt.cli:main" in archive.read(entry).decode()


def test_wheel_runs_away_from_the_checkout(wheel: Path, tmp_path: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    code = "import sam2rt; print(sam2rt.__file__); print(sam2rt.Bundle.__module__)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=tmp_path
    )
    file, module = done.stdout.split()
    assert Path(file).resolve() == (tmp_path / "sam2rt" / "__init__.py").resolve()
    assert module == "sam2rt.configs.bundle"
