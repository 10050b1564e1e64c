"""Our own runtime as one of the systems compared."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import numpy as np

from ..configs.bundle import Bundle
from ..runtime.bank import FrameOutput
from ..runtime.session import Array, Session, open_session
from ..runtime.stream import StreamTracker
from .systems import Work


class TimedSession:
    """A session that adds up the seconds spent in each graph."""

    def __init__(self, session: Session) -> None:
        self.session, self.bundle = session, session.bundle
        self.seconds: dict[str, float] = {}

    def run(self, graph: str, inputs: Mapping[str, Array]) -> dict[str, Array]:
        start = time.perf_counter()
        outputs = self.session.run(graph, inputs)
        self.seconds[graph] = self.seconds.get(graph, 0.0) + time.perf_counter() - start
        return outputs

    def close(self) -> None:
        self.session.close()

    def __enter__(self) -> TimedSession:
        self.session.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.session.__exit__(kind, error, trace)


class OurSystem:
    """A bundle on one of our backends, through StreamTracker."""

    def __init__(self, work: Work, bundle: str, backend: str, device: str) -> None:
        self.work, self.path, self.backend, self.device = work, bundle, backend, device
        self._frames = _frames(work)

    def prepare(self) -> dict[str, Any]:
        start = time.perf_counter()
        bundle = Bundle.load(self.path)
        session = TimedSession(open_session(bundle, self.backend, self.device, self.work.threads))
        session.__enter__()
        loaded = time.perf_counter()
        self._session = session
        self._tracker = StreamTracker(bundle, session=session)
        height, width = self.work.frame_size
        for obj_id in range(self.work.objects):
            x = width * (obj_id + 1) / (self.work.objects + 1)
            self._tracker.add_points(obj_id, [[x, height / 2]], [1])
        self._tracker.step(next(self._frames))
        first = time.perf_counter()
        self._tracker.step(next(self._frames))
        self._fill()
        return {"load_s": loaded - start, "first_frame_s": first - loaded}

    def frame(self) -> dict[str, float]:
        self._fill()
        self._session.seconds.clear()
        frame = next(self._frames)
        start = time.perf_counter()
        self._tracker.step(frame)
        total = time.perf_counter() - start
        graphs = dict(self._session.seconds)
        return {**graphs, "other": total - sum(graphs.values()), "total": total}

    def _fill(self) -> None:
        """Give each object exactly as many memories and pointers as the work says."""
        now = self._tracker.frame_idx
        for item in self._tracker._objects.values():
            history = item.history
            newest: FrameOutput = history.non_cond[max(history.non_cond)]
            tracked = range(now - 1, now - self.work.pointers, -1)
            history.non_cond = {
                t: FrameOutput(
                    None,
                    newest.obj_ptr,
                    newest.object_score,
                    newest.iou,
                    newest.memory if now - t < self.work.memories else None,
                )
                for t in tracked
            }


def _frames(work: Work) -> Iterator[Array]:
    generator = np.random.default_rng(0)
    height, width = work.frame_size
    pool = [generator.integers(0, 256, (height, width, 3), np.uint8) for _ in range(4)]
    while True:
        yield from pool
