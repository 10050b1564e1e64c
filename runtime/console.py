"""Commands that run a bundle, and what every command shares: options, prompts, progress."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, TextIO, TypeVar

import click

from ..configs.bundle import Bundle
from .session import BACKENDS

if TYPE_CHECKING:
    from .frames import OnError

if TYPE_CHECKING:
    NumbersBase = click.ParamType[tuple[float, ...]]
else:  # not generic in older versions of click
    NumbersBase = click.ParamType

F = TypeVar("F", bound=Callable[..., Any])
NO_PROMPT = "nothing to look for: give a --point x,y or a --box x0,y0,x1,y1"
#: more than any machine has use for; far more would not start, or hang
THREADS = click.IntRange(1, 1024)
_PROMPTS = ("object", "frame", "point", "box")


class Progress:
    """A line on stderr that says what is being done, once that has taken two seconds.

    Silent where stderr is no terminal. Call it with what is done, how much of it and the whole
    (None where nobody knows); leaving the block clears the line.
    """

    def __init__(
        self,
        stream: TextIO | None = None,
        delay: float = 2.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._stream = stream or sys.stderr
        self._clock = clock
        self._next = clock() + delay
        self._shown = False

    def __call__(self, what: str, done: int = 0, total: int | None = None) -> None:
        now = self._clock()
        # None where the caller closed it
        if now < self._next or self._stream is None or not self._stream.isatty():
            return
        self._next = now + 0.1
        self._shown = True
        share = f" {100 * done // total} %" if total else f" {done}" if done else ""
        self._stream.write(f"\r\033[K{what}{share}")
        self._stream.flush()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._shown:
            self._stream.write("\r\033[K")
            self._stream.flush()


class _Numbers(NumbersBase):
    def __init__(self, name: str, counts: tuple[int, ...]) -> None:
        self.name = name
        self._counts = counts

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        if isinstance(value, tuple):
            return value
        try:
            numbers = tuple(float(part) for part in value.split(","))
        except ValueError:
            numbers = ()
        if len(numbers) not in self._counts or not all(map(math.isfinite, numbers)):
            self.fail(f"{value!r}: expected {self.name}, in pixels", param, ctx)
        return numbers


class _Point(_Numbers):
    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[float, ...]:
        numbers = super().convert(value, param, ctx)
        if len(numbers) == 2:
            return (*numbers, 1.0)
        if numbers[2] not in (0, 1):
            self.fail(f"{value!r}: label must be 1 (object) or 0 (background)", param, ctx)
        return numbers


POINT = _Point("x,y[,label]", (2, 3))
BOX = _Numbers("x0,y0,x1,y1", (4,))


@dataclass
class Prompt:
    """What is asked for one object on one frame; coordinates are pixels of the frame."""

    obj_id: int
    frame_idx: int
    #: x, y and label (1 object, 0 background) of each click
    points: list[tuple[float, float, int]] = field(default_factory=list)
    #: x0, y0, x1, y1
    box: tuple[float, float, float, float] | None = None


class PromptCommand(click.Command):
    """A command whose prompt options count in the order in which they were given."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        _, _, order = self.make_parser(ctx).parse_args(args=list(args))
        ctx.meta[__name__] = [p.name for p in order if p.name in _PROMPTS]
        return super().parse_args(ctx, args)


def ordered_prompts(ctx: click.Context) -> list[Prompt]:
    """The prompts of a :class:`PromptCommand`: `--object` and `--frame` hold for what follows.

    Object 1 on frame 0 is meant until they say otherwise; `--object` goes back to frame 0.
    Raises a usage error when an object or a frame is named without any prompt.
    """
    values: dict[str, Iterator[Any]] = {n: iter(ctx.params[n] or ()) for n in _PROMPTS}
    prompts: dict[tuple[int, int], Prompt] = {}
    obj_id, frame_idx = 1, 0
    idle: str | None = None
    for name in ctx.meta[__name__]:
        value = next(values[name])
        if name == "object":
            _refuse_idle(ctx, idle)
            obj_id, frame_idx = value, 0
            idle = f"--object {value}"
            continue
        if name == "frame":
            _refuse_idle(ctx, idle if idle and "--frame" in idle else None)
            frame_idx = value
            idle = f"--object {obj_id} --frame {value}"
            continue
        idle = None
        prompt = prompts.setdefault((obj_id, frame_idx), Prompt(obj_id, frame_idx))
        if name == "box":
            if prompt.box is not None:
                ctx.fail(f"two boxes for object {obj_id} on frame {frame_idx}: give one")
            prompt.box = value
        else:
            x, y, label = value
            prompt.points.append((x, y, int(label)))
    _refuse_idle(ctx, idle)
    if not prompts:
        ctx.fail(NO_PROMPT)
    return list(prompts.values())


def _refuse_idle(ctx: click.Context, idle: str | None) -> None:
    if idle is not None:
        ctx.fail(f"{idle} has no --point or --box after it")


def session_options(command: F) -> F:
    """Adds --backend, --device and --threads."""
    options = [
        click.option(
            "--backend", type=click.Choice(BACKENDS), default=BACKENDS[0], show_default=True
        ),
        click.option("--device", default="cpu", show_default=True, help="cpu, cuda or tensorrt"),
        click.option("--threads", type=THREADS, help="CPU threads [default: all]"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def output_option(command: F) -> F:
    """Adds -o, the folder of the results."""
    return click.option(
        "-o", "--output", "out", required=True, type=click.Path(path_type=Path),
        help="Folder for the results; an earlier result there is replaced.",
    )(command)  # fmt: skip


def bundle_option(command: F) -> F:
    """Adds --bundle, loaded and checked."""
    return click.option(
        "--bundle", "path", required=True, type=click.Path(path_type=Path),
        help="Folder made by 'sam2rt export'.",
    )(command)  # fmt: skip


@click.command("segment", no_args_is_help=True)
@click.argument("image", type=click.Path(path_type=Path))
@bundle_option
@click.option("--point", "points", multiple=True, type=POINT, help="Label 1 object, 0 background.")
@click.option("--box", "boxes", multiple=True, type=BOX, help="Several boxes make several objects.")
@click.option("--all-masks", is_flag=True, help="Keep all three readings of an unclear prompt.")
@output_option
@session_options
def segment(
    image: Path, path: Path, points: tuple[tuple[float, float, float], ...],
    boxes: tuple[tuple[float, float, float, float], ...], all_masks: bool, out: Path,
    backend: str, device: str, threads: int | None,
) -> None:  # fmt: skip
    """Segment what points and boxes mark in a picture."""
    from .segment import segment_image

    if not points and not boxes:
        raise click.UsageError(NO_PROMPT, click.get_current_context())
    with Progress() as progress:
        segments = segment_image(
            Bundle.load(path), image, out,
            points=[(x, y, int(label)) for x, y, label in points], boxes=boxes,
            all_masks=all_masks, backend=backend, device=device, threads=threads,
            progress=progress,
        )  # fmt: skip
    for found in segments:
        area = 100 * float(found.mask.mean())
        which = f"object {found.obj_id}" + (f", reading {found.reading + 1}" if all_masks else "")
        click.echo(f"{which}: {area:.1f} % of the image, IoU {found.iou:.3f}")
    click.echo(f"written to {out}")


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
    "--on-error", type=click.Choice(["raise", "skip", "hold"]), default="raise", show_default=True,
    help="What an unreadable frame in the middle does.",
)  # fmt: skip
@click.option("--no-masks", is_flag=True, help="Write no PNG of each mask.")
@click.option("--no-video", is_flag=True, help="Write no overlay.mp4.")
@click.option("--no-overlap", is_flag=True, help="A pixel belongs to one object at most.")
@click.option("--throughput", is_flag=True, help="Encode later frames while one is tracked.")
@output_option
@session_options
@click.pass_context
def track(
    context: click.Context, /, video: str, path: Path, on_error: OnError, no_masks: bool,
    no_video: bool, no_overlap: bool, throughput: bool, out: Path, backend: str, device: str,
    threads: int | None, **_: object,
) -> None:  # fmt: skip
    """Track objects through a video, from points and boxes.

    VIDEO is a file, a folder of pictures or an address of a stream. --object and --frame hold
    for the prompts after them:

    \b
    --object 1 --frame 0 --point 420,260 --object 2 --frame 5 --box 10,20,200,300
    """
    from .track import track_video

    prompts = ordered_prompts(context)
    with Progress() as progress:
        summary = track_video(
            Bundle.load(path), video, out, prompts, on_error=on_error, write_masks=not no_masks,
            write_video=not no_video, non_overlap_masks=no_overlap, backend=backend,
            device=device, threads=threads, throughput=throughput, progress=progress,
        )  # fmt: skip
    objects = ", ".join(map(str, summary.obj_ids))
    speed = summary.num_frames / max(summary.seconds, 1e-9)
    click.echo(f"{summary.num_frames} frames, objects {objects}: {speed:.2f} frames per second")
    click.echo(f"written to {out}")


COMMANDS: list[click.Command] = [segment, track]
