"""Commands that fail on purpose: a process to fork them from, and scenes by name."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from bundles import SharedBundles
from faulty_commands import Commands, commands_of
from scenes import Scene, scene_of

from sam2rt.configs.bundle import Bundle


@pytest.fixture(scope="session")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    with commands_of(tmp_path_factory.mktemp("commands")) as made:
        yield made


@pytest.fixture
def scene(
    request: pytest.FixtureRequest,
    commands: Commands,
    bundle: Bundle,
    shared_bundles: SharedBundles,
) -> Iterator[Scene]:
    """The scene that the test's parameter names, both of its results made once."""
    weights = [shared_bundles.weights(seed=seed) for seed in (0, 1)]
    with scene_of(request.param, commands, bundle, weights) as made:
        yield made
