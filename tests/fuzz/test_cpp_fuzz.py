"""Readers and interface of C++ under libFuzzer: a minute each here, ten by 'make fuzz'."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cpp_build import FUZZERS, SOURCE, built, run
from fake_bundle import write_bundle

pytestmark = pytest.mark.slow

#: inputs to begin with, and those of what was found once
CORPUS = SOURCE / "fuzz" / "corpus"
#: seconds a target; more finds more
SECONDS = int(os.environ.get("SAM2RT_FUZZ_SECONDS", "60"))


@pytest.fixture(scope="module", autouse=True)
def _libfuzzer(tmp_path_factory: pytest.TempPathFactory) -> None:
    if not _has_libfuzzer(tmp_path_factory.mktemp("probe")):
        pytest.skip("no clang++ with libFuzzer: install clang and libclang-rt-dev")


@pytest.mark.parametrize("name", FUZZERS)
def test_a_fuzzer_finds_nothing(name: str, tmp_path: Path) -> None:
    corpus = tmp_path / name
    shutil.copytree(CORPUS / name, corpus)
    # small, so that many calls fit into a second
    write_bundle(tmp_path / "bundle", image_size=64)
    # the limit on the peak would count this process's own, which a child inherits
    limits = ["-max_len=20000", "-timeout=20", "-rss_limit_mb=0", "-malloc_limit_mb=2048"]
    command = [str(built("fuzz") / "fuzz" / f"fuzz_{name}"), f"-max_total_time={SECONDS}", *limits]
    options = ["-print_final_stats=1", f"-artifact_prefix={tmp_path}/", str(corpus)]
    done = run(
        ["sh", "-c", 'exec "$@" 2>&1', "sh", *command, *options],
        timeout=SECONDS + 600, SAM2RT_FUZZ_BUNDLE=str(tmp_path / "bundle"),
    )  # fmt: skip
    executed = re.search(r"stat::number_of_executed_units: *(\d+)", done)
    assert executed is not None, done[-2000:]
    print(f"{name}: {executed[1]} executions in {SECONDS} s")
    assert int(executed[1]) > SECONDS


def test_inputs_are_kept_small() -> None:
    folders = {path.name for path in CORPUS.iterdir()}
    assert folders == set(FUZZERS)
    assert sum(path.stat().st_size for path in CORPUS.glob("*/*")) < 100_000


def _has_libfuzzer(folder: Path) -> bool:
    if shutil.which("clang++") is None:
        return False
    probe = folder / "probe.cpp"
    probe.write_text('extern "C" int LLVMFuzzerTestOneInput(const char*, long) { return 0; }')
    command = ["clang++", "-fsanitize=fuzzer,address", str(probe), "-o", str(folder / "probe")]
    return subprocess.run(command, capture_output=True).returncode == 0
