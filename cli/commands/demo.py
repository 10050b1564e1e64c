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
from ..describe import proof_lines
from ..options import THREADS
from ..progress_line import ProgressLine


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
    with extras_of("the demonstration"):
        from ...benchmarks import demo as work
        from ...export.bundle import export_bundle
    with work.removed_on_failure(out, out / "work"), ProgressLine() as progress:
        loaded = work.demo_checkpoint(checkpoint)
        if loaded.source == work.RANDOM:
            click.echo(
                "no trained weights at hand: these are random, so the masks mean nothing; name a "
                "checkpoint, such as sam2.1_hiera_tiny, to see real ones"
            )
        bundle = export_bundle(loaded, out / "work" / "bundle", threads=threads, progress=progress)
        click.echo(f"exported {bundle.model.name} at {bundle.model.image_size} pixels, proved:")
        click.echo(f"  {list(proof_lines(bundle.proof))[-2].strip()}")
        done = work.demonstrate(bundle, out, frames=frames, threads=threads, progress=progress)
    summary = done.summary
    speed = summary.num_frames / summary.seconds
    click.echo(f"tracked {len(summary.obj_ids)} objects through {summary.num_frames} frames:")
    click.echo(f"  {speed:.2f} frames per second ({_machine(bundle, threads)})")
    click.echo(f"mean IoU with the true masks {done.overlap:.3f}")
    click.echo(f"look at {out / 'demo.mp4'} and {out / 'demo.png'}")


def _machine(bundle: Bundle, threads: int | None) -> str:
    count = threads or os.cpu_count()
    return f"onnxruntime cpu, {count} threads, {bundle.model.image_size} pixels, fp32"


COMMANDS: list[click.Command] = [demo]
