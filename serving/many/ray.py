"""Tracking as a step of a Ray Data pipeline: ``sam2rt.ray.Tracker``.

Nothing here imports Ray: the class is one that Ray calls.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ...configs.bundle import Bundle
from ...configs.progress import silent
from ...runtime.backends.open import open_session
from ...runtime.tasks.prompt_file import parsed_json
from .clips import MASKS_ALONE, ClipOptions
from .manifest import clip_from
from .plan import is_done, task_of
from .spread import CAUGHT
from .work import TrackWork

#: what a clip that cannot be tracked does to the pipeline
OnFailure = Literal["record", "raise"]


class ClipTracker:
    """Tracks whole clips, one row each, into folders; opens the bundle once.

    For ``Dataset.map_batches`` and ``Dataset.map``, as a class, with the arguments below in
    ``fn_constructor_kwargs``. A row has ``clip``, the path of a file or a folder of images, and
    ``prompts``, a list as in a file of prompts or its JSON. It gains ``folder`` (the result below
    `out`), ``frames``, ``seconds`` and ``error`` (empty where all went well). Frames stay in the
    worker: they never enter Ray's object store. A result that is there is kept.

    bundle, out: paths that every machine sees. options: see
    :class:`~sam2rt.serving.many.clips.ClipOptions`. threads: CPU threads, None for all. on_failure:
    "record" gives the error in its row, "raise" ends the pipeline with it. Raises BundleError and
    SessionError when it is made.
    """

    def __init__(
        self,
        bundle: str | os.PathLike[str],
        out: str | os.PathLike[str],
        options: ClipOptions = MASKS_ALONE,
        threads: int | None = None,
        on_failure: OnFailure = "record",
    ) -> None:
        self._bundle = Bundle.load(bundle)
        self._out = Path(os.path.realpath(out))
        self._out.mkdir(parents=True, exist_ok=True)
        self._work = TrackWork(self._bundle.path, self._bundle.digest, options, self._out, threads)
        self._on_failure = on_failure
        self._stack = ExitStack()
        session = open_session(self._bundle, options.backend, options.device, threads)
        self._session = self._stack.enter_context(session)

    def __call__(self, rows: Mapping[str, Any]) -> dict[str, Any]:
        """Track the clips of a batch of columns, or the clip of one row."""
        if isinstance(rows["clip"], str):
            return {**rows, **self._tracked(rows["clip"], rows["prompts"])}
        pairs = zip(rows["clip"], rows["prompts"], strict=True)
        found = [self._tracked(str(clip), prompts) for clip, prompts in pairs]
        columns = {name: np.array([row[name] for row in found]) for name in _NOTHING}
        return {**rows, **columns}

    def close(self) -> None:
        """Close the session; Ray ends the process instead."""
        self._stack.close()

    def _tracked(self, clip: str, prompts: Any) -> dict[str, Any]:
        try:
            return {**_NOTHING, **self._record(clip, prompts)}
        except CAUGHT as error:
            if self._on_failure == "raise":
                raise
            return {**_NOTHING, "error": str(error)}

    def _record(self, clip: str, prompts: Any) -> dict[str, Any]:
        if isinstance(prompts, str):
            prompts = parsed_json(prompts, f"{clip}, prompts")
        entry = {"clip": clip, "prompts": _plain(prompts)}
        found = clip_from(entry, clip, Path())
        task = task_of(found, self._bundle, self._work.options, self._out)
        folder = str(self._out / task.name)
        if is_done(self._out, task.name):
            return {"folder": folder}
        record = self._work.tracked(self._bundle, self._session, task, silent)
        return {"folder": folder, "frames": record["frames"], "seconds": record["seconds"]}


#: the columns that a row gains
_NOTHING: dict[str, Any] = {"folder": "", "frames": 0, "seconds": 0.0, "error": ""}

#: its name in pipelines, ``sam2rt.ray.Tracker``
Tracker = ClipTracker


def _plain(value: Any) -> Any:
    """What Ray makes arrays of, as lists and numbers again."""
    if isinstance(value, np.ndarray):
        return [_plain(item) for item in value]
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [_plain(item) for item in value]
    return value
