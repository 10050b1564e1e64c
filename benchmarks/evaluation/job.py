"""What an evaluation consists of: a dataset, a model to open, and how videos are scored."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

from ...configs.bundle import Bundle
from ...configs.errors import FrameError, InputError
from ...configs.progress import Progress, silent
from ...configs.version import VERSION
from ...runtime.backends.open import open_session
from ...runtime.session import Session
from .datasets import Dataset, Video
from .interactive import Effort, interactive
from .protocols import ObjectResult, PromptKind, VideoResult, semi_supervised

ProtocolName = Literal["semi-supervised", "offline", "online"]


class Opener(Protocol):
    """Opens the model's session, in this process or another; can be pickled."""

    def open(self) -> Session: ...

    def describe(self) -> dict[str, Any]:
        """What tells this model from others, as JSON data."""
        ...


@dataclass(frozen=True)
class BundleOpener:
    """A bundle on one of the backends."""

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
    prompt: PromptKind = "mask"
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

    def record(self, session: Session, index: int, progress: Progress = silent) -> dict[str, Any]:
        """Evaluate one video: its record, as JSON data."""
        video = self.dataset.videos[index]
        try:
            return self._evaluated(session, video, progress)
        except FrameError as error:
            # every frame counts: none is skipped or held, as a message may propose
            what = str(error).partition(", or use on_error=")[0]
            raise FrameError(f"video {video.name}: {what}") from None

    def _evaluated(self, session: Session, video: Video, progress: Progress) -> dict[str, Any]:
        start = time.perf_counter()
        if self.settings.protocol == "semi-supervised":
            result = semi_supervised(
                session,
                video,
                self.dataset,
                self.settings.prompt,
                masks_folder=self.settings.masks_folder,
                progress=progress,
            )
        else:
            effort = Effort(self.settings.clicks, self.settings.rounds)
            result = interactive(
                session, video, self.dataset, self.settings.protocol, effort, progress=progress
            )
        return _record(video, result, time.perf_counter() - start)

    def key(self, index: int, model: Mapping[str, Any]) -> str:
        """What a kept record must have been made with."""
        folder = self.settings.masks_folder
        parts = [
            VERSION,
            self.dataset.name,
            asdict(self.dataset.rule),
            self.settings.as_dict(),
            None if folder is None else str(folder),
            model,
            repr(self.dataset.videos[index]),
        ]
        return digest(parts)


def digest(data: Any) -> str:
    """The sha256 of JSON data, whatever the order of its keys."""
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()


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
