"""Evaluate a model on a dataset: videos in parallel, every finished one kept.

A video's record is written the moment it is finished, so that an interrupted run goes on where it
stopped; records made with another model, protocol or video are not taken over.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from ...configs.errors import InputError
from ...configs.progress import Progress, silent
from ...configs.staging import check_file_target, replaced_file
from .datasets import Video
from .job import Job, digest
from .report import report
from .workers import FinishedVideos, in_processes

#: does the videos of these indices
SpreadVideos = Callable[[list[int]], FinishedVideos]


def evaluate(
    job: Job,
    *,
    processes: int = 1,
    parts: Path | None = None,
    progress: Progress = silent,
    spread: SpreadVideos | None = None,
) -> dict[str, Any]:
    """Evaluate all videos; the report as JSON data, its mean under "J&F".

    processes: videos worked on at a time, each in a process with a session of its own; 1 works
    in this one. parts: folder for the records of finished videos, and where earlier ones are
    looked for. spread: does the videos of these indices elsewhere, such as on a cluster, instead of
    processes. Raises what datasets and predictors raise, SessionError when a process dies;
    records of finished videos are kept.
    """
    model = job.opener.describe()
    count = len(job.dataset.videos)
    keys = [job.key(i, model) for i in range(count)]
    records = _kept(job, keys, parts)
    todo = [i for i in range(count) if i not in records]
    with closing(_made(job, todo, processes, progress, count, spread)) as made:
        for index, record in made:
            records[index] = record
            if parts is not None:
                parts.mkdir(parents=True, exist_ok=True)
                sealed = _sealed(job, job.dataset.videos[index], record)
                text = json.dumps({"key": keys[index], "sha256": sealed, "record": record})
                with replaced_file(_part(parts, job.dataset.videos[index])) as part:
                    part.write_text(text, encoding="utf-8")
    ordered = [records[i] for i in range(count)]
    return report(job.dataset, job.settings.as_dict(), model, ordered)


def evaluate_to_file(
    job: Job,
    path: Path,
    *,
    processes: int = 1,
    progress: Progress = silent,
    spread: SpreadVideos | None = None,
) -> dict[str, Any]:
    """:func:`evaluate`, kept in ``PATH.videos`` until the report is written to `path`.

    Raises InputError, before anything is evaluated, for a report that cannot be written and when
    ``PATH.videos`` holds what is no record. What comes there later stays there.
    """
    check_file_target(path)
    parts = parts_folder(path)
    _check_parts(parts, job)
    data = evaluate(job, processes=processes, parts=parts, progress=progress, spread=spread)
    with replaced_file(path) as part:
        part.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")
    _remove_records(parts, job)
    return data


def parts_folder(path: Path) -> Path:
    """Where the records of finished videos lie until the report `path` is written."""
    return path.with_name(path.name + ".videos")


#: what a killed run left of a record
_UNFINISHED = re.compile(r"\.(.+\.json)\.\w{8}(\.part)?")


def _check_parts(parts: Path, job: Job) -> None:
    if not parts.is_dir():
        if parts.exists():
            raise InputError(f"{parts} is a file, records of videos go there: move it")
        return
    for path in sorted(parts.iterdir()):
        if not _is_record(path, job):
            raise InputError(
                f"folder {parts} holds {path.name}, which is no record of a video: move it, or "
                "name another report"
            )


def _is_record(path: Path, job: Job) -> bool:
    """Whether a file is a record; of a video of this job, perhaps a damaged or unfinished one."""
    if path.is_symlink() or not path.is_file():
        return False
    names = {f"{video.name}.json" for video in job.dataset.videos}
    unfinished = _UNFINISHED.fullmatch(path.name)
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return path.name in names or (unfinished is not None and unfinished[1] in names)
    return isinstance(content, dict) and content.keys() == {"key", "sha256", "record"}


def _remove_records(parts: Path, job: Job) -> None:
    """Remove records, and their folder unless it holds something else."""
    for path in parts.iterdir() if parts.is_dir() else ():
        if _is_record(path, job):
            path.unlink(missing_ok=True)
    with suppress(OSError):
        parts.rmdir()


def _made(
    job: Job,
    todo: list[int],
    processes: int,
    progress: Progress,
    count: int,
    spread: SpreadVideos | None,
) -> FinishedVideos:
    """Records of the videos to do, as they are finished."""
    if not todo:
        return
    progress("opening the model")
    if spread is not None or (processes > 1 and len(todo) > 1):
        done = count - len(todo)

        def moved(under_way: float) -> None:
            progress(f"{done} of {count} videos", int(100 * (done + under_way)), 100 * count)

        made = spread(todo) if spread else in_processes(job, todo, processes, moved)
        for index, record in made:
            yield index, record
            done += 1
            # of one whole with the parts above, so that the time left goes by both
            name = f"{done} of {count} videos, {record['name']} finished"
            progress(name, 100 * done, 100 * count)
        return
    with job.opener.open() as session:
        for number, index in enumerate(todo, count - len(todo) + 1):
            name = f"video {number} of {count}, {job.dataset.videos[index].name}"
            yield index, job.record(session, index, _named(progress, name))


def _named(progress: Progress, name: str) -> Progress:
    """Progress that shows a name, whatever is being done."""

    def report(what: str, done: int = 0, total: int | None = None) -> None:
        progress(name, done, total)

    return report


def _kept(job: Job, keys: Iterable[str], parts: Path | None) -> dict[int, dict[str, Any]]:
    """Records of earlier runs that fit, by index of their video."""
    found: dict[int, dict[str, Any]] = {}
    if parts is None:
        return found
    for index, key in enumerate(keys):
        video = job.dataset.videos[index]
        try:
            part = json.loads(_part(parts, video).read_text(encoding="utf-8"))
            if part["key"] == key and part["sha256"] == _sealed(job, video, part["record"]):
                found[index] = part["record"]
        except (OSError, ValueError, TypeError, KeyError):
            # none yet, or damaged: the video is evaluated anew
            continue
    return found


def _sealed(job: Job, video: Video, record: dict[str, Any]) -> str:
    """The digest of a record and of the masks written with it: another run may replace those."""
    folder = job.settings.masks_folder
    if folder is None:
        return digest(record)
    files = {
        file.relative_to(folder).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in (folder / video.name).rglob("[!.]*.png")
    }
    return digest([record, files])


def _part(parts: Path, video: Video) -> Path:
    return parts / f"{video.name}.json"
