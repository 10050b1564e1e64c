"""The record beside an engine is read whole, or refused in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from sam2rt.configs.errors import BundleError
from sam2rt.configs.formats.manifest import digest_of
from sam2rt.runtime.backends.engine_record import EngineRecord, read_record, write_record

RECORD = EngineRecord(
    graph="mask_decoder", source="mask_decoder", size=3, sha256="ab", onnx="cd",
    tensorrt="10.16.1.11", arch=90, gpu="GPU", driver=(13, 0), precision="fp16", attention="folded",
    hardware_compatible=False, version_compatible=True, device_memory=5,
    profiles=({"x": ((1, 2), (1, 2), (3, 4))},), kernels={"sam2rt::K": "ef"}, splits=2,
    proof={"milliseconds": 1.5},
)  # fmt: skip


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    write_record(tmp_path / "g.engine", RECORD)
    return tmp_path / "g.engine"


def message(engine: Path) -> str:
    with pytest.raises(BundleError) as caught:
        read_record(engine)
    assert str(caught.value).isprintable()
    assert str(caught.value).endswith(": build it here: sam2rt build")
    return str(caught.value)


def test_a_record_comes_back(engine: Path) -> None:
    assert read_record(engine) == RECORD


@pytest.mark.parametrize(
    ("field", "value", "why"),
    [
        ("arch", "90", "arch is '90': expected a whole number from 0 to 9999"),
        ("driver", [13], "driver is a list: expected a list of 2 to 2"),
        ("driver", "13.0", "driver is '13.0': expected a list of 2 to 2"),
        ("gpu", "\x1b[2J", r"gpu is '\x1b[2J': expected one line of text of 0 to 200 characters"),
        ("profiles", None, "profiles is None: expected a list of 0 to 64"),
        ("profiles", [{"x": [[1], [2]]}], "profiles[0]['x'] is a list: expected a list of 3 to 3"),
        ("profiles", [{"x": [[1], [2], ["a"]]}], "profiles[0]['x'][2][0] is 'a': expected a whole"),
        ("kernels", [], "kernels is a list: expected an object of at most 64"),
        ("size", -1, "size is -1: expected a whole number from 0 to 1099511627776"),
        ("version_compatible", 1, "version_compatible is 1: expected true or false"),
        ("colour", "red", "it has 'colour', which is no part of it"),
    ],
)
def test_odd_values(engine: Path, field: str, value: Any, why: str) -> None:
    file = engine.with_suffix(".json")
    data = {**json.loads(file.read_text()), field: value}
    file.write_text(json.dumps({**data, "digest": digest_of(data)}))
    assert message(engine).startswith(f"{file} is not well formed ({why}")


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"3", b"\xff", b"{}", b"\xef\xbb\xbf{}", b'{"schema": NaN}',
     b'{"schema": 1, "a": ' + b"[" * 992 + b"]" * 992 + b"}", b"[" * 100_000],
)  # fmt: skip
def test_what_is_no_record(engine: Path, content: bytes) -> None:
    file = engine.with_suffix(".json")
    file.write_bytes(content)
    assert message(engine).startswith(f"cannot read {file} (")
