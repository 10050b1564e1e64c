"""The command ``sam2rt track``."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from ...configs.bundle import Bundle
from ...runtime.frames import OnError
from ..options import bundle_option, output_option, session_options
from ..progress_line import ProgressLine
from ..prompts import BOX, POINT, PromptCommand, ordered_prompts


@click.command("track", cls=PromptCommand, no_args_is_help=True)
@click.argument("video")
@bundle_option
@click.option("--object", multiple=True, type=int, help="Whose prompts follow.  [default: 1]")
@click.option(
    "--frame", multiple=True, type=click.IntRange(0), help="Whose prompts follow.  [default: 0]"
)
@click.option("--point", multiple=True, type=POINT, help="Label 1 object, 0 background.")
@click.option("--box", multiple=True, type=BOX)
@click.option(
    "--on-error",
    type=click.Choice(get_args(OnError)),
    default="raise",
    show_default=True,
    help="What an unreadable frame in the middle does.",
)
@click.option("--no-masks", is_flag=True, help="Write no PNG of each mask.")
@click.option("--no-video", is_flag=True, help="Write no overlay.mp4.")
@click.option("--no-overlap", is_flag=True, help="A pixel belongs to one object at most.")
@click.option("--prefetch", is_flag=True, help="Encode later frames while one is tracked.")
@output_option
@session_options
@click.pass_context
def track(
    context: click.Context,
    /,
    video: str,
    path: Path,
    on_error: OnError,
    no_masks: bool,
    no_video: bool,
    no_overlap: bool,
    prefetch: bool,
    out: Path,
    backend: str,
    device: str,
    threads: int | None,
    **_: object,
) -> None:
    """Track objects through a video, from points and boxes.

    VIDEO is a file (a stack of TIFF has a frame a page), a pipe such as /dev/stdin, a folder of
    images or an address of a stream. --object and --frame hold for the prompts after them:

    \b
    --object 1 --frame 0 --point 420,260 --object 2 --frame 5 --box 10,20,200,300
    """
    from ...runtime.tasks.track import track_video

    prompts = ordered_prompts(context)
    with ProgressLine() as progress:
        summary = track_video(
            Bundle.load(path),
            video,
            out,
            prompts,
            on_error=on_error,
            write_masks=not no_masks,
            write_video=not no_video,
            non_overlap_masks=no_overlap,
            backend=backend,
            device=device,
            threads=threads,
            prefetch=prefetch,
            progress=progress,
        )
    objects = ", ".join(map(str, summary.obj_ids))
    speed = summary.num_frames / max(summary.seconds, 1e-9)
    click.echo(f"{summary.num_frames} frames, objects {objects}: {speed:.2f} frames per second")
    click.echo(f"written to {out}")
    if summary.missing is not None:
        click.echo(f"sam2rt: {summary.missing}", err=True)


COMMANDS: list[click.Command] = [track]
