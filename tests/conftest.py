"""The checkout's root is the package itself, not a package of tests."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

pytest_plugins = ["bundles", "processes", "progress_lines"]

# before numpy and torch are loaded: processes with a thread for every core each get into each
# other's way
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]


class _RootIsAFolder:
    """Without this pytest imports the root a second time, under the checkout folder's name."""

    @pytest.hookimpl(tryfirst=True)
    def pytest_collect_directory(
        self, path: Path, parent: pytest.Collector
    ) -> pytest.Collector | None:
        return pytest.Dir.from_parent(parent, path=path) if path == ROOT else None


def pytest_configure(config: pytest.Config) -> None:
    # a job in the background starts with Ctrl-C ignored, and would hand that on to the commands
    # that tests interrupt
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    config.pluginmanager.register(_RootIsAFolder())
