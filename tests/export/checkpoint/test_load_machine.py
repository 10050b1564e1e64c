"""A checkpoint that the machine cannot open is not called truncated."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from no_descriptors import no_descriptors
from safetensors.torch import save_file

from sam2rt import CheckpointError
from sam2rt.export.checkpoint.read import read_tensors
from sam2rt.export.checkpoint.shards import shard_files

WHY = "(Too many open files): close files and videos, or raise this process's limit, 'ulimit -n'"


@pytest.mark.parametrize("suffix", [".pt", ".safetensors"])
def test_too_many_open_files(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    state = {"a": torch.ones(2)}
    if suffix == ".pt":
        torch.save({"model": state}, path)
    else:
        save_file(state, path)
    with no_descriptors(), pytest.raises(CheckpointError) as caught:
        read_tensors(path)
    assert str(caught.value) == f"{path} cannot be read {WHY}"
    read_tensors(path)


def test_an_index_of_shards(tmp_path: Path) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text('{"weight_map": {"a": "b.safetensors"}}')
    with no_descriptors(), pytest.raises(CheckpointError) as caught:
        shard_files(index)
    assert str(caught.value) == f"{index} cannot be read {WHY}"
