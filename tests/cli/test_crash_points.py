"""Commands are cut off before each step of writing in turn: results are the old or the new.

A step is whatever changes the folder of the results; a write counts twice, before it and half
way. After each the command runs again, succeeds, and leaves nothing beside its result.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from faulty_commands import CUT
from scenes import Scene

pytestmark = pytest.mark.slow

#: commands whose run takes half a second are cut off at every point
QUICK = (
    "segment", "masks", "track", "eval", "build", "download", "download of weights",
    "download of an official checkpoint", "triton",
)  # fmt: skip
#: others run once, and the folder is kept before each step that changes what can be found in it;
#: the command runs again on every so many of these
LONG = {"export": 6, "train": 2, "bench": 3, "accuracy": 20, "demo": 40, "plugins": 1}
#: points that a long command has at least
_LEAST = {
    "export": 300, "train": 50, "bench": 6, "accuracy": 100, "demo": 300, "plugins": 4,
}  # fmt: skip


@pytest.mark.parametrize("scene", QUICK, indirect=True)
def test_results_are_old_or_new(scene: Scene, request: pytest.FixtureRequest) -> None:
    step, seen = 1, []
    while True:
        scene.restore()
        ran = scene.commands.run(scene.new, scene.results, "cut", step)
        if ran.code != CUT:
            break
        seen.append(scene.which())
        scene.again()
        step += 1
    assert ran.code == 0, ran.err
    print(f"{request.node.callspec.id}: {len(seen)} points")
    assert len(seen) == len(scene.whole.calls) >= 15
    # from one moment on it is the new one
    assert seen == sorted(seen, reverse=True)
    assert seen[0] == "old"
    assert scene.which() == "new"


@pytest.mark.parametrize("scene", LONG, indirect=True)
def test_results_of_long_commands_are_old_or_new(
    scene: Scene, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.id
    scene.restore()
    ran = scene.commands.run(scene.new, scene.results, kept=tmp_path / "kept")
    assert ran.code == 0, ran.err
    kept = sorted((tmp_path / "kept").iterdir())
    seen = [scene.which(folder) for folder in kept]
    for folder in kept[:: LONG[name]]:
        scene.restore(folder)
        scene.again()
        shutil.rmtree(folder)
    points = len(ran.calls)
    print(f"{name}: {points} points, {len(kept)} that differ, {len(kept[:: LONG[name]])} repeated")
    assert points >= _LEAST[name]
    assert len(kept) >= (2 if name == "plugins" else 5)
    assert seen[0] == "old"
    assert scene.which() == "new"
