"""Scripts run as modules: what goes wrong is one line, as in ``sam2rt``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...configs.errors import Sam2rtError


def run_script(command: Callable[[], Any]) -> None:
    """Call `command`; an error of ours or of the system ends the process with one line, code 1."""
    try:
        command()
    except (Sam2rtError, OSError) as error:
        raise SystemExit("sam2rt: " + " ".join(str(error).split())) from None
