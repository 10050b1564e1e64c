"""Compare systems on the same work, frame by frame in rotation, and report."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from ...configs.bundle import Bundle
from ...configs.errors import CheckpointError, InputError, SessionError
from ...configs.progress import Progress, silent
from ...configs.staging import temporary_folder
from ...runtime.backends.open import open_session
from ...runtime.tracking.prefetch import check_prefetch
from .clip import compared
from .machine import Machine, matrix_rate, this_machine
from .report import BenchReport, Point, SystemReport, system_report, timings, write_json
from .systems.ablations import VariantGraphs
from .systems.system import Tracked, Work, Worker

__all__ = ["BASELINES", "Request", "bench_bundle", "write_json"]

#: where the classes of the systems are, which their processes import by name
_SYSTEMS = f"{__package__}.systems"
#: other implementations by name: class, options of its constructor
BASELINES: dict[str, tuple[str, dict[str, Any]]] = {
    "original": (f"{_SYSTEMS}.original:OriginalSystem", {}),
    "original-compiled": (f"{_SYSTEMS}.original:OriginalSystem", {"compile": True}),
    "transformers": (f"{_SYSTEMS}.transformers_baseline:TransformersSystem", {}),
    "transformers-compiled": (
        f"{_SYSTEMS}.transformers_baseline:TransformersSystem",
        {"compile": True},
    ),
    # as their documentation runs them on GPUs, which CPUs with bfloat16 units do as well
    "original-bf16": (f"{_SYSTEMS}.original:OriginalSystem", {"precision": "bf16"}),
    "transformers-bf16": (
        f"{_SYSTEMS}.transformers_baseline:TransformersSystem",
        {"precision": "bf16"},
    ),
}
_SAM2RT = f"{_SYSTEMS}.sam2rt_runtime:Sam2rtSystem"
_ONNX = f"{_SYSTEMS}.onnx_folder:OnnxFolderSystem"
_REFERENCE = f"{_SYSTEMS}.reference:ReferenceSystem"


@dataclass(frozen=True)
class Request:
    """What to compare with a bundle, and how far.

    also: more sam2rt bundles, elsewhere: bundles with the backend of each. ablations: names of
    ablations.ABLATIONS. baselines: names of BASELINES. onnx: folders of graphs of other exporters,
    dims the sizes of their symbolic dimensions. checkpoint: the bundle's weights, for other
    variants, baselines and the float32 reference. growing: also with 1 to all memories.
    object_counts: also with these numbers of objects. point_frames: frames of each of these points.
    prefetch: the bundle also on clips of `frames` frames, prefetched and not.
    """

    work: Work = field(default_factory=Work)
    backend: str = "onnxruntime"
    device: str = "cpu"
    frames: int = 10
    baselines: Sequence[str] = ()
    also: Sequence[Path] = ()
    elsewhere: Sequence[tuple[str, Path]] = ()
    ablations: Sequence[str] = ()
    onnx: Sequence[Path] = ()
    dims: tuple[tuple[str, int], ...] = ()
    checkpoint: str | Path | None = None
    growing: bool = False
    object_counts: Sequence[int] = ()
    point_frames: int = 3
    prefetch: bool = False


@dataclass
class Entry:
    """A system of the comparison while it runs."""

    worker: Worker
    precision: str
    weights: str
    points: list[Point] = field(default_factory=list)
    accuracy: dict[str, Any] = field(default_factory=dict)
    not_run: str = ""

    def report(self) -> SystemReport:
        name = self.worker.measured.name
        if self.not_run:
            return SystemReport(name, self.precision, self.weights, not_run=self.not_run)
        return system_report(
            self.worker.measured, self.precision, self.weights, self.accuracy, self.points
        )


def bench_bundle(bundle: Bundle, request: Request, progress: Progress = silent) -> BenchReport:
    """Measure a bundle, and others on the same work in the same run.

    Every system is a process of its own; each takes one frame in rotation, `frames` of them, and
    the order changes from frame to frame. Times are wall seconds beside the process's own. A system
    other than the bundle that cannot run is reported with its reason. Raises InputError for an
    unknown name and for prefetching on a session with one queue, CheckpointError for another
    checkpoint than the bundle's, SessionError when the bundle fails.
    """
    _check_depth(bundle, request.work)
    # a backend that is not there is told before variants are exported, which takes long
    with closing(open_session(bundle, request.backend, request.device)) as session:
        if request.prefetch:
            check_prefetch(session)
    with ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        entries = list(_entries(bundle, request, folder, progress))
        _check_names([entry.worker.measured.name for entry in entries])
        progress("measuring the machine")
        machine = this_machine(request.work.threads, request.device)
        entries[0].worker.measured.facts.update(starting(bundle, request))
        _prepare(entries, stack, progress)
        _measure_frames(entries, request.frames, progress)
        for entry in _running(entries):
            progress(f"counting operations of {entry.worker.measured.name}")
            _try(entry, entries[0], entry.worker.finish)
            _try(entry, entries[0], entry.worker.operations)
        if request.prefetch:
            progress("tracking clips with prefetched frames")
            _time_prefetch(entries[0].worker, request.frames)
        for phase, work in _points(bundle, request):
            _measure_point(entries, phase, work, request.point_frames, progress)
        _score_masks(entries, bundle, request, progress)
        machine = _again(machine, request)
        size = bundle.model.image_size
        rows = tuple(entry.report() for entry in entries)
        return BenchReport(machine, bundle.model.name, size, request.work, rows)


def _check_depth(bundle: Bundle, work: Work) -> None:
    """Refuse more memories or pointers than the model attends to: fewer would be measured."""
    model = bundle.model
    depths = (
        ("memories", work.memories, model.num_maskmem),
        ("pointers", work.pointers, model.max_obj_ptrs),
    )
    for name, asked, most in depths:
        if asked > most:
            raise InputError(
                f"{asked} {name}: {model.name} has {most} at most, ask for 1 to {most}"
            )


def _check_names(names: Sequence[str]) -> None:
    """Refuse two systems of one name: their rows, points and bars could not be told apart."""
    for index, name in enumerate(names):
        if name in names[:index]:
            raise InputError(
                f"two systems are called '{name}': ask for each once, and give bundles of one "
                "precision folders of different names"
            )


def starting(bundle: Bundle, request: Request) -> dict[str, float]:
    """Seconds to import the package and to open the bundle in a fresh process, the second time."""
    code = (
        "import json, sys, time; a = time.perf_counter(); import sam2rt; b = time.perf_counter(); "
        "from sam2rt.runtime.backends.open import open_session; "
        "s = open_session(sam2rt.Bundle.load(sys.argv[1]), sys.argv[2], sys.argv[3], "
        "int(sys.argv[4])); s.__enter__(); c = time.perf_counter(); "
        "print(json.dumps({'import_s': b - a, 'second_load_s': c - b}))"
    )
    arguments = [str(bundle.path), request.backend, request.device, str(request.work.threads)]
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", code, *arguments], capture_output=True, text=True, check=False
        )
    if done.returncode != 0:
        why = (done.stderr.strip().splitlines() or ["no message"])[-1]
        # errors of sam2rt say enough without the name of their class
        why = re.sub(r"^sam2rt\.configs\.errors\.\w+: ", "", why)
        raise SessionError(f"the bundle cannot be opened in a process of its own ({why})")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def _again(machine: Machine, request: Request) -> Machine:
    """The machine with the better of two measured rates: it was perhaps busy the first time."""
    if request.device != "cpu":
        return machine
    return replace(
        machine, matrix_gflops=max(machine.matrix_gflops, matrix_rate(request.work.threads))
    )


def _entries(bundle: Bundle, request: Request, folder: Path, progress: Progress) -> Iterator[Entry]:
    """The systems, the bundle itself first."""
    if unknown := [p for p in request.baselines if p not in BASELINES]:
        raise InputError(f"unknown baseline {unknown[0]!r}: known are {', '.join(BASELINES)}")
    checkpoint = _checked(bundle, request.checkpoint)
    work, name = request.work, f"sam2rt {request.backend} {request.device}"

    def sam2rt(title: str, made: Bundle, backend: str = request.backend, **options: Any) -> Entry:
        same = made.checkpoint_sha256 == bundle.checkpoint_sha256
        places = {"backend": backend, "device": request.device}
        worker = Worker(title, _SAM2RT, work, bundle=str(made.path), **places, **options)
        return Entry(worker, made.precision, "same" if same else "other")

    yield sam2rt(f"{name} {bundle.precision}", bundle)
    for path in request.also:
        made = Bundle.load(path)
        yield sam2rt(f"{name} {made.precision} {path.name}", made)
    for backend, path in request.elsewhere:
        made = Bundle.load(path)
        title = f"sam2rt {backend} {request.device} {made.precision} {path.name}"
        yield sam2rt(title, made, backend)
    variants = VariantGraphs(bundle, checkpoint, folder)
    for ablation in request.ablations:
        progress(f"making {ablation}")
        options, seconds = variants.options(ablation)
        entry = sam2rt(f"{name} {bundle.precision} {ablation}", bundle, **options)
        if seconds:
            entry.worker.measured.facts["export_s"] = seconds
        yield entry
    for baseline in request.baselines:
        target, options = BASELINES[baseline]
        usual = "fp32" if request.device == "cpu" else bundle.precision
        precision = {"precision": usual, **options}["precision"]
        worker = Worker(
            baseline,
            target,
            work,
            model=bundle.model,
            device=request.device,
            checkpoint=None if checkpoint is None else str(request.checkpoint),
            **{**options, "precision": precision},
        )
        yield Entry(worker, precision, "other" if checkpoint is None else "same")
    for path in request.onnx:
        worker = Worker(
            f"onnx {path.name}",
            _ONNX,
            work,
            folder=str(path),
            dims=dict(request.dims),
            device=request.device,
        )
        yield Entry(worker, "as exported", "other")


def _checked(bundle: Bundle, path: str | Path | None) -> Any:
    if path is None:
        return None
    from ...export.checkpoint.load import load_checkpoint

    checkpoint = load_checkpoint(path, model=bundle.model)
    if checkpoint.sha256 != bundle.checkpoint_sha256:
        raise CheckpointError(
            f"bundle {bundle.path} was made from the checkpoint with sha256 "
            f"{bundle.checkpoint_sha256[:12]}..., {path} has {checkpoint.sha256[:12]}...: give "
            "that one"
        )
    return checkpoint


def _prepare(entries: Sequence[Entry], stack: ExitStack, progress: Progress) -> None:
    for entry in entries:
        progress(f"preparing {entry.worker.measured.name}")
        stack.enter_context(entry.worker)
        _try(entry, entries[0], entry.worker.prepare)


def _measure_frames(entries: Sequence[Entry], frames: int, progress: Progress) -> None:
    for index in range(frames):
        progress("measuring frames", index, frames)
        for entry in _rotated(_running(entries), index):
            _try(entry, entries[0], entry.worker.frame)


def _time_prefetch(worker: Worker, frames: int) -> None:
    """Note the seconds of a frame in whole clips: overlap does not show in a single frame."""
    pairs = [(worker.clip(frames, False), worker.clip(frames, True)) for _ in range(3)]
    plain, prefetched = (median(seconds) for seconds in zip(*pairs, strict=True))
    worker.measured.facts.update(clip_frame_s=plain, clip_frame_prefetched_s=prefetched)


def _running(entries: Sequence[Entry]) -> list[Entry]:
    return [entry for entry in entries if not entry.not_run]


def _rotated(entries: list[Entry], by: int) -> list[Entry]:
    start = by % max(len(entries), 1)
    return entries[start:] + entries[:start]


def _try(entry: Entry, first: Entry, do: Callable[[], Any]) -> Any:
    """Do it; a system other than the first that fails is out, with its reason."""
    try:
        return do()
    except SessionError as error:
        if entry is first:
            raise
        entry.not_run = str(error)
        return None


def _points(bundle: Bundle, request: Request) -> Iterator[tuple[str, Work]]:
    """Other work that was asked for, with its phase."""
    if request.growing:
        # on the frame that attends to m memories there are as many pointers
        for count in range(1, bundle.model.num_maskmem + 1):
            yield "growing", replace(request.work, memories=count, pointers=count)
    for count in request.object_counts:
        yield "objects", replace(request.work, objects=count)


def _measure_point(
    entries: Sequence[Entry], phase: str, work: Work, frames: int, progress: Progress
) -> None:
    progress(f"{phase}: {work.objects} objects, {work.memories} memories")
    measured: dict[str, list[dict[str, float]]] = {}
    for entry in _running(entries):
        _try(entry, entries[0], partial(entry.worker.set_up, work))
    for index in range(frames):
        for entry in _rotated(_running(entries), index):
            found = _try(entry, entries[0], entry.worker.extra_frame)
            if found is not None:
                measured.setdefault(entry.worker.measured.name, []).append(found)
    for entry in _running(entries):
        peak = _try(entry, entries[0], entry.worker.peak_memory_mib)
        taken = measured.get(entry.worker.measured.name, [])
        if peak is not None and taken:
            entry.points.append(
                Point(phase, work.objects, work.memories, work.pointers, peak, timings(taken))
            )


def _score_masks(
    entries: Sequence[Entry], bundle: Bundle, request: Request, progress: Progress
) -> None:
    """Give each system the comparison of its masks with float32, or the reason without one."""
    if request.work.scored_frames == 0:
        return
    first = entries[0]
    tracked: Tracked | None = _try(first, first, first.worker.tracked)
    reference, against = tracked, f"{first.worker.measured.name} itself"
    if request.checkpoint is not None:
        progress("tracking with the float32 reference")
        reference, against = _reference(bundle, request), "the float32 reference"
    for entry in _running(entries):
        progress(f"comparing masks of {entry.worker.measured.name}")
        entry.accuracy = _accuracy(entry, first, tracked, reference, against)


def _accuracy(
    entry: Entry, first: Entry, tracked: Tracked | None, reference: Tracked | None, against: str
) -> dict[str, Any]:
    if entry.weights == "other":
        return {"why": "other weights"}
    if reference is None or (reference is tracked and first.precision != "fp32"):
        return {"why": "the first bundle is not float32: give --checkpoint for a reference"}
    found = tracked if entry is first else _try(entry, first, entry.worker.tracked)
    if found is None:
        return {"why": "whole frames are not tracked"}
    return {**compared(reference, found), "against": against}


def _reference(bundle: Bundle, request: Request) -> Tracked | None:
    options = {"bundle": str(bundle.path), "checkpoint": str(request.checkpoint)}
    with Worker("the float32 reference", _REFERENCE, request.work, **options) as worker:
        worker.load()
        return worker.tracked()
