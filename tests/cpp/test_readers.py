"""Both runtimes take and refuse the same files, in the same words: crafted cases and mutations."""

from __future__ import annotations

import json
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from cpp_build import ENVIRONMENT, program, require_toolchain
from fake_bundle import write_bundle
from odd_graphs import CRAFTED as ODD_GRAPHS
from odd_graphs import DAMAGED, WEIGHTS, crafted_graph, good_graph, mutated_graphs
from odd_manifests import CRAFTED, UNREADABLE, mutated, with_value

from sam2rt.configs.bundle import Bundle
from sam2rt.configs.errors import BundleError
from sam2rt.configs.formats.graph_file import GraphError, check_graph
from sam2rt.configs.formats.manifest import MANIFEST

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module", autouse=True)
def _toolchain() -> None:
    require_toolchain()


@pytest.fixture
def manifest(tmp_path: Path) -> bytes:
    write_bundle(tmp_path / "written")
    return (tmp_path / "written" / MANIFEST).read_bytes()


def answers(reader: str, cases: list[bytes], folder: Path) -> list[str]:
    """What the C++ reader says of each case: "ok" or the message."""
    file = folder / "cases"
    file.write_bytes(b"".join(struct.pack("<Q", len(case)) + case for case in cases))
    command = [str(program("release", "readers")), reader, str(file)]
    done = subprocess.run(command, capture_output=True, env=ENVIRONMENT, timeout=600, check=True)
    return done.stdout.decode().splitlines()


def answer(read: Callable[[bytes], object], case: bytes) -> str:
    try:
        read(case)
    except (BundleError, GraphError) as error:
        return str(error)
    return "ok"


def _without_place(message: str) -> str:
    """Of what is no JSON each parser finds something else first."""
    start = f"cannot read bundle/{MANIFEST} ("
    return start if message.startswith(start) else message


def test_manifests(manifest: bytes, tmp_path: Path) -> None:
    good = json.loads(manifest)
    cases = [manifest, *(content for content, _ in UNREADABLE)]
    cases += [json.dumps(with_value(good, keys, to)).encode() for keys, to, _ in CRAFTED]
    exact = len(cases)
    cases += mutated(good, seed=2, count=5000)
    cpp = answers("manifest", cases, tmp_path)
    python = [answer(lambda c: Bundle.of_manifest(Path("bundle"), c), case) for case in cases]
    assert cpp[0] == "ok"

    for case, found, expected in zip(cases, cpp, python, strict=True):
        assert _without_place(found) == _without_place(expected), case
    assert sum(found != "ok" for found in cpp[:exact]) == exact - 1
    assert 500 < cpp.count("ok") < 4000


def test_graphs(tmp_path: Path) -> None:
    cases = [bytes(good_graph().SerializeToString()), *DAMAGED, *map(crafted_graph, ODD_GRAPHS)]
    exact = len(cases)
    cases += mutated_graphs(seed=4, count=10000)
    cpp = answers("graph", cases, tmp_path)
    python = [answer(lambda c: check_graph(c, dict([WEIGHTS])), case) for case in cases]
    for case, found, expected in zip(cases, cpp, python, strict=True):
        assert found == expected, case
    assert [found == "ok" for found in cpp[:exact]] == [True] + [False] * (exact - 1)
    assert 1000 < cpp.count("ok") < 9000
