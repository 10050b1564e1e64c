"""The command ``sam2rt track-many``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, get_args

import click

from ....configs.bundle import Bundle
from ....configs.errors import InputError, SessionError, printable
from ....runtime.frames import OnError
from ...console import Console
from ...options import bundle_option, console_options, session_options
from ...prompts import PromptCommand, named_prompts, ordered_prompts, prompt_options

F = TypeVar("F", bound=Callable[..., Any])

if TYPE_CHECKING:
    from ....serving.many.manifest import ClipList
    from ....serving.many.plan import ClipPlan
    from ....serving.many.summary import ManySummary


def _spreading_options(command: F) -> F:
    """Adds where the work is done and what is written."""
    options = [
        click.option(
            "--on-error",
            type=click.Choice(get_args(OnError)),
            default="raise",
            show_default=True,
            help="What an unreadable frame in the middle does.",
        ),
        click.option("--png", is_flag=True, help="Write a PNG of each mask, too."),
        click.option("--video", is_flag=True, help="Write an overlay.mp4 of each clip, too."),
        click.option("--no-overlap", is_flag=True, help="A pixel belongs to one object at most."),
        click.option(
            "--processes",
            type=click.IntRange(1, 1024),
            help="Clips tracked at a time.  [default: one a core on the CPU, else one a GPU]",
        ),
        click.option(
            "--ray",
            metavar="ADDRESS",
            help="Track on this cluster of Ray: host:port, auto, or local for one on this machine.",
        ),
        click.option(
            "--retries",
            type=click.IntRange(0, 100),
            default=2,
            show_default=True,
            help="How often a clip is tried again whose worker died or whose machine failed.",
        ),
        click.option(
            "--skip-bad",
            is_flag=True,
            help="Track the others where some clips cannot be read; without it nothing starts.",
        ),
        click.option(
            "-o",
            "--output",
            "out",
            required=True,
            type=click.Path(path_type=Path),
            help="Folder for the results; what is done there is kept.",
        ),
    ]
    for option in reversed(options):
        command = option(command)
    return command


@click.command("track-many", cls=PromptCommand, no_args_is_help=True)
@click.argument("clips", nargs=-1)
@bundle_option
@click.option(
    "--manifest",
    type=click.Path(allow_dash=True),
    help="List of clips and prompts: JSON Lines, or CSV by its suffix; - reads standard input.",
)
@click.option(
    "--first-masks",
    type=click.Path(path_type=Path),
    help="Folder with a mask of each clip's first frame: NAME.png, or the first image of NAME/.",
)
@prompt_options(frames=True)
@_spreading_options
@session_options
@console_options
@click.pass_context
def track_many(
    context: click.Context,
    /,
    clips: tuple[str, ...],
    path: Path,
    manifest: str | None,
    first_masks: Path | None,
    on_error: OnError,
    png: bool,
    video: bool,
    no_overlap: bool,
    processes: int | None,
    ray: str | None,
    retries: int,
    skip_bad: bool,
    out: Path,
    backend: str,
    device: str,
    threads: int | None,
    console: Console,
    **_: object,
) -> None:
    """Track objects through many clips, a folder for each.

    CLIPS are files or folders of images. --manifest lists clips with the prompts of each,
    --first-masks finds a mask for each; prompts given here hold for every clip. A folder is named
    by the clip and a key of its contents, prompts, bundle and options: repeated, the command does
    what is missing. summary.json says what became of each clip.
    """
    from ....serving.many.clips import ClipOptions
    from ....serving.many.plan import planned
    from ....serving.many.run import Spreading, track_many
    from ....serving.many.summary import check_results

    listed = _listed(context, clips, manifest, first_masks)
    _refuse_bad(console, listed.bad, len(listed.clips), skip_bad)
    options = ClipOptions(on_error, no_overlap, png, video, backend, device)
    check_results(out)
    with console.progress() as progress:
        progress("loading the bundle")
        bundle = Bundle.load(path)
        plan = planned(listed.clips, bundle, options, out, progress)
    _refuse_bad(console, list(plan.bad.values()), len(listed.clips) - len(plan.bad), skip_bad)
    spreading = Spreading(processes, threads, ray, retries)
    with console.progress() as progress:
        summary = track_many(
            bundle, listed.clips, out, options, spreading, plan=plan, progress=progress
        )
    _answer(console, summary, plan, out)
    if lost := summary.counts["failed"] + len(listed.bad):
        raise SessionError(
            f"{_clips(lost)} of {len(listed.clips) + len(listed.bad)} failed, see "
            f"{out / 'summary.json'}: repeat the command to try them again"
        )


def _listed(
    context: click.Context, clips: tuple[str, ...], manifest: str | None, first_masks: Path | None
) -> ClipList:
    from ....serving.many.manifest import clips_of, clips_with_masks, load_clips

    given = {"--manifest": manifest, "--first-masks": first_masks}
    named = [name for name, value in given.items() if value is not None]
    if named and (prompts := named_prompts(context)):
        context.fail(f"{named[0]} brings the prompts, found {prompts} too: leave out one of them")
    if len(named) == 2:
        context.fail("--manifest and --first-masks both bring the prompts: give one of them")
    if manifest is not None:
        if clips:
            context.fail(f"--manifest names the clips, found {clips[0]!r} too: list it there")
        return load_clips(manifest)
    if not clips:
        context.fail("no clip: name files or folders of images, or a list of them with --manifest")
    if lists := [name for name in clips if Path(name).suffix.lower() in (".jsonl", ".csv")]:
        context.fail(f"{lists[0]!r} is a list of clips: give it as --manifest {lists[0]}")
    if first_masks is not None:
        return clips_with_masks(clips, first_masks)
    return clips_of(clips, ordered_prompts(context))


def _refuse_bad(console: Console, bad: list[str], good: int, skip: bool) -> None:
    """Say each that cannot be tracked; InputError unless the others are to be tracked."""
    for line in bad:
        _say(line)
    if bad and not (skip and good):
        raise InputError(
            f"{_clips(len(bad))} of {len(bad) + good} cannot be tracked, so nothing was started: "
            "correct the list" + (", or give --skip-bad" if good else "")
        )


def _answer(console: Console, summary: ManySummary, plan: ClipPlan, out: Path) -> None:
    for index, record in enumerate(summary.records):
        if record["status"] == "failed" and index not in plan.bad:
            _say(f"{record['clip']}: {record['error']}")
        elif note := record.get("missing"):
            console.warn(f"sam2rt: {record['clip']}: {note}")
    counts, speed = summary.counts, summary.frames / max(summary.seconds, 1e-9)
    kept = f", {counts['kept']} done before" if counts["kept"] else ""
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    rate = f": {summary.frames} frames, {speed:.2f} frames per second" if summary.frames else ""
    document = {
        "folder": str(out),
        **{name: counts[name] for name in ("tracked", "kept", "failed")},
        "frames": summary.frames,
        "seconds": round(summary.seconds, 3),
        "clips": summary.records,
    }
    console.answer([f"{_clips(counts['tracked'])} tracked{kept}{failed}{rate}"], document)
    console.note(f"written to {out}")


def _clips(count: int) -> str:
    return "1 clip" if count == 1 else f"{count} clips"


def _say(line: str) -> None:
    """An error of one clip, one line on stderr, whatever --quiet leaves out."""
    click.echo(printable("sam2rt: " + " ".join(line.split())), err=True)


COMMANDS: list[click.Command] = [track_many]
