"""Commands are killed at random moments: old or new for a reader, and the next run succeeds."""

from __future__ import annotations

import random
import signal

import pytest
from scenes import SCENES, Scene


def _killed(scene: Scene, kills: int, seed: int) -> int:
    """Kill the command so often, anywhere in its run; how many of the kills met it alive."""
    moments, met = random.Random(seed), 0
    for _ in range(kills):
        scene.restore()
        moment = moments.uniform(0, scene.whole.seconds)
        ran = scene.commands.run(scene.new, kill_after=moment)
        assert ran.code in (0, -signal.SIGKILL), ran.err
        assert not ran.left, "processes that it started live on"
        met += ran.code != 0
        scene.which()
        scene.again()
    return met


@pytest.mark.slow
@pytest.mark.parametrize("scene", SCENES, indirect=True)
def test_killed_now_and_then(scene: Scene) -> None:
    assert _killed(scene, 3, seed=1) >= 1


@pytest.mark.nightly
@pytest.mark.parametrize("scene", SCENES, indirect=True)
def test_killed_fifty_times(scene: Scene, request: pytest.FixtureRequest) -> None:
    met = _killed(scene, 50, seed=2)
    print(f"{request.node.callspec.id}: 50 kills, {met} met it alive")
    assert met >= 25
