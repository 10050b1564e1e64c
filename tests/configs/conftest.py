from __future__ import annotations

from pathlib import Path

import pytest
from fake_bundle import write_bundle


@pytest.fixture
def bundle_path(tmp_path: Path) -> Path:
    path = tmp_path / "bundle"
    write_bundle(path)
    return path
