"""``sam2rt demo``: a checkpoint becomes a proved bundle, the bundle tracks objects through a clip.

Needs no network: the clip is synthetic, and the weights ship with the package unless a
checkpoint is named. Leaves ``demo.mp4`` and ``demo.png`` (a dozen frames at a glance), and in
``work`` the clip, the bundle and the masks they were made from.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click
import numpy as np

from ...configs.models import MODELS
from ...runtime.tasks.prompts import ObjectPrompt
from ..options import THREADS
from ..progress_line import ProgressLine

if TYPE_CHECKING:
    from ...benchmarks.synthetic.clips import SyntheticClip
    from ...configs.bundle import Bundle
    from ...export.checkpoint.load import Checkpoint

_BUILT_IN = "sam2rt_micro"
_SEED = 5


@click.command("demo")
@click.argument("checkpoint", required=False)
@click.option(
    "-o", "--output", "out", type=click.Path(path_type=Path), default="out", show_default=True
)
@click.option("--frames", type=click.IntRange(1), default=24, show_default=True)
@click.option("--threads", type=THREADS, help="CPU threads  [default: all]")
def demo(checkpoint: str | None, out: Path, frames: int, threads: int | None) -> None:
    """Export a model, track two objects through a synthetic clip, show the result.

    CHECKPOINT is what 'sam2rt export' takes, such as sam2.1_hiera_tiny; without it the weights
    that ship with the package.
    """
    from ...benchmarks.synthetic.clips import make_clip
    from ...export.bundle import export_bundle
    from ...runtime.tasks.track import track_video
    from ..describe import proof_lines

    work = out / "work"
    with _removed_on_failure(out, work), ProgressLine() as progress:
        loaded = _checkpoint(checkpoint)
        bundle = export_bundle(loaded, work / "bundle", threads=threads, progress=progress)
        summary_of_proof = list(proof_lines(bundle.proof))[-2].strip()
        click.echo(f"exported {bundle.model.name} at {bundle.model.image_size} pixels, proved:")
        click.echo(f"  {summary_of_proof}")
        clip = make_clip(_SEED, "plain", frames)
        _write_clip(clip, work / "clip.mp4")
        summary = track_video(
            bundle, clip.frames, work / "track", _prompts(clip), threads=threads, progress=progress
        )
        shutil.copyfile(work / "track" / "overlay.mp4", out / "demo.mp4")
        shutil.copyfile(work / "track" / "sheet.png", out / "demo.png")
    overlap = _overlap(clip, work / "track" / "masks")
    speed = summary.num_frames / summary.seconds
    click.echo(f"tracked {len(summary.obj_ids)} objects through {summary.num_frames} frames:")
    click.echo(f"  {speed:.2f} frames per second ({_machine(bundle, threads)})")
    click.echo(f"mean IoU with the true masks {overlap:.3f}")
    click.echo(f"look at {out / 'demo.mp4'} and {out / 'demo.png'}")


@contextmanager
def _removed_on_failure(*folders: Path) -> Iterator[None]:
    """Remove those of `folders` that the block made, should it end with an error."""
    new = [folder for folder in folders if not folder.exists()]
    try:
        yield
    except BaseException:
        for folder in new:
            shutil.rmtree(folder, ignore_errors=True)
        raise


def _checkpoint(source: str | None) -> Checkpoint:
    from ...export.checkpoint.load import Checkpoint, built_in_file, load_checkpoint
    from ...export.model.untrained import untrained_state

    if source is not None:
        return load_checkpoint(source)
    if built_in_file(_BUILT_IN).is_file():
        return load_checkpoint(_BUILT_IN)
    click.echo(
        "no trained weights at hand: these are random, so the masks mean nothing; name a "
        "checkpoint, such as sam2.1_hiera_tiny, to see real ones"
    )
    config = MODELS["micro"]
    return Checkpoint(config, untrained_state(config), "0" * 64, "random weights")


def _write_clip(clip: SyntheticClip, path: Path) -> None:
    from ...runtime.media.video_writer import open_video_writer

    height, width = clip.frames.shape[1:3]
    with open_video_writer(path, 25.0, (height, width)) as writer:
        for frame in clip.frames:
            writer.write(frame)


def _prompts(clip: SyntheticClip) -> list[ObjectPrompt]:
    """A box around the largest object of the first frame, a click on the next largest."""
    labels = clip.labels[0]
    areas = np.bincount(labels.ravel(), minlength=clip.num_objects + 1)[1:]
    first, *rest = (1 + np.argsort(areas)[::-1]).tolist()
    rows, columns = np.nonzero(labels == first)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    x0, y0, x1, y1 = map(float, box)
    prompts = [ObjectPrompt(first, 0, box=(x0, y0, x1, y1))]
    if rest:
        rows, columns = np.nonzero(labels == rest[0])
        # the pixel of the object that is nearest its middle
        nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
        click_at = (float(columns[nearest]), float(rows[nearest]), 1)
        prompts.append(ObjectPrompt(rest[0], 0, points=[click_at]))
    return prompts


def _overlap(clip: SyntheticClip, masks: Path) -> float:
    """Mean IoU of the written masks with the clip's own, over objects and frames."""
    from ...runtime.packages import opencv

    cv2 = opencv("reading masks")
    found = []
    for folder in sorted(masks.iterdir()):
        for t, true in enumerate(clip.labels == int(folder.name)):
            mask = cv2.imread(str(folder / f"{t:05d}.png"), cv2.IMREAD_GRAYSCALE) > 0
            union = np.count_nonzero(mask | true)
            found.append(np.count_nonzero(mask & true) / union if union else 1.0)
    return float(np.mean(found))


def _machine(bundle: Bundle, threads: int | None) -> str:
    count = threads or os.cpu_count()
    return f"onnxruntime cpu, {count} threads, {bundle.model.image_size} pixels, fp32"


COMMANDS: list[click.Command] = [demo]
