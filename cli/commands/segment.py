"""The command ``sam2rt segment``."""

from __future__ import annotations

from pathlib import Path

import click

from ...configs.bundle import Bundle
from ..options import bundle_option, output_option, session_options
from ..progress_line import ProgressLine
from ..prompts import BOX, NO_PROMPT, POINT


@click.command("segment", no_args_is_help=True)
@click.argument("image", type=click.Path(path_type=Path))
@bundle_option
@click.option("--point", "points", multiple=True, type=POINT, help="Label 1 object, 0 background.")
@click.option("--box", "boxes", multiple=True, type=BOX, help="Several boxes make several objects.")
@click.option("--all-masks", is_flag=True, help="Keep all three readings of an unclear prompt.")
@output_option
@session_options
def segment(
    image: Path,
    path: Path,
    points: tuple[tuple[float, float, float], ...],
    boxes: tuple[tuple[float, float, float, float], ...],
    all_masks: bool,
    out: Path,
    backend: str,
    device: str,
    threads: int | None,
) -> None:
    """Segment what points and boxes mark in an image."""
    from ...runtime.tasks.segment import segment_image

    if not points and not boxes:
        raise click.UsageError(NO_PROMPT, click.get_current_context())
    with ProgressLine() as progress:
        segments = segment_image(
            Bundle.load(path),
            image,
            out,
            points=[(x, y, int(label)) for x, y, label in points],
            boxes=boxes,
            all_masks=all_masks,
            backend=backend,
            device=device,
            threads=threads,
            progress=progress,
        )
    for found in segments:
        area = 100 * float(found.mask.mean())
        which = f"object {found.obj_id}" + (f", reading {found.reading + 1}" if all_masks else "")
        click.echo(f"{which}: {area:.1f} % of the image, IoU {found.iou:.3f}")
    click.echo(f"written to {out}")


COMMANDS: list[click.Command] = [segment]
