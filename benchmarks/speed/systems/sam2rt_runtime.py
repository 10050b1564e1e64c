"""sam2rt as one of the systems compared, whole or with one of its optimisations taken away."""

from __future__ import annotations

import dataclasses
import importlib
import time
from collections.abc import Iterator, Mapping
from contextlib import closing
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from ....configs.bundle import Bundle, BundleFile, GraphEntry
from ....configs.graphs import TRACK_FRAME, TRACK_OBJECT, TRACK_STEP, GraphSpec, graph_specs
from ....runtime.arrays import Array, Frame
from ....runtime.backends.open import open_session
from ....runtime.bank import FrameOutput
from ....runtime.predictors.stream import StreamTracker
from ....runtime.session import Into, Session, SessionWrapper, check_inputs
from ....runtime.tracking.prefetch import prefetched
from ..clip import scored_clip, timed_frames, timed_points
from .system import CPU, LATER, Tracked, Work, whole_frame


class TimedSession(SessionWrapper):
    """A session that adds up the seconds spent in each graph and notes what it was given.

    Owns the session inside: opened and closed with it.

    `unshared`: what objects share is given once per object, as programs do that know no better.
    """

    def __init__(self, session: Session, unshared: bool = False) -> None:
        super().__init__(session)
        self._unshared = unshared
        self._specs = graph_specs(session.bundle.model)
        #: by graph, and processor time by CPU + graph
        self.seconds: dict[str, float] = {}
        #: (graph, sizes of its dynamic dimensions) of each call
        self.calls: list[tuple[str, dict[str, int]]] = []
        self._choices: list[int] = []
        #: outputs whose choices were not looked at: they may still be on their way from a GPU
        self._unread: list[Mapping[str, Array]] = []

    def run(
        self, graph: str, inputs: Mapping[str, Array], into: Into | None = None
    ) -> dict[str, Array]:
        spec = self._specs[graph]
        if self._unshared:
            inputs = _per_object(spec, inputs)
        start, cpu = time.perf_counter(), time.process_time()
        outputs = self.session.run(graph, inputs, into)
        self._add(graph, time.perf_counter() - start, time.process_time() - cpu)
        self.calls.append((graph, _sizes(spec, inputs)))
        self._unread.append({n: outputs[n] for n in ("iou", "all_ious") if n in outputs})
        return outputs

    @property
    def choices(self) -> list[int]:
        """Masks taken since it was last emptied, in the order of the objects."""
        for outputs in self._unread:
            self._choices += _choices(outputs)
        self._unread.clear()
        return self._choices

    def _add(self, graph: str, wall: float, cpu: float) -> None:
        for name, seconds in ((graph, wall), (CPU + graph, cpu)):
            self.seconds[name] = self.seconds.get(name, 0.0) + seconds

    def close(self) -> None:
        self.session.close()

    def __enter__(self) -> TimedSession:
        self.session.__enter__()
        return self


def _sizes(spec: GraphSpec, inputs: Mapping[str, Array]) -> dict[str, int]:
    return {
        dim: int(size)
        for tensor in spec.inputs
        if tensor.name in inputs
        for dim, size in zip(tensor.shape, np.shape(inputs[tensor.name]), strict=True)
        if isinstance(dim, str)
    }


def _per_object(spec: GraphSpec, inputs: Mapping[str, Array]) -> dict[str, Array]:
    count = _sizes(spec, inputs).get("N", 1)
    shared = {t.name for t in spec.inputs if t.shape[0] in ("I", "G")}
    return {
        name: np.repeat(array, count, axis=0) if name in shared and len(array) == 1 else array
        for name, array in inputs.items()
    }


def _choices(outputs: Mapping[str, Array]) -> list[int]:
    """Which of the four masks was taken for each object; nothing where the graph does not say."""
    if "iou" not in outputs:
        return []
    if "all_ious" not in outputs:
        return [-1] * len(outputs["iou"])
    chosen = np.abs(np.asarray(outputs["all_ious"]) - np.asarray(outputs["iou"])).argmin(axis=1)
    return [int(index) for index in chosen]


class PlainSession(Session):
    """ONNX Runtime with default session options, nothing bound: each graph a file and a call."""

    def __init__(self, bundle: Bundle, device: str, threads: int) -> None:
        self.bundle, self.device, self._threads = bundle, device, threads
        self._provider = "CPUExecutionProvider" if device == "cpu" else "CUDAExecutionProvider"
        self._graphs: dict[str, Any] = {}

    def run(
        self, graph: str, inputs: Mapping[str, Array], into: Into | None = None
    ) -> dict[str, Array]:
        opened = self._graphs.get(graph) or self._open(graph)
        spec = self.bundle.graphs[graph].spec
        names = [tensor.name for tensor in spec.outputs]
        return dict(zip(names, opened.run(names, check_inputs(spec, inputs)), strict=True))

    @property
    def fused(self) -> bool:
        """Whether a frame without prompts takes one graph, as on sam2rt's own session."""
        return TRACK_STEP in self.bundle.graphs

    def _open(self, graph: str) -> Any:
        ort = importlib.import_module("onnxruntime")
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.log_severity_level = 3
        path = str(self.bundle.graph_path(graph))
        self._graphs[graph] = ort.InferenceSession(path, options, providers=[self._provider])
        return self._graphs[graph]

    def close(self) -> None:
        self._graphs.clear()

    def __enter__(self) -> PlainSession:
        for graph in self.bundle.graphs:
            # variants for engines are named <graph>.<variant>
            if "." not in graph:
                self._open(graph)
        return self


class Sam2rtSystem:
    """A bundle on one of sam2rt's backends, through StreamTracker.

    graphs: files that stand for graphs of the bundle (another variant of the same). split: the
    fused graph is left aside. plain: default session options and no binding. unshared: see
    TimedSession. objects_per_call: at most so many objects in one call of a graph.
    """

    def __init__(
        self,
        work: Work,
        bundle: str,
        backend: str,
        device: str,
        *,
        graphs: Mapping[str, str] | None = None,
        split: bool = False,
        plain: bool = False,
        unshared: bool = False,
        objects_per_call: int | None = None,
    ) -> None:
        self.work, self.path, self.backend, self.device = work, bundle, backend, device
        self._replaced, self._split, self._plain = graphs or {}, split, plain
        self._unshared = unshared
        self._on_gpu = (backend, device) != ("onnxruntime", "cpu")
        self._options: dict[str, Any] = (
            {} if objects_per_call is None else {"objects_per_call": objects_per_call}
        )
        self._frames: Iterator[Frame]
        self._newest: dict[int, FrameOutput] = {}

    def load(self) -> dict[str, Any]:
        start = time.perf_counter()
        self._bundle = self._changed(Bundle.load(self.path))
        self._session = TimedSession(self._opened(), self._unshared)
        self._session.__enter__()
        return {"load_s": time.perf_counter() - start}

    def set_up(self, work: Work) -> dict[str, float]:
        self.work = work
        self._frames = timed_frames(work)
        return {"first_frame_s": self._start()}

    def frame(self) -> dict[str, float]:
        if not self._steady():
            if self._on_gpu:
                self._start()
            else:
                self._fill()
        self._session.seconds.clear()
        self._session.calls.clear()
        self._session.choices.clear()
        frame = next(self._frames)
        start, cpu = time.perf_counter(), time.process_time()
        np.asarray(self._tracker.step(frame).logits)
        total, cpu = time.perf_counter() - start, time.process_time() - cpu
        return whole_frame(self._session.seconds, total, cpu)

    def tracked(self, work: Work) -> Tracked | None:
        clip = scored_clip(work)
        return tracked_by(self._session, clip.frames, clip.points, self._options)

    def clip(self, count: int, prefetch: bool) -> float:
        """Seconds a frame, over `count` frames; the next ones are encoded meanwhile, or not.

        As many are in flight when the clock stops as when it starts: the middle of a long clip.
        """
        frames = [next(self._frames) for _ in range(count + 4)]
        source = (self._tracker.encoded(f) for f in frames) if prefetch else iter(frames)
        leave = self._tracker.session.leave_thread
        with closing(prefetched(source, depth=1, leave=leave)) as items:
            self._tracker.step(next(items))
            start = time.perf_counter()
            for item in islice(items, count):
                np.asarray(self._tracker.step(item).logits)
            return (time.perf_counter() - start) / count

    def operations(self) -> dict[str, float]:
        from ..operations import graph_operations

        found: dict[str, float] = {}
        for graph, sizes in self._session.calls:
            entry = self._bundle.graphs[graph]
            count = graph_operations(self._bundle.graph_path(graph), entry.spec, sizes)
            if count is not None:
                found[graph] = found.get(graph, 0.0) + count
        return found

    def _changed(self, bundle: Bundle) -> Bundle:
        graphs = dict(bundle.graphs)
        if self._split:
            graphs.pop(TRACK_STEP, None)
        if self._split or TRACK_STEP in self._replaced:
            graphs.pop(TRACK_FRAME, None)
            graphs.pop(TRACK_OBJECT, None)
        for name, path in self._replaced.items():
            # an absolute path stands for itself
            size = Path(path).stat().st_size
            graphs[name] = GraphEntry(graphs[name].spec, BundleFile(path, "", size))
        return dataclasses.replace(bundle, graphs=graphs)

    def _opened(self) -> Session:
        if self._plain:
            return PlainSession(self._bundle, self.device, self.work.threads)
        return open_session(self._bundle, self.backend, self.device, self.work.threads)

    def _start(self) -> float:
        """A new clip up to the state that the work asks for; seconds of its first frame."""
        self._newest.clear()
        self._tracker = StreamTracker(self._bundle, session=self._session, **self._options)
        for obj_id, point in enumerate(timed_points(self.work)):
            self._tracker.add_points(obj_id, [point], [1])
        first = next(self._frames)
        start = time.perf_counter()
        self._tracker.step(first)
        seconds = time.perf_counter() - start
        if self._on_gpu:
            # memories lie in their slots: frames are tracked until there are enough
            for _ in range((LATER if self._steady() else self.work.memories) - 1):
                self._tracker.step(next(self._frames))
        else:
            self._tracker.step(next(self._frames))
            # nothing is looked for before frame 0
            self._tracker.skip_to(LATER)
            self._fill()
        return seconds

    def _steady(self) -> bool:
        """Whether tracking alone keeps the state: as many memories and pointers as there can be."""
        model = self._bundle.model
        return (self.work.memories, self.work.pointers) == (model.num_maskmem, model.max_obj_ptrs)

    def _fill(self) -> None:
        """Give each object exactly as many memories and pointers as the work says."""
        now = self._tracker.frame_idx
        for obj_id, history in self._tracker.histories.items():
            if history.non_cond:
                last = max(history.non_cond)
                self._newest[obj_id] = dataclasses.replace(history.non_cond[last], mask_logits=None)
            newest = self._newest[obj_id]
            # one for each frame: what a tracker forgets it takes out of them
            history.non_cond = {
                t: dataclasses.replace(
                    newest, memory=newest.memory if now - t < self.work.memories else None
                )
                for t in range(now - 1, now - self.work.pointers, -1)
            }


def tracked_by(
    session: TimedSession,
    frames: list[Frame],
    points: list[tuple[float, float]],
    options: Mapping[str, Any],
) -> Tracked:
    """Track a clip from its first frame on; holes stay as the decoder left them."""
    tracker = StreamTracker(session.bundle, session=session, fill_hole_area=0, **options)
    for obj_id, point in enumerate(points):
        tracker.add_points(obj_id, [point], [1])
    masks, choices = [], []
    for frame in frames:
        session.choices.clear()
        masks.append(tracker.step(frame).masks)
        choices.append(list(session.choices))
    return Tracked(np.stack(masks), np.array(choices))
