"""Each item comes out once, whatever happens to workers."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from many_clips import Numbers

from sam2rt.configs.errors import SessionError
from sam2rt.serving.many import processes
from sam2rt.serving.many.processes import ProcessTeam, shared_cores
from sam2rt.serving.many.spread import Fault, Notice, Outcome, spread


def _ignored(shares: Sequence[tuple[int, int]]) -> None:
    pass


def _spread(work: Numbers, count: int, workers: int = 2, retries: int = 1) -> dict[int, Outcome]:
    found: dict[int, Outcome] = {}
    team = ProcessTeam(work)
    for outcome in spread(team, range(count), workers, retries=retries, moved=_ignored):
        assert outcome.index not in found
        found[outcome.index] = outcome
    return found


def test_a_worker_killed_amid_an_item_loses_none(tmp_path: Path) -> None:
    found = _spread(Numbers(tmp_path, kills=(3,)), 8)
    assert {i: o.value for i, o in found.items()} == {i: 2 * i for i in range(8)}
    assert {i: o.attempts for i, o in found.items() if o.attempts > 1} == {3: 2}
    # no item but the victim's was begun twice
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [*(f"{i}-0" for i in range(8)), "3-1"]
    )


def test_an_item_that_ends_each_worker_is_given_up(tmp_path: Path) -> None:
    found = _spread(Numbers(tmp_path, deadly=(0,)), 4, retries=2)
    assert {i: o.value for i, o in found.items() if o.fault is None} == {1: 2, 2: 4, 3: 6}
    assert found[0].attempts == 3
    assert found[0].fault == Fault("SessionError", "its process ended (exit code -9)", again=True)


def test_what_the_machine_fails_is_tried_again_and_a_wrong_input_is_not(tmp_path: Path) -> None:
    found = _spread(Numbers(tmp_path, failing=(1,), wrong=(2,)), 3)
    assert (found[1].value, found[1].attempts) == (2, 2)
    assert found[2].attempts == 1
    assert found[2].fault == Fault("InputError", "2 is wrong", again=False)
    assert not (tmp_path / "2-1").exists()


def test_retries_end(tmp_path: Path) -> None:
    found = _spread(Numbers(tmp_path, failing=(1,)), 2, retries=0)
    assert found[1].fault == Fault("OSError", "the disk had a moment", again=True)


def test_a_work_that_cannot_be_opened_ends_the_run(tmp_path: Path) -> None:
    with pytest.raises(SessionError, match=r"^no device here$"):
        _spread(Numbers(tmp_path, unusable=True), 4)


def test_closing_ends_the_workers(tmp_path: Path) -> None:
    team = ProcessTeam(Numbers(tmp_path))
    outcomes = spread(team, range(50), 2, moved=_ignored)
    next(outcomes)
    workers = [process for process, _ in team._workers.values()]
    assert len(workers) == 2
    outcomes.close()
    assert [process.is_alive() for process in workers] == [False, False]


class _Stillborn:
    """Workers that die before they are ready."""

    def __init__(self) -> None:
        self.started = 0

    def start(self) -> None:
        self.started += 1

    def give(self, worker: int, item: object) -> None:
        raise AssertionError("nobody was ready")

    def notices(self) -> list[Notice]:
        return [Notice(self.started, "dead", "out of memory")]

    def close(self) -> None:
        self.started = -1


def test_workers_that_never_start_end_the_run() -> None:
    team = _Stillborn()
    with pytest.raises(SessionError, match=r"end before they are ready \(out of memory\)"):
        list(spread(team, range(9), 2, moved=_ignored))
    assert team.started == -1


def test_processes_say_how_far_they_are(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "REPORT_EVERY", 0)
    near, far = processes.multiprocessing.Pipe()
    near.send(("item", 4))
    report = processes._reporter(far)
    report("counting", 1, 2)
    assert near.recv() == ("at", (1, 2))
    near.close()
    time.sleep(0.01)
    with pytest.raises(ConnectionError):
        report("counting", 2, 2)


def test_cores_are_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(12)))
    assert shared_cores(None, "cpu", 100) == (8, 1)
    assert shared_cores(None, "cpu", 3) == (3, 4)
    assert shared_cores(16, "cpu", 100) == (16, 1)
    assert shared_cores(None, "cuda", 100) == (1, None)
    assert shared_cores(2, "cuda", 100) == (2, None)
