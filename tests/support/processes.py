"""How a run is spread over processes (pytest-xdist): file by file, those with slow tests first."""

from __future__ import annotations

from typing import Any

import pytest

#: folders whose tests stay in one process: they share what takes minutes to compile
TOGETHER = ("tests/cpp/",)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Long files first: one that came last would be run while the other processes wait."""
    heavy = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in heavy)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    from xdist.scheduler import LoadScopeScheduling

    class ByFile(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return next((f for f in TOGETHER if nodeid.startswith(f)), nodeid.partition("::")[0])

    # by the number of tests, as is the default, files with few and long ones would come last
    config.option.loadscopereorder = False
    return ByFile(config, log)
