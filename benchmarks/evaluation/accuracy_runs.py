"""How accurate exported graphs are: J&F and agreement with PyTorch, per precision and size.

What :mod:`.accuracy` puts on a page. Bundles, records and masks lie in the work folder; what was
evaluated before is taken over.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import numpy as np

from ...configs.bundle import CPU_PRECISIONS, HALF_PRECISIONS, Bundle, Half, Precision
from ...configs.errors import BundleError, MissingExtraError
from ...configs.progress import Progress, silent
from ...configs.staging import replaced_folder
from ...plugins.cpu import library
from ...runtime.backends.open import open_session
from ...runtime.backends.openvino_session import UNITS, openvino_module
from ...runtime.backends.openvino_session import capabilities as capabilities_of
from ...runtime.session import Session
from .automatic import automatic_recall
from .datasets import Dataset, read_labels
from .evaluate import evaluate
from .job import BundleOpener, Job, Opener, Settings
from .metrics import region_similarity
from .synthetic_dataset import synthetic_dataset

if TYPE_CHECKING:
    from ...export.checkpoint.load import Checkpoint

#: what runs in the row that others are compared with
REFERENCE = "PyTorch"
#: automatic masks of small images: a point every 16 pixels
AUTOMATIC = {"points_per_side": 16}


@dataclass(frozen=True)
class ReferenceOpener:
    """The plain PyTorch modules in float32, on the CPU."""

    checkpoint: str
    image_size: int
    sha256: str
    threads: int = 1

    def open(self) -> Session:
        import torch

        from ...export.checkpoint.load import load_checkpoint
        from ...export.model.reference import ReferenceSession
        from ...export.model.sam2 import build_model

        torch.set_num_threads(self.threads)
        loaded = load_checkpoint(self.checkpoint, image_size=self.image_size)
        model = build_model(loaded.config)
        model.load_state_dict(loaded.state)
        return ReferenceSession(model)

    def describe(self) -> dict[str, Any]:
        return {"backend": "pytorch", "image_size": self.image_size, "sha256": self.sha256}


@dataclass(frozen=True)
class RewrittenOpener:
    """A float32 bundle whose graphs are replaced by those in `folder`, under the same names.

    `name` says what was done to them. ONNX Runtime's CPU backend has no bfloat16 and rounds
    float16 rarely: half precision is scored on graphs that round as it does.
    """

    bundle: BundleOpener
    folder: Path
    name: str

    def open(self) -> Session:
        bundle = replace(Bundle.load(self.bundle.path), path=self.folder)
        return open_session(bundle, "onnxruntime", "cpu", self.bundle.threads)

    def describe(self) -> dict[str, Any]:
        return {**self.bundle.describe(), "rewritten": self.name}


@dataclass(frozen=True)
class Variant:
    """One row of the table: what runs, and at which size."""

    runtime: str
    precision: str
    image_size: int
    opener: Opener

    @property
    def name(self) -> str:
        return f"{self.runtime} {self.image_size} {self.precision}"


@dataclass(frozen=True)
class Agreement:
    """Mask IoU with the float32 PyTorch modules of the same size, over objects and frames."""

    lowest: float
    mean: float
    #: video, object and frame of the lowest
    where: tuple[str, int, int] | None


@dataclass(frozen=True)
class Row:
    """A variant's report, and how far its masks agree with PyTorch's."""

    variant: Variant
    report: dict[str, Any]
    agreement: Agreement


@dataclass(frozen=True)
class AccuracyPlan:
    """What is evaluated; `work` keeps bundles, records and masks."""

    checkpoint: str
    work: Path
    sizes: tuple[int, ...]
    clips: int = 20
    frames: int = 30
    seed: int = 0
    processes: int = 2

    def dataset(self, level: Any = "standard") -> Dataset:
        return synthetic_dataset(level, self.seed, self.clips, self.frames)

    def threads(self) -> int:
        return max((os.cpu_count() or 1) // self.processes, 1)


def measure(plan: AccuracyPlan, progress: Progress = silent) -> list[Row]:
    """Every variant on the standard synthetic set, one click an object, PyTorch first per size."""
    from ...export.bundle import check_export
    from ...export.checkpoint.load import load_checkpoint

    # what an export lacks is told before PyTorch is evaluated, which takes long
    check_export()
    checkpoint = load_checkpoint(plan.checkpoint)
    sizes = plan.sizes or (checkpoint.config.image_size,)
    rows: list[Row] = []
    for size in sizes:
        native = size == checkpoint.config.image_size
        reference: Path | None = None
        for variant in _variants(plan, checkpoint, size, native, progress):
            report = run(plan, variant, "standard", Settings(prompt="click"), progress)
            masks = _masks(plan, variant)
            reference = reference or masks
            rows.append(Row(variant, report, agreement(plan.dataset(), masks, reference)))
    return rows


def run(
    plan: AccuracyPlan,
    variant: Variant,
    level: str,
    settings: Settings,
    progress: Progress = silent,
) -> dict[str, Any]:
    """Evaluate one variant; masks of the semi-supervised protocol are kept for comparison."""
    words = [variant.name, level, settings.protocol, settings.prompt]
    name = "_".join(words).replace(" ", "-")
    if settings.protocol == "semi-supervised" and level == "standard":
        settings = replace(settings, masks_folder=_masks(plan, variant, settings.prompt))

    def report(what: str, done: int = 0, total: int | None = None) -> None:
        progress(f"{variant.name}, {level}, {settings.prompt}: {what}", done, total)

    job = Job(plan.dataset(level), variant.opener, settings)
    return evaluate(
        job, processes=plan.processes, parts=plan.work / "records" / name, progress=report
    )


def _masks(plan: AccuracyPlan, variant: Variant, prompt: str = "click") -> Path:
    return plan.work / "masks" / f"{variant.name}_{prompt}".replace(" ", "-")


def _variants(
    plan: AccuracyPlan, checkpoint: Checkpoint, size: int, native: bool, progress: Progress
) -> list[Variant]:
    """PyTorch and ONNX Runtime in float32, and at the native size every lower precision."""
    reference = ReferenceOpener(plan.checkpoint, size, checkpoint.sha256, plan.threads())
    exact = BundleOpener(
        _exported(plan, checkpoint, size, "fp32", progress), threads=plan.threads()
    )
    variants = [
        Variant(REFERENCE, "fp32", size, reference),
        Variant("ONNX Runtime", "fp32", size, exact),
    ]
    if not native:
        return variants
    for precision in get_args(Precision):
        if precision == "fp32":
            continue
        bundle = _exported(plan, checkpoint, size, precision, progress)
        opener: BundleOpener | RewrittenOpener = BundleOpener(bundle, threads=plan.threads())
        if precision in HALF_PRECISIONS:
            folder = _emulated(plan, bundle, precision)
            opener = RewrittenOpener(
                BundleOpener(bundle, threads=plan.threads()), folder, "rounded as in half precision"
            )
        variants.append(Variant("ONNX Runtime", precision, size, opener))
    return variants + _on_units(plan, checkpoint, size, progress)


def _on_units(
    plan: AccuracyPlan, checkpoint: Checkpoint, size: int, progress: Progress
) -> list[Variant]:
    """bf16, and int8 with bf16, as this processor's units compute it, on each backend that can."""
    found = []
    if not library.lacking():
        units = library.UNITS[library.load().units]
        for precision in CPU_PRECISIONS:
            bundle = _exported(plan, checkpoint, size, precision, progress, cpu_variants=True)
            opener = BundleOpener(bundle, threads=plan.threads())
            found.append(Variant(f"ONNX Runtime, {units}", precision, size, opener))
    if _openvino_has_bfloat16():
        bundle = _exported(plan, checkpoint, size, "bf16", progress)
        opener = BundleOpener(bundle, "openvino", threads=plan.threads())
        found.append(Variant("OpenVINO, 16-bit units", "bf16", size, opener))
    return found


def _openvino_has_bfloat16() -> bool:
    try:
        core = openvino_module().Core()
    except MissingExtraError:
        return False
    return UNITS["bf16"] in capabilities_of(core, "CPU")


def _exported(
    plan: AccuracyPlan,
    checkpoint: Checkpoint,
    size: int,
    precision: Precision,
    progress: Progress,
    cpu_variants: bool = False,
) -> Path:
    from ...export.bundle import export_bundle, generator

    path = plan.work / "bundles" / f"{precision}_{size}{'_cpu' if cpu_variants else ''}"
    try:
        kept = Bundle.load(path)
        found = (kept.checkpoint_sha256, kept.generator, kept.precision, kept.model.image_size)
        if found == (checkpoint.sha256, generator(), precision, size):
            return path
    except BundleError:
        pass
    progress(f"exporting {precision} at {size} pixels")
    asked: dict[str, Any] = {"precision": precision, "cpu_variants": cpu_variants}
    export_bundle(checkpoint, path, image_size=size, seed=plan.seed, **asked)
    return path


def _emulated(plan: AccuracyPlan, bundle: Path, precision: Half) -> Path:
    """Graphs of a half-precision bundle with every operator in float32 and its result rounded."""
    import onnx

    from ...export.graphs.precision import emulated
    from ...export.graphs.weights_file import WeightsFile

    folder = plan.work / "emulated" / bundle.name
    loaded = Bundle.load(bundle)
    with replaced_folder(folder) as work, WeightsFile(work) as weights:
        for name, entry in loaded.graphs.items():
            graph = onnx.load(loaded.graph_path(name))
            weights.write(emulated(graph, precision), work / entry.file.path)
    return folder


def agreement(dataset: Dataset, masks: Path, reference: Path) -> Agreement:
    """IoU of the masks that two runs wrote, over all objects and frames where either has one."""
    found: list[tuple[float, str, int, int]] = []
    for video in dataset.videos:
        for frame, name in enumerate(video.frame_names):
            pair = [read_labels(p / video.name / f"{name}.png") for p in (masks, reference)]
            for i in set(np.unique(pair[0]).tolist()) | set(np.unique(pair[1]).tolist()):
                if i:
                    iou = region_similarity(pair[0] == i, pair[1] == i)
                    found.append((iou, video.name, i, frame))
    if not found:
        return Agreement(1.0, 1.0, None)
    worst = min(found)
    return Agreement(worst[0], float(np.mean([f[0] for f in found])), worst[1:])


def worst_frames(report: dict[str, Any], count: int) -> list[dict[str, Any]]:
    """The scored frames with the lowest J, one per object, lowest first."""
    shown = [o for o in report["results"] if o["lowest"] is not None]
    shown.sort(key=lambda o: o["lowest"]["J"])
    return [{"video": o["video"], "object": o["object"], **o["lowest"]} for o in shown[:count]]


def capabilities(
    plan: AccuracyPlan, variant: Variant, progress: Progress = silent
) -> dict[str, Any]:
    """One variant on all levels: click and box, a second click on the worst frame, no prompt.

    Gives level -> what -> report; "clicks" is the offline protocol with one click on each of two
    frames, "automatic" the share of objects that automatic masks find on first frames.
    """
    two = Settings("offline", clicks=1, rounds=2)
    found: dict[str, Any] = {}
    for level in ("plain", "standard", "hard"):
        found[level] = {
            "click": run(plan, variant, level, Settings(prompt="click"), progress),
            "box": run(plan, variant, level, Settings(prompt="box"), progress),
            "clicks": run(plan, variant, level, two, progress),
        }
        with variant.opener.open() as session:
            recall = automatic_recall(session, plan.dataset(level), AUTOMATIC, progress)
        found[level]["automatic"] = recall.share
    return found


def sheet(
    plan: AccuracyPlan, variant: Variant, frames: Sequence[dict[str, Any]]
) -> np.ndarray[Any, Any]:
    """Images of frames, the annotation outlined in white, the prediction tinted."""
    from ...runtime.media.overlay import contact_sheet, draw_overlay
    from ...runtime.packages import opencv

    cv2 = opencv("images of the worst frames")
    videos = {v.name: v for v in plan.dataset().videos}
    images = []
    for item in frames:
        video, index, obj_id = videos[item["video"]], item["frame"], item["object"]
        path = _masks(plan, variant) / video.name / f"{video.frame_names[index]}.png"
        with video.frames() as source:
            drawn = draw_overlay(source.read(index), (read_labels(path) == obj_id)[None], [obj_id])
        truth = video.truth(index)
        assert truth is not None
        wanted = truth.masks[obj_id].astype(np.uint8)
        outlines, _ = cv2.findContours(wanted, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
        cv2.drawContours(drawn, outlines, -1, (255, 255, 255), 1)
        images.append(drawn)
    return contact_sheet(images, width=256)
