"""The command ``sam2rt segment``."""

from __future__ import annotations

from pathlib import Path

import click

from ...configs.bundle import Bundle
from ..options import bundle_option, output_option, session_options
from ..progress_line import ProgressLine
from ..prompts import PromptCommand, image_prompts, prompt_options


@click.command("segment", cls=PromptCommand, no_args_is_help=True)
@click.argument("image", type=click.Path(path_type=Path))
@bundle_option
@prompt_options(frames=False)
@click.option("--all-masks", is_flag=True, help="Keep all three readings of an unclear prompt.")
@output_option
@session_options
@click.pass_context
def segment(
    context: click.Context,
    /,
    image: Path,
    path: Path,
    all_masks: bool,
    out: Path,
    backend: str,
    device: str,
    threads: int | None,
    **_: object,
) -> None:
    """Segment what points, boxes and masks mark in an image.

    --object holds for the prompts after it; without it, several boxes are an object each:

    \b
    --object 1 --point 420,260 --object 2 --box 10,20,200,300 --point 60,60,0
    """
    from ...runtime.tasks.segment import segment_image

    prompts = image_prompts(context)
    with ProgressLine() as progress:
        segments = segment_image(
            Bundle.load(path),
            image,
            out,
            prompts=prompts,
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
