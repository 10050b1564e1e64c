"""The command ``sam2rt segment``."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ...configs.bundle import Bundle
from ..console import Console
from ..options import bundle_option, console_options, output_option, session_options
from ..prompts import PromptCommand, image_prompts, prompt_options

if TYPE_CHECKING:
    from ...runtime.tasks.segment import Segment


@click.command("segment", cls=PromptCommand, no_args_is_help=True)
@click.argument("image", type=click.Path(path_type=Path))
@bundle_option
@prompt_options(frames=False)
@click.option(
    "--all-masks",
    is_flag=True,
    help="Keep all three readings of each prompt, each with an overlay.",
)
@output_option
@session_options
@console_options
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
    console: Console,
    **_: object,
) -> None:
    """Segment what points, boxes and masks mark in an image.

    --object holds for the prompts after it; without it, several boxes are an object each:

    \b
    --object 1 --point 420,260 --object 2 --box 10,20,200,300 --point 60,60,0
    """
    from ...runtime.tasks.segment import segment_image

    prompts = image_prompts(context)
    with console.progress() as progress:
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
    console.answer(_lines(segments, all_masks), _document(segments, out))
    console.note(f"written to {out}")


def _lines(segments: Sequence[Segment], all_masks: bool) -> Iterator[str]:
    for found in segments:
        area = 100 * float(found.mask.mean())
        which = f"object {found.obj_id}" + (f", reading {found.reading + 1}" if all_masks else "")
        yield f"{which}: {area:.1f} % of the image, IoU {found.iou:.3f}"


def _document(segments: Sequence[Segment], out: Path) -> dict[str, Any]:
    masks = [
        {
            "object": found.obj_id,
            "reading": found.reading + 1,
            "predicted_iou": round(found.iou, 6),
            "area": int(found.mask.sum()),
            "file": str(out / found.file_name),
        }
        for found in segments
    ]
    return {"folder": str(out), "masks": masks}


COMMANDS: list[click.Command] = [segment]
