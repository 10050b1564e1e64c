"""Videos of a job on a cluster of Ray, each worker with a session it opens once."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from typing import Any

from ...serving.many.cluster import RayTeam, joined_cluster
from ...serving.many.spread import RunItem, spread
from .job import Job
from .workers import FinishedVideos


@dataclass(frozen=True)
class EvaluationWork:
    """Videos of a job by their index; see :class:`~sam2rt.serving.many.spread.SpreadWork`."""

    job: Job

    @contextmanager
    def open(self) -> Iterator[RunItem]:
        """Open the model."""
        with self.job.opener.open() as session:
            yield lambda index, progress: self.job.record(session, index, progress)


def on_cluster(
    job: Job, todo: list[int], address: str, workers: int | None, threads: int | None, device: str
) -> FinishedVideos:
    """Evaluate videos of a job on the cluster at that address.

    A video whose worker died is evaluated once more. Closing the iterator or an error ends the
    workers. Raises what a worker raised, and as
    :func:`~sam2rt.serving.many.cluster.joined_cluster`.
    """
    cluster = joined_cluster(address, workers, threads, device)
    team = RayTeam(cluster, EvaluationWork(job))
    outcomes = spread(team, todo, cluster.workers, retries=1, moved=lambda shares: None)
    with closing(outcomes):
        for outcome in outcomes:
            if outcome.fault is not None:
                raise outcome.fault.error()
            record: dict[str, Any] = outcome.value
            yield todo[outcome.index], record
