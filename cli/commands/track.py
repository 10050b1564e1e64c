"""The command ``sam2rt track``."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from ...configs.bundle import Bundle
from ...runtime.frames import OnError
from ..console import Console
from ..options import bundle_option, console_options, output_option, session_options
from ..prompts import PromptCommand, ordered_prompts, prompt_options


@click.command("track", cls=PromptCommand, no_args_is_help=True)
@click.argument("video")
@bundle_option
@prompt_options(frames=True)
@click.option(
    "--start",
    default=0,
    show_default=True,
    type=click.IntRange(0),
    help="First frame of the range that is tracked; frames keep their numbers.",
)
@click.option(
    "--end", type=click.IntRange(0), help="Last frame of that range.  [default: the video's last]"
)
@click.option(
    "--reverse",
    is_flag=True,
    help="Track from the end of the range to its start; without --end from the last prompt.",
)
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
@console_options
@click.pass_context
def track(
    context: click.Context,
    /,
    video: str,
    path: Path,
    start: int,
    end: int | None,
    reverse: bool,
    on_error: OnError,
    no_masks: bool,
    no_video: bool,
    no_overlap: bool,
    prefetch: bool,
    out: Path,
    backend: str,
    device: str,
    threads: int | None,
    console: Console,
    **_: object,
) -> None:
    """Track objects through a video, from points, boxes and masks.

    VIDEO is a file (a stack of TIFF has a frame a page), a pipe such as /dev/stdin, a folder of
    images or an address of a stream. --object and --frame hold for the prompts after them:

    \b
    --object 1 --frame 0 --point 420,260 --object 2 --frame 5 --box 10,20,200,300

    Frames count from 0, in options and in results, whatever range is tracked.
    """
    from ...runtime.tasks.track import track_video

    prompts = ordered_prompts(context)
    with console.progress() as progress:
        summary = track_video(
            Bundle.load(path),
            video,
            out,
            prompts,
            start=start,
            end=end,
            reverse=reverse,
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
    frames = "1 frame" if summary.num_frames == 1 else f"{summary.num_frames} frames"
    line = f"{frames}, objects {objects}: {speed:.2f} frames per second"
    document = {
        "folder": str(out),
        "frames": summary.num_frames,
        "objects": summary.obj_ids,
        "seconds": round(summary.seconds, 3),
        "frames_per_second": round(speed, 3),
        "missing": summary.missing,
    }
    console.answer([line], document)
    console.note(f"written to {out}")
    if summary.missing is not None:
        console.warn(f"sam2rt: {summary.missing}")


COMMANDS: list[click.Command] = [track]
