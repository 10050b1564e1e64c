"""Array types with a meaning: what each dtype stands for in a signature."""

from __future__ import annotations

from typing import Any

from numpy.typing import NDArray

Array = NDArray[Any]
