"""From a list of clips to a folder with a result of each: the story of ``sam2rt track-many``."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...configs.bundle import Bundle
from ...configs.leftovers import clear_folders
from ...configs.progress import Progress, silent
from .clips import MASKS_ALONE, Clip, ClipOptions
from .plan import ClipPlan, is_done, planned
from .processes import ProcessTeam, shared_cores
from .spread import Outcome, Team, spread
from .summary import (
    ManySummary,
    check_results,
    earlier_records,
    first_records,
    write_summary,
)
from .work import ClipTask, TrackWork


@dataclass(frozen=True)
class Spreading:
    """Where the work is done.

    processes: workers, None for one a core or device. threads: of each worker, None for its share
    of the cores. ray: address of a cluster, None for processes of this machine. retries: how often
    a clip is tried again whose worker died or whose machine failed.
    """

    processes: int | None = None
    threads: int | None = None
    ray: str | None = None
    retries: int = 2


#: processes of this machine, one a core
ON_ALL_CORES = Spreading()


def track_many(
    bundle: Bundle,
    clips: Sequence[Clip],
    out: str | os.PathLike[str],
    options: ClipOptions = MASKS_ALONE,
    spreading: Spreading = ON_ALL_CORES,
    *,
    plan: ClipPlan | None = None,
    progress: Progress = silent,
) -> ManySummary:
    """Track each clip into a folder of `out`; ``summary.json`` there says what became of each.

    A result is named by the clip's name and a key of its contents, prompts, bundle and options:
    what is there is kept, equal entries are tracked once. plan: of
    :func:`~sam2rt.serving.many.plan.planned`, made here unless given; its bad clips are failed.
    Whatever ends the run, results are whole, and the next run goes on. Raises InputError for a
    place that cannot be used, SessionError where no worker can open the bundle.
    """
    place = Path(os.path.realpath(out))
    check_results(place)
    plan = plan or planned(clips, bundle, options, place, progress)
    run = _Run(bundle, options, place, plan, first_records(clips))
    run.note_known()
    todo = run.todo()
    # a cluster that is not there is no reason to leave anything
    team = _team(run, len(todo), spreading) if todo else None
    place.mkdir(parents=True, exist_ok=True)
    run.write()
    try:
        if team:
            _spread(run, todo, team, spreading.retries, progress)
    finally:
        run.write()
    return run.summary()


@dataclass
class _Run:
    bundle: Bundle
    options: ClipOptions
    out: Path
    plan: ClipPlan
    records: list[dict[str, Any]]
    started: float = field(default_factory=time.monotonic)

    def note_known(self) -> None:
        """What is bad, and what an earlier run did."""
        earlier = earlier_records(self.out)
        for index, (record, task) in enumerate(zip(self.records, self.plan.tasks, strict=True)):
            if task is None:
                record.update(status="failed", error=self.plan.bad[index])
                continue
            record["folder"] = task.name
            if is_done(self.out, task.name):
                record.update({**earlier.get(task.name, {}), "clip": record["clip"]})
                record["status"] = "kept"

    def todo(self) -> list[ClipTask]:
        """Each task that waits, once."""
        waiting = zip(self.records, self.plan.tasks, strict=True)
        tasks = [t for r, t in waiting if t is not None and r["status"] == "waiting"]
        return list({task.name: task for task in tasks}.values())

    def note(self, task: ClipTask, outcome: Outcome) -> None:
        """What became of a task, in the records of all its clips."""
        if outcome.fault is None:
            said = {"status": "tracked", **outcome.value}
        else:
            # of a worker that was killed
            clear_folders(self.out / task.name)
            asked = outcome.fault.message.replace(str(task.clip.path), task.clip.asked)
            said = {"status": "failed", "error": asked}
        for record in self.records:
            if record["folder"] == task.name:
                record.update(said, attempts=outcome.attempts)

    def summary(self) -> ManySummary:
        return ManySummary(self.records, time.monotonic() - self.started)

    def write(self) -> None:
        write_summary(self.out, self.summary().document(self.bundle, self.options))


def _spread(
    run: _Run,
    todo: list[ClipTask],
    team: tuple[Team, int],
    retries: int,
    progress: Progress,
) -> None:
    line = _Line(progress, len(todo))
    outcomes = spread(team[0], todo, team[1], retries=retries, moved=line.moved)
    try:
        with closing(outcomes):
            for outcome in outcomes:
                run.note(todo[outcome.index], outcome)
                line.finished(outcome)
    finally:
        # an interrupt ends workers amid their clips
        left = {r["folder"] for r in run.records if r["status"] == "waiting"}
        _clear(run.out, left)


def _clear(out: Path, names: set[str]) -> None:
    """Remove what ended workers left of these results."""
    # ".NAME.XXXXXXXX.part"; one look at the folder, however many there are
    begun = {path.name[1:].rsplit(".", 2)[0] for path in out.glob(".*.part")}
    for name in begun & names:
        clear_folders(out / name)


def _team(run: _Run, items: int, spreading: Spreading) -> tuple[Team, int]:
    """Workers for that many items, and how many of them."""
    device = run.options.device
    if spreading.ray is None:
        count, share = shared_cores(spreading.processes, device, items)
        return ProcessTeam(_work(run, spreading.threads or share)), count
    from .cluster import RayTeam, joined_cluster

    cluster = joined_cluster(spreading.ray, spreading.processes, spreading.threads, device)
    return RayTeam(cluster, _work(run, cluster.threads)), min(cluster.workers, items)


def _work(run: _Run, threads: int | None) -> TrackWork:
    return TrackWork(run.bundle.path, run.bundle.digest, run.options, run.out, threads)


class _Line:
    """Progress of all clips: how many are finished, frames a second."""

    def __init__(self, progress: Progress, total: int) -> None:
        self._progress, self._total = progress, total
        self._done = self._failed = self._frames = 0
        self._started = time.monotonic()
        progress("opening the bundle")

    def moved(self, shares: Sequence[tuple[int, int]]) -> None:
        """More of the clips under way is done."""
        under_way = sum(done / whole for done, whole in shares)
        frames = self._frames + sum(done for done, _ in shares)
        self._say(frames, int(100 * (self._done + under_way)))

    def finished(self, outcome: Outcome) -> None:
        """One more clip is."""
        self._done += 1
        self._failed += outcome.fault is not None
        self._frames += 0 if outcome.fault else int(outcome.value["frames"])
        self._say(self._frames, 100 * self._done)

    def _say(self, frames: int, hundredths: int) -> None:
        failed = f", {self._failed} failed" if self._failed else ""
        speed = frames / max(time.monotonic() - self._started, 1e-9)
        text = f"{self._done} of {self._total} clips{failed}, {speed:.1f} frames/s"
        self._progress(text, hundredths, 100 * self._total)
