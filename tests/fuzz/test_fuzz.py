"""Readers of strangers' files under a fuzzer: seconds each here, ten minutes by 'make fuzz'."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent))
from targets import TARGETS

#: what was found once, by target
CORPUS = Path(__file__).with_name("corpus")
#: seconds a target; more finds more
SECONDS = os.environ.get("SAM2RT_FUZZ_SECONDS", "5")


@pytest.mark.parametrize("name", TARGETS)
def test_seeds_are_read_or_refused(name: str) -> None:
    target = TARGETS[name]
    seeds = [*target.seeds(), *(path.read_bytes() for path in (CORPUS / name).glob("*"))]
    said = []
    for seed in seeds:
        for content in (seed, seed[: len(seed) // 2], seed + seed, b"", seed[::-1]):
            try:
                target.read(content)
            except target.refuses as error:
                said.append(str(error))
    assert said
    assert all(line.isprintable() for line in said)


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("atheris") is None, reason="pip install atheris")
@pytest.mark.parametrize("name", TARGETS)
def test_a_fuzzer_finds_nothing(name: str, tmp_path: Path) -> None:
    command = [sys.executable, str(Path(__file__).with_name("fuzz.py")), name, SECONDS]
    done = subprocess.run(
        [*command, str(tmp_path / "corpus")], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert "stat::number_of_executed_units" in done.stderr
