"""The page ``docs/accuracy.md``, and the command that makes it.

``sam2rt accuracy CHECKPOINT`` evaluates PyTorch and the exported graphs in every precision and at
several image sizes on the synthetic set, and writes tables and images of the worst frames. An
interrupted run goes on when it is repeated.
"""

from __future__ import annotations

import importlib.metadata
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ...configs.errors import InputError
from ...configs.progress import Progress
from ...configs.staging import check_file_target, made_parents, replaced_file
from ...runtime.media.images import write_image
from .accuracy_runs import REFERENCE, AccuracyPlan, Row, capabilities, measure, sheet, worst_frames

PAGE, IMAGE, DATA = "accuracy.md", "accuracy_worst.png", "accuracy.json"
_SHOWN = 8
_PACKAGES = ("sam2rt", "torch", "onnxruntime", "numpy")

_HEAD = """# Accuracy

Made by this command; do not edit. {versions}.

```sh
{command}
```

Everything here is measured on synthetic clips ({clips} clips of {frames} frames, 256 x 256 pixels,
seed {seed}; `benchmarks/synthetic`) that no training sees. J is the IoU of masks, F the accuracy
of their outlines within 0.8 % of the image's diagonal, both as DAVIS 2017 computes them. The
first frame of an object and the last of a clip are not scored.
"""

_ABLE = """
## What the model `{model}` does

ONNX Runtime, float32, {size} pixels. One click or one box on the first frame an object shows, all
objects together, a pixel belonging to one at most. Objects alone: one click, and a second
one on the frame with the lowest IoU, after which the clip is tracked again. AUC says how well the
object score ranks present above absent objects. Automatic masks (16 x 16 points, default
thresholds) find the given share of the objects on first frames at an IoU of at least 0.75.

| level | J&F click | J&F box | J&F click, alone | J&F second click | AUC | found automatically |
|---|---|---|---|---|---|---|
"""

_EXPORTED = """
## What an export keeps

One click, level standard. The reference of each row is PyTorch in float32 at the row's image size:
the change of J&F against it, and the IoU of the row's masks with its masks over all objects and
frames. Tracking feeds results back, so an object that is nearly lost can be lost in one and kept in
the other. The lowest IoU is a statement about the worst frame of all, the mean about the rest.

| runs on | image size | precision | J&F | J | F | change of J&F | lowest mask IoU | mean |
|---|---|---|---|---|---|---|---|---|
"""

_NOTES = """
fp16 and bf16 are scored on graphs that compute every operator in float32 and round its result,
because ONNX Runtime's CPU backend has no bfloat16 and rarely rounds to float16. Rows that name
units are scored on the arithmetic of this processor's. int8 is ONNX Runtime's dynamic quantisation
of matrix products (weights per channel; convolutions stay float32).
"""

_WORST = """
## The worst frames

The {count} objects with the lowest IoU on any scored frame where they are visible: ONNX Runtime,
float32, {size} pixels, one click. White is the annotation, the colour is the prediction.

![worst frames]({image})

"""


def page(
    rows: Sequence[Row],
    able: Mapping[str, Any],
    worst: Sequence[Mapping[str, Any]],
    plan: AccuracyPlan,
) -> str:
    """The page as Markdown; the second row is the float32 export at the first size."""
    shown = rows[1]
    facts = {
        "command": command(plan),
        "versions": versions(),
        "clips": plan.clips,
        "frames": plan.frames,
        "seed": plan.seed,
        "model": shown.report["model"]["name"],
        "size": shown.variant.image_size,
        "count": len(worst),
        "image": IMAGE,
    }
    lines = [_HEAD.format(**facts), _ABLE.format(**facts)]
    lines += [_level(level, reports) for level, reports in able.items()]
    lines.append(_EXPORTED)
    references = {r.variant.image_size: r for r in rows if r.variant.runtime == REFERENCE}
    lines += [_row(row, references[row.variant.image_size]) for row in rows]
    lines += [_NOTES, _WORST.format(**facts)]
    lines += [
        f"{i}. `{w['video']}`, object {w['object']}, frame {w['frame']}: IoU {w['J']:.3f}\n"
        for i, w in enumerate(worst, 1)
    ]
    return "".join(lines)


def command(plan: AccuracyPlan) -> str:
    """The command line that makes the page of a plan."""
    sizes = "".join(f" --size {s}" for s in plan.sizes)
    return (
        f"sam2rt accuracy {plan.checkpoint} --clips {plan.clips} --frames {plan.frames} "
        f"--seed {plan.seed}{sizes}"
    )


def versions() -> str:
    """Names and versions of the packages that were measured."""
    return ", ".join(f"{name} {importlib.metadata.version(name)}" for name in _PACKAGES)


def _level(level: str, reports: Mapping[str, Any]) -> str:
    first, second = reports["clicks"].get("rounds", (None, None))
    values = [reports["click"]["J&F"], reports["box"]["J&F"], first, second]
    values += [reports["click"]["object_score_auc"], reports["automatic"]]
    return f"| {level} | " + " | ".join(map(_number, values)) + " |\n"


def _row(row: Row, reference: Row) -> str:
    change = row.report["J&F"] - reference.report["J&F"]
    scores = " | ".join(_number(row.report[name]) for name in ("J&F", "J", "F"))
    variant = row.variant
    cells = [variant.runtime, str(variant.image_size), variant.precision, scores]
    if row is reference:
        cells += ["", "", ""]
    else:
        agreed = row.agreement
        cells += [f"{change:+.4f}", f"{agreed.lowest:.3f}", f"{agreed.mean:.4f}"]
    return "| " + " | ".join(cells) + " |\n"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def write_page(plan: AccuracyPlan, folder: Path, progress: Progress) -> None:
    """Measure everything; write the page and its image into `folder`, the data to the plan's.

    Each file is replaced as a whole, the page last: an old page beside a new image means an
    interrupted run. Raises InputError, before anything is measured, for a place that cannot be
    written.
    """
    targets = folder / PAGE, folder / IMAGE, plan.work / DATA
    with made_parents(targets[0]), made_parents(targets[2]):
        for target in targets:
            check_file_target(target)
        _write(plan, folder, progress)


def _write(plan: AccuracyPlan, folder: Path, progress: Progress) -> None:
    rows = measure(plan, progress)
    shown = rows[1]
    if shown.report["J&F"] is None:
        raise InputError("nothing was scored: use more or longer clips")
    able = capabilities(plan, shown.variant, progress)
    worst = worst_frames(shown.report, _SHOWN)
    with replaced_file(plan.work / DATA) as part:
        reports = {row.variant.name: row.report for row in rows}
        part.write_text(
            json.dumps({"variants": reports, "levels": able}, indent=1) + "\n", encoding="utf-8"
        )
    write_image(folder / IMAGE, sheet(plan, shown.variant, worst))
    with replaced_file(folder / PAGE) as part:
        part.write_text(page(rows, able, worst, plan), encoding="utf-8")
