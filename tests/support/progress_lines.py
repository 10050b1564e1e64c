"""Lines of progress come on slow machines alone, where tests would take them for messages."""

from __future__ import annotations

import math
import sys

import pytest


@pytest.fixture(autouse=True)
def no_lines_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    """Commands of this process write none, unless a test asks for them."""
    if module := sys.modules.get("sam2rt.cli.progress_line"):
        monkeypatch.setattr(module, "EVERY", math.inf)
