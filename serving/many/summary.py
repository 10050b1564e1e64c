"""``summary.json``: what became of each clip, in the order of the list."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ...configs.bundle import Bundle
from ...configs.errors import InputError
from ...configs.staging import replaced_file
from .clips import Clip, ClipOptions

SUMMARY = "summary.json"


@dataclass(frozen=True)
class ManySummary:
    """What became of each clip.

    records: ``clip``, ``status`` ("tracked" now, "kept" of an earlier run, "failed" or "waiting"),
    ``folder``; of a tracked one ``frames``, ``objects``, ``seconds``, ``attempts``; of a failed
    one ``error``. seconds: of the run.
    """

    records: list[dict[str, Any]]
    seconds: float = 0.0
    counts: Counter[str] = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "counts", Counter(r["status"] for r in self.records))

    @property
    def frames(self) -> int:
        """Frames that this run tracked; a clip that is listed twice counts once."""
        tracked = [r for r in self.records if r["status"] == "tracked"]
        return sum({r["folder"]: int(r["frames"]) for r in tracked}.values())

    @property
    def failed(self) -> list[dict[str, Any]]:
        """The records of what failed."""
        return [record for record in self.records if record["status"] == "failed"]

    def document(self, bundle: Bundle, options: ClipOptions) -> dict[str, Any]:
        """All of it, as JSON data."""
        return {
            "model": bundle.model.name,
            "bundle_digest": bundle.digest,
            "options": asdict(options),
            **{name: self.counts[name] for name in ("tracked", "kept", "failed", "waiting")},
            "frames": self.frames,
            "seconds": round(self.seconds, 3),
            "clips": self.records,
        }


def check_results(out: Path) -> None:
    """InputError for a place of results that is a file, or a folder of something else."""
    if out.exists() and not out.is_dir():
        raise InputError(f"{out} is a file: name a folder for the results")
    if out.is_dir() and any(out.iterdir()) and not (out / SUMMARY).is_file():
        raise InputError(
            f"folder {out} is not empty and holds no {SUMMARY} of an earlier run: name another"
        )


def earlier_records(out: Path) -> Mapping[str, dict[str, Any]]:
    """What an earlier run says of its results, by folder; damaged or missing: nothing."""
    found: dict[str, dict[str, Any]] = {}
    with suppress(OSError, ValueError, TypeError, KeyError, AttributeError):
        for record in json.loads((out / SUMMARY).read_text(encoding="utf-8"))["clips"]:
            if record["status"] in ("tracked", "kept"):
                found[record["folder"]] = record
    return found


def write_summary(out: Path, document: Mapping[str, Any]) -> None:
    """Replace ``summary.json``, whole."""
    with replaced_file(out / SUMMARY) as part:
        part.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def first_records(clips: Sequence[Clip]) -> list[dict[str, Any]]:
    """A record of each clip before anything is known of it."""
    return [{"clip": clip.asked, "status": "waiting", "folder": None} for clip in clips]
