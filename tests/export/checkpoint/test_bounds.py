"""Small files that stand for enormous content are refused at once and in little memory."""

from __future__ import annotations

import io
import json
import pickle
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from checkpoint_files import message, saved

from sam2rt.configs.models import MODELS
from sam2rt.export.checkpoint.load import load_checkpoint
from sam2rt.export.model.untrained import untrained_state

_SAVE = "save its state dict alone, torch.save({'model': model.state_dict()}, path)"
_DEEP = f"holds dicts more than 16 levels deep, or more than 100000 names: {_SAVE}"


def _shared(levels: int) -> dict[str, Any]:
    """2^levels paths in a few bytes."""
    inner: dict[str, Any] = {"w": torch.zeros(1)}
    for _ in range(levels):
        inner = {"a": inner, "b": inner}
    return inner


@pytest.mark.timeout(60)
@pytest.mark.parametrize("levels", [14, 60])
def test_dicts_that_share_dicts(levels: int, tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", _shared(levels))
    if levels == 14:
        assert message(path).startswith(f"{path} holds no SAM 2 weights: expected tensors such as")
    else:
        assert message(path) == f"{path} {_DEEP}"


@pytest.mark.timeout(60)
def test_a_dict_in_itself(tmp_path: Path) -> None:
    content: dict[str, Any] = {"model": {}}
    content["model"]["again"] = content
    path = saved(tmp_path / "w.pt", content)
    assert message(path) == f"{path} {_DEEP}"


def test_a_wide_dict_many_times_over(tmp_path: Path) -> None:
    wide = {f"n{i}": 0 for i in range(1000)}
    path = saved(tmp_path / "w.pt", {f"m{i}": wide for i in range(200)})
    assert message(path) == f"{path} {_DEEP}"


def test_a_name_without_end(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", {"x" * 600: {"y" * 600: torch.zeros(1)}})
    expected = "holds a name of more than 1000 characters: download or save it again"
    assert message(path) == f"{path} {expected}"


@pytest.mark.parametrize("digits", [5, 900])
def test_a_block_number_without_end(digits: int, tmp_path: Path) -> None:
    state = untrained_state(MODELS["micro"])
    name = f"image_encoder.trunk.blocks.{'9' * digits}.norm1.weight"
    found = message(saved(tmp_path / "w.pt", {"model": {**state, name: torch.zeros(1)}}))
    assert f"does not fit micro, tensors 1 unexpected ({name})" in found


def test_names_that_are_no_text(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", {7: torch.zeros(1), ("a", 1): {"b": torch.zeros(1)}})
    assert message(path).endswith("found nothing")


def test_names_that_a_terminal_would_obey(tmp_path: Path) -> None:
    path = saved(tmp_path / "w.pt", {"a\x1b[2J\x9b1m\u202e": torch.zeros(1)})
    assert message(path).endswith(r"found a\x1b[2J\x9b1m\u202e")


def test_copies_of_no_size_are_not_compared(tmp_path: Path) -> None:
    """One value that stands for 10^12 of them."""
    huge = torch.zeros(1).expand(10**6, 10**6)
    state = {"vision_encoder.backbone.patch_embed.projection.weight": torch.zeros(1)}
    for name in ("prompt_encoder.shared_embedding", "shared_image_embedding"):
        state[f"{name}.positional_embedding"] = huge
    assert "does not fit" in message(_with_memory(tmp_path / "w.pt", state), model="micro")


def _with_memory(path: Path, state: dict[str, torch.Tensor]) -> Path:
    return saved(path, {**state, "memory_encoder.out_proj.weight": torch.zeros(1)})


def _archive(path: Path, records: dict[str, bytes], compression: int) -> Path:
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in records.items():
            archive.writestr(f"archive/{name}", content)
    return path


def test_records_that_inflate(tmp_path: Path) -> None:
    records = {"data.pkl": pickle.dumps({}, 2), "data/0": bytes(100_000_000), "version": b"3"}
    path = _archive(tmp_path / "w.pt", records, zipfile.ZIP_DEFLATED)
    assert path.stat().st_size < 200_000
    inflated = 100_000_001 + len(records["data.pkl"])
    assert message(path) == f"{path} holds records that inflate to {inflated} bytes: {_SAVE}"


def test_weights_that_another_program_packed_are_read(tmp_path: Path) -> None:
    plain, packed = io.BytesIO(), tmp_path / "w.pt"
    torch.save({"model": untrained_state(MODELS["micro"])}, plain)
    with zipfile.ZipFile(plain) as old, zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as new:
        for record in old.infolist():
            new.writestr(record.filename, old.read(record))
    assert load_checkpoint(packed).config.name == "micro"


#: one byte of a pickle makes an empty set of 216 bytes
_SETS = b"\x80\x02(" + b"\x8f" * ((1 << 21) + 10) + b"l."


def test_a_pickle_of_empty_sets(tmp_path: Path) -> None:
    path = _archive(tmp_path / "w.pt", {"data.pkl": _SETS, "version": b"3"}, zipfile.ZIP_STORED)
    expected = f"holds a pickle of {len(_SETS)} bytes, expected at most 2097152"
    assert message(path) == f"{path} {expected}: {_SAVE}"


def test_a_legacy_pickle_of_empty_sets(tmp_path: Path) -> None:
    path = tmp_path / "w.pt"
    legacy = [pickle.dumps(0x1950A86A20F9469CFC6C, 2), pickle.dumps(1001, 2), pickle.dumps({}, 2)]
    path.write_bytes(b"".join(legacy) + _SETS)
    assert message(path) == f"{path} holds a pickle of more than 2097152 bytes: {_SAVE}"


def test_a_legacy_file_is_read(tmp_path: Path) -> None:
    state = untrained_state(MODELS["micro"])
    torch.save({"model": state}, tmp_path / "w.pt", _use_new_zipfile_serialization=False)
    assert load_checkpoint(tmp_path / "w.pt").config.name == "micro"


def test_a_long_header(tmp_path: Path) -> None:
    path = tmp_path / "w.safetensors"
    path.write_bytes(struct.pack("<Q", 1 << 30) + b"{" + b" " * 100)
    expected = f"holds a header of {1 << 30} bytes, expected at most 4194304"
    assert message(path) == f"{path} {expected}: {_SAVE}"


@pytest.mark.parametrize(
    "content",
    [b"", b"[" * 100_000, b'{"weight_map": {"a": NaN}}', b'{"weight_map": {"a": 1}}', b"\xff",
     b'{"weight_map": {"a": "b\\u0000"}}', json.dumps({"weight_map": {"a": "../b"}}).encode()],
)  # fmt: skip
def test_an_odd_index(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors.index.json"
    path.write_bytes(content)
    assert message(path).startswith(f"{path} is no index of a sharded checkpoint (")


_LIMITED = """
import resource, sys
from sam2rt.export.checkpoint.load import load_checkpoint
from sam2rt.configs.errors import CheckpointError
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
try:
    load_checkpoint(sys.argv[1])
except CheckpointError:
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_what_is_refused_takes_no_memory(tmp_path: Path) -> None:
    """37 MB that torch makes 8.4 GB of."""
    sets = b"\x80\x02(" + b"\x8f" * 37_000_000 + b"l."
    path = _archive(tmp_path / "w.pt", {"data.pkl": sets, "version": b"3"}, zipfile.ZIP_STORED)
    command = [sys.executable, "-c", _LIMITED, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout) * unit < 100_000_000
