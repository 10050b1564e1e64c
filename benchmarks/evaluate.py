"""Evaluate a model on a dataset: videos in parallel, every finished one kept.

A video's record is written the moment it is finished, so that an interrupted run goes on where it
stopped; records made with another model, protocol or video are not taken over.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Literal, Protocol

from .. import __version__
from ..configs.bundle import Bundle
from ..configs.errors import FrameError, InputError
from ..configs.staging import check_file_target
from ..runtime.overlay import replaced_file
from ..runtime.results import Report, silent
from ..runtime.session import Session, open_session
from .bench import write_json
from .datasets import Dataset, Video
from .evaluate_interactive import Effort, interactive
from .evaluate_protocols import (
    ObjectResult,
    Prompt,
    Tick,
    VideoResult,
    no_tick,
    semi_supervised,
)
from .evaluate_report import report
from .evaluate_workers import Records, in_processes

ProtocolName = Literal["semi-supervised", "offline", "online"]


class Opener(Protocol):
    """Opens the model's session, in this process or another; can be pickled."""

    def open(self) -> Session: ...

    def describe(self) -> dict[str, Any]:
        """What tells this model from others, as JSON data."""
        ...


@dataclass(frozen=True)
class BundleOpener:
    """A bundle on one of our backends."""

    path: Path
    backend: str = "onnxruntime"
    device: str = "cpu"
    threads: int | None = None

    def open(self) -> Session:
        return open_session(Bundle.load(self.path), self.backend, self.device, self.threads)

    def describe(self) -> dict[str, Any]:
        bundle = Bundle.load(self.path, check_hashes=False)
        return {
            "name": bundle.model.name,
            "image_size": bundle.model.image_size,
            "precision": bundle.precision,
            "checkpoint_sha256": bundle.checkpoint_sha256,
            "graphs_sha256": {n: g.file.sha256 for n, g in bundle.graphs.items()},
            "backend": self.backend,
            "device": self.device,
        }


@dataclass(frozen=True)
class Settings:
    """How videos are evaluated.

    prompt: of the semi-supervised protocol. clicks, rounds: of the interactive ones (offline,
    online). masks_folder: where predictions are written (semi-supervised).
    """

    protocol: ProtocolName = "semi-supervised"
    prompt: Prompt = "mask"
    clicks: int = 3
    rounds: int = 8
    masks_folder: Path | None = None

    def __post_init__(self) -> None:
        Effort(self.clicks, self.rounds)
        if self.masks_folder is None:
            return
        if self.protocol != "semi-supervised":
            raise InputError(f"predictions of the {self.protocol} protocol are not written")
        if self.masks_folder.exists() and not self.masks_folder.is_dir():
            raise InputError(f"{self.masks_folder} is no folder: name one for the predictions")

    def as_dict(self) -> dict[str, Any]:
        if self.protocol == "semi-supervised":
            return {"protocol": self.protocol, "prompt": self.prompt}
        return {"protocol": self.protocol, "clicks": self.clicks, "rounds": self.rounds}


@dataclass(frozen=True)
class Job:
    """All that a process needs to evaluate videos of a dataset."""

    dataset: Dataset
    opener: Opener
    settings: Settings

    def record(self, session: Session, index: int, tick: Tick = no_tick) -> dict[str, Any]:
        """Evaluate one video: its record, as JSON data."""
        video = self.dataset.videos[index]
        try:
            return self._evaluated(session, video, tick)
        except FrameError as error:
            # every frame counts: none is skipped or held, as a message may propose
            what = str(error).partition(", or use on_error=")[0]
            raise FrameError(f"video {video.name}: {what}") from None

    def _evaluated(self, session: Session, video: Video, tick: Tick) -> dict[str, Any]:
        start = time.perf_counter()
        if self.settings.protocol == "semi-supervised":
            result = semi_supervised(
                session, video, self.dataset, self.settings.prompt,
                masks_folder=self.settings.masks_folder, tick=tick,
            )  # fmt: skip
        else:
            effort = Effort(self.settings.clicks, self.settings.rounds)
            result = interactive(
                session, video, self.dataset, self.settings.protocol, effort, tick=tick
            )
        return _record(video, result, time.perf_counter() - start)

    def key(self, index: int, model: Mapping[str, Any]) -> str:
        """What a kept record must have been made with."""
        folder = self.settings.masks_folder
        parts = [
            __version__, self.dataset.name, asdict(self.dataset.rule), self.settings.as_dict(),
            None if folder is None else str(folder), model, repr(self.dataset.videos[index]),
        ]  # fmt: skip
        return _digest(parts)


def evaluate(
    job: Job, *, processes: int = 1, parts: Path | None = None, progress: Report = silent
) -> dict[str, Any]:
    """Evaluate all videos; the report as JSON data, its mean under "J&F".

    processes: videos worked on at a time, each in a process with a session of its own; 1 works
    in this one. parts: folder for the records of finished videos, and where earlier ones are
    looked for. Raises what datasets and predictors raise, SessionError when a process dies;
    records of finished videos are kept.
    """
    model = job.opener.describe()
    count = len(job.dataset.videos)
    keys = [job.key(i, model) for i in range(count)]
    records = _kept(job, keys, parts)
    todo = [i for i in range(count) if i not in records]
    with closing(_made(job, todo, processes, progress, count)) as made:
        for index, record in made:
            records[index] = record
            if parts is not None:
                parts.mkdir(parents=True, exist_ok=True)
                text = json.dumps({"key": keys[index], "sha256": _digest(record), "record": record})
                with replaced_file(_part(parts, job.dataset.videos[index])) as part:
                    part.write_text(text, encoding="utf-8")
    ordered = [records[i] for i in range(count)]
    return report(job.dataset, job.settings.as_dict(), model, ordered)


def evaluate_to_file(
    job: Job, path: Path, *, processes: int = 1, progress: Report = silent
) -> dict[str, Any]:
    """:func:`evaluate`, kept in ``PATH.videos`` until the report is written to `path`."""
    check_file_target(path)
    parts = parts_folder(path)
    data = evaluate(job, processes=processes, parts=parts, progress=progress)
    write_json(data, path)
    shutil.rmtree(parts, ignore_errors=True)
    return data


def parts_folder(path: Path) -> Path:
    """Where the records of finished videos lie until the report `path` is written."""
    return path.with_name(path.name + ".videos")


def _made(job: Job, todo: list[int], processes: int, progress: Report, count: int) -> Records:
    """Records of the videos to do, as they are finished."""
    if not todo:
        return
    progress("opening the model")
    if processes > 1 and len(todo) > 1:
        done = count - len(todo)

        def moved(under_way: float) -> None:
            progress(f"{done} of {count} videos", int(100 * (done + under_way)), 100 * count)

        for index, record in in_processes(job, todo, processes, moved):
            yield index, record
            done += 1
            progress(f"{done} of {count} videos, {record['name']} finished", done, count)
        return
    with job.opener.open() as session:
        for number, index in enumerate(todo, count - len(todo) + 1):
            what = f"video {number} of {count}, {job.dataset.videos[index].name}"
            yield index, job.record(session, index, partial(progress, what))


def _kept(job: Job, keys: Iterable[str], parts: Path | None) -> dict[int, dict[str, Any]]:
    """Records of earlier runs that fit, by index of their video."""
    found: dict[int, dict[str, Any]] = {}
    masks = job.settings.masks_folder
    for index, key in enumerate(keys):
        video = job.dataset.videos[index]
        if parts is None or (masks is not None and not (masks / video.name).is_dir()):
            continue
        try:
            part = json.loads(_part(parts, video).read_text(encoding="utf-8"))
            if part["key"] == key and part["sha256"] == _digest(part["record"]):
                found[index] = part["record"]
        except (OSError, ValueError, TypeError, KeyError):
            # none yet, or damaged: the video is evaluated anew
            continue
    return found


def _digest(data: Any) -> str:
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


def _part(parts: Path, video: Video) -> Path:
    return parts / f"{video.name}.json"


def _record(video: Video, result: VideoResult, seconds: float) -> dict[str, Any]:
    objects = {str(i): _object_record(item) for i, item in result.objects.items()}
    return {"name": video.name, "frames": result.frames, "seconds": seconds, "objects": objects}


def _object_record(item: ObjectResult) -> dict[str, Any]:
    return {
        "start": item.start,
        "span": list(item.span),
        "scores": [[s.frame, s.j, s.f, s.visible, s.seen] for s in item.scores],
        "object_scores": {str(t): score for t, score in item.object_scores.items()},
        "rounds": item.rounds,
    }
