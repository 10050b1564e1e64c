"""``sam2rt demo``: a checkpoint becomes a proved bundle, the bundle tracks objects through a clip.

Needs no network: the clip is synthetic, and the weights ship with the package unless a
checkpoint is named.
"""

from __future__ import annotations

import os
from pathlib import Path

import click

from ...configs.bundle import Bundle
from ...configs.extras import extras_of
from ..completion import checkpoints
from ..console import Console
from ..describe import proof_lines
from ..options import PORT, THREADS, console_options


@click.command("demo")
@click.argument("checkpoint", required=False, shell_complete=checkpoints)
@click.option(
    "-o",
    "--output",
    "out",
    type=click.Path(path_type=Path),
    default="out",
    show_default=True,
    help="Folder for the results.",
)
@click.option(
    "--frames",
    type=click.IntRange(1),
    default=24,
    show_default=True,
    help="Length of the clip.",
)
@click.option("--threads", type=THREADS, help="CPU threads.  [default: all]")
@console_options
def demo(
    checkpoint: str | None, out: Path, frames: int, threads: int | None, console: Console
) -> None:
    """Export a model, track a synthetic clip, show the result.

    CHECKPOINT is what 'sam2rt export' takes, such as sam2.1_hiera_tiny; without it the weights
    that ship with the package.
    """
    with extras_of("the demonstration"):
        from ...benchmarks import demo as work
        from ...export.bundle import export_bundle
        from ...export.checkpoint.download import download_size
    if checkpoint is not None:
        console.announce_download(checkpoint, download_size(checkpoint))
    with work.removed_on_failure(out), console.progress() as progress:
        loaded = work.demo_checkpoint(checkpoint)
        if loaded.source == work.RANDOM:
            console.note(
                "no trained weights at hand: these are random, so the masks mean nothing; name a "
                "checkpoint, such as sam2.1_hiera_tiny, to see real ones"
            )
        bundle = export_bundle(loaded, out / "work" / "bundle", threads=threads, progress=progress)
        console.note(f"exported {bundle.model.name} at {bundle.model.image_size} pixels, proved:")
        console.note(f"  {list(proof_lines(bundle.proof))[-2].strip()}")
        done = work.demonstrate(bundle, out, frames=frames, threads=threads, progress=progress)
    summary = done.summary
    speed = summary.num_frames / summary.seconds
    lines = [
        f"tracked {len(summary.obj_ids)} objects through {summary.num_frames} frames:",
        f"  {speed:.2f} frames per second ({_machine(bundle, threads)})",
        f"mean IoU with the true masks {done.overlap:.3f}",
    ]
    document = {
        "video": str(out / "demo.mp4"),
        "sheet": str(out / "demo.png"),
        "objects": summary.obj_ids,
        "frames": summary.num_frames,
        "frames_per_second": round(speed, 3),
        "mean_iou": round(done.overlap, 6),
    }
    console.answer(lines, document)
    console.note(f"look at {out / 'demo.mp4'} and {out / 'demo.png'}")
    console.note(f"click on objects of your own: sam2rt serve {out / 'work' / 'bundle'}")
    console.note(f"then open http://127.0.0.1:{PORT}/")


def _machine(bundle: Bundle, threads: int | None) -> str:
    count = threads or os.cpu_count()
    return f"onnxruntime cpu, {count} threads, {bundle.model.image_size} pixels, fp32"


COMMANDS: list[click.Command] = [demo]
