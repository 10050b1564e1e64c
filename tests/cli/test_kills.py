"""Commands are killed at random moments: old or new for a reader, and the next run succeeds."""

from __future__ import annotations

import random
import signal

import pytest
from scenes import SCENES, Scene

from sam2rt.cli.group import make_group

#: a measurement takes half a minute, and writes one file at its end
KILLED = tuple(name for name in SCENES if name != "bench")
#: they print what they found
WRITE_NOTHING = {"doctor", "inspect", "verify"}
#: killed with their processes in tests/serving: test_process.py, many/test_command.py
SERVING = {"serve", "track-many"}


def _killed(scene: Scene, kills: int, seed: int) -> int:
    """Kill the command so often, anywhere in its run; how many runs that took.

    A run that ends before it is killed does not count.
    """
    moments, met, runs = random.Random(seed), 0, 0
    while met < kills:
        scene.restore()
        moment = moments.uniform(0, scene.whole.seconds)
        ran = scene.commands.run(scene.new, kill_after=moment)
        assert ran.code in (0, -signal.SIGKILL), ran.err
        assert not ran.left, "processes that it started live on"
        scene.which()
        runs += 1
        if ran.code != 0:
            met += 1
            scene.again()
            if met % 10 == 0:
                print(f"{met} kills in {runs} runs", flush=True)
        assert runs < 10 * kills
    return runs


def test_every_command_that_writes_has_a_scene() -> None:
    scenes = {name.partition(" of ")[0] for name in SCENES}
    assert scenes | WRITE_NOTHING | SERVING == set(make_group().commands)


@pytest.mark.slow
@pytest.mark.parametrize("scene", KILLED, indirect=True)
def test_killed_now_and_then(scene: Scene) -> None:
    assert _killed(scene, 2, seed=1) >= 2


@pytest.mark.slow
@pytest.mark.nightly
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("scene", KILLED, indirect=True)
def test_killed_fifty_times(scene: Scene, request: pytest.FixtureRequest) -> None:
    runs = _killed(scene, 50, seed=2)
    print(f"{request.node.callspec.id}: 50 kills in {runs} runs")
