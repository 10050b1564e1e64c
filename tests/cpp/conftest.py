from __future__ import annotations

from collections.abc import Iterator

import pytest
from cpp_build import built, require_toolchain
from cpp_library import Library


@pytest.fixture
def library() -> Iterator[Library]:
    """The C interface of the built library; what is made through it is freed at the end."""
    require_toolchain()
    opened = Library(built() / "libsam2rt.so")
    yield opened
    opened.close()
