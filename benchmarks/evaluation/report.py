"""What an evaluation says: means as official evaluators take them, a table, JSON data."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .datasets import Dataset
from .metrics import FrameScore, Rule, Score, counted, mean_score, ranking_accuracy

SCHEMA = 1
JsonObject = Mapping[str, Any]


def report(
    dataset: Dataset,
    settings: Mapping[str, Any],
    model: Mapping[str, Any],
    records: Sequence[JsonObject],
) -> dict[str, Any]:
    """The evaluation as JSON data; scores in 0..1, None where nothing was scored.

    "J&F", "J", "F" are means over all objects of all videos. In the interactive protocols "J&F"
    is the mean over rounds of clicks too, "rounds" holds each, and "J", "F" are of the last.
    Where a dataset has groups of videos "groups" holds theirs and "J&F" is the mean of the
    groups' (LVOS: seen and unseen).
    """
    objects = [
        _object_result(record, int(i), item, dataset.rule)
        for record in records
        for i, item in record["objects"].items()
    ]
    scored = [o for o in objects if o["J&F"] is not None]
    data: dict[str, Any] = {
        "schema": SCHEMA,
        "dataset": dataset.name,
        "rule": dataset.rule.source,
        **settings,
        "model": dict(model),
        **_mean(scored),
        "objects": len(scored),
        "videos": len(records),
        "frames": sum(r["frames"] for r in records),
        "seconds": sum(r["seconds"] for r in records),
        "lowest": _lowest(scored),
        "object_score_auc": _presence(records),
    }
    groups = {
        name: _mean([o for o in scored if o["video"] in videos])
        for name, videos in dataset.groups.items()
    }
    means = [g["J&F"] for g in groups.values() if g["J&F"] is not None]
    if means:
        data["groups"] = groups
        data["J&F"] = sum(means) / len(means)
    data["results"] = objects
    return data


def frame_scores(item: JsonObject) -> list[FrameScore]:
    """The scores of an object's record."""
    return [FrameScore(*values) for values in item["scores"]]


def _object_result(record: JsonObject, obj_id: int, item: JsonObject, rule: Rule) -> dict[str, Any]:
    scores = frame_scores(item)
    first, last = item["span"]
    chosen = counted(scores, rule, [s.frame for s in scores], (first, last))
    mean = mean_score(chosen)
    visible = [s for s in chosen if s.visible]
    worst = min(visible, key=lambda s: s.j, default=None)
    result: dict[str, Any] = {"video": record["name"], "object": obj_id, "frames": len(chosen)}
    result |= mean.as_dict() if mean else {"J&F": None, "J": None, "F": None}
    if item["rounds"]:
        result["rounds"] = item["rounds"]
        result["J&F"] = sum(item["rounds"]) / len(item["rounds"])
    result["lowest"] = None if worst is None else {"frame": worst.frame, "J": worst.j}
    return result


def _mean(objects: Sequence[JsonObject]) -> dict[str, Any]:
    mean = mean_score(Score(o["J"], o["F"]) for o in objects)
    if mean is None:
        return {"J&F": None, "J": None, "F": None}
    result: dict[str, Any] = mean.as_dict()
    rounds = [o["rounds"] for o in objects if "rounds" in o]
    if rounds:
        result["rounds"] = [sum(values) / len(values) for values in zip(*rounds, strict=True)]
        result["J&F"] = sum(result["rounds"]) / len(result["rounds"])
    return result


def _lowest(objects: Iterable[JsonObject]) -> dict[str, Any] | None:
    """The scored frame with the lowest IoU of a visible object."""
    shown = [o for o in objects if o["lowest"] is not None]
    if not shown:
        return None
    worst = min(shown, key=lambda o: float(o["lowest"]["J"]))
    return {"video": worst["video"], "object": worst["object"], **worst["lowest"]}


def _presence(records: Sequence[JsonObject]) -> float | None:
    """AUC of the model's object scores, present against absent, on annotated tracked frames."""
    scores: list[float] = []
    present: list[bool] = []
    for record in records:
        for item in record["objects"].values():
            visible = {s.frame: s.visible for s in frame_scores(item)}
            for name, score in item["object_scores"].items():
                frame = int(name)
                if frame in visible and frame != item["start"]:
                    scores.append(score)
                    present.append(visible[frame])
    return ranking_accuracy(scores, present)


def table(data: Mapping[str, Any]) -> str:
    """The report as text: a row per object, then the means."""
    width = max([len(o["video"]) for o in data["results"]] + [len("video")])
    lines = [f"{'video':{width}}{'object':>8}{'J&F':>8}{'J':>8}{'F':>8}  lowest J"]
    for item in data["results"]:
        worst = item["lowest"]
        where = f"{worst['J']:.3f} in frame {worst['frame']}" if worst else ""
        lines.append(
            f"{item['video']:{width}}{item['object']:>8}{_numbers(item)}  {where}".rstrip()
        )
    lines.append("")
    for name, group in data.get("groups", {}).items():
        lines.append(f"{name:{width + 8}}{_numbers(group)}")
    count = f"{data['objects']} objects, {data['videos']} videos"
    lines.append(f"{count:{width + 8}}{_numbers(data)}")
    if data.get("rounds"):
        lines.append("J&F after each round: " + " ".join(f"{v:.3f}" for v in data["rounds"]))
    if data["object_score_auc"] is not None:
        lines.append(f"object score, present against absent: AUC {data['object_score_auc']:.3f}")
    if data["J&F"] is None:
        lines.append("nothing was scored: no object (ids 1 to 254) is annotated on enough frames")
    return "\n".join(lines)


def _numbers(item: Mapping[str, Any]) -> str:
    values = (item[name] for name in ("J&F", "J", "F"))
    return "".join(f"{'-' if v is None else format(v, '.3f'):>8}" for v in values)
