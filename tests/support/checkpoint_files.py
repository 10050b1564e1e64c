"""Checkpoint files for tests, and what loading one says."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sam2rt.configs.errors import CheckpointError
from sam2rt.export.checkpoint.load import load_checkpoint

State = dict[str, torch.Tensor]


def saved(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def message(path: Path | str, **options: object) -> str:
    with pytest.raises(CheckpointError) as caught:
        load_checkpoint(path, **options)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return str(caught.value)
