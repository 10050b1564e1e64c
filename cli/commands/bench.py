"""The command ``sam2rt bench``."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ...benchmarks.speed.bench import BASELINES, Request, bench_bundle
from ...benchmarks.speed.clip import video_size
from ...benchmarks.speed.report import BenchReport, read_report, write_json
from ...benchmarks.speed.systems.ablations import ABLATIONS, possible_ablations
from ...benchmarks.speed.systems.system import Work
from ...benchmarks.speed.text import compare, table
from ...configs.bundle import Bundle
from ...configs.staging import check_file_target
from ...runtime.backends.open import BACKENDS
from ..completion import bundles, checkpoints, one_of
from ..console import Console
from ..options import THREADS, ReportCommand, report_options

F = TypeVar("F", bound=Callable[..., Any])
_FILE = click.Path(path_type=Path)
_FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)


def _dims(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> tuple[tuple[str, int], ...]:
    """Sizes of dimensions, each NAME=SIZE."""
    found = []
    for value in values:
        name, _, size = value.partition("=")
        if not name or not size.isdecimal():
            raise click.BadParameter(f"{value!r}: expected NAME=SIZE such as tokens=28736")
        found.append((name, int(size)))
    return tuple(found)


def _counts(ctx: click.Context, param: click.Parameter, value: str | None) -> tuple[int, ...]:
    """Numbers of objects, separated by commas."""
    parts = value.split(",") if value else []
    if not all(part.isdecimal() and int(part) > 0 for part in parts):
        raise click.BadParameter(f"{value!r}: expected numbers of objects such as 1,2,4,8,16")
    return tuple(map(int, parts))


def _number(name: str, default: int, text: str) -> Callable[[F], F]:
    """An option that is a number from 1 on."""
    return click.option(name, default=default, show_default=True, type=click.IntRange(1), help=text)


#: what every system does
_WORK = (
    _number("--objects", 1, "Objects tracked at a time."),
    _number("--memories", 7, "Memories that each object attends to."),
    _number("--pointers", 16, "Object pointers that each object attends to."),
    _number("--frames", 10, "Frames that are timed."),
    click.option("--threads", default=2, show_default=True, type=THREADS, help="CPU threads."),
    click.option(
        "--video", type=click.Path(exists=True), help="Frames that are fed.  [default: noise]"
    ),
    click.option(
        "--scored-frames",
        default=8,
        show_default=True,
        type=click.IntRange(0),
        help="Frames of the clip whose masks are compared; 0: none.",
    ),
    click.option("--growing", is_flag=True, help="Time it also with 1 to all memories."),
    click.option(
        "--sweep-objects",
        "object_counts",
        callback=_counts,
        metavar="N,N,...",
        help="Time it also with these numbers of objects, such as 1,2,4,8,16.",
    ),
    click.option(
        "--point-frames",
        default=3,
        show_default=True,
        type=click.IntRange(1),
        help="Frames of each point of --growing and --sweep-objects.",
    ),
    click.option("--prefetch", is_flag=True, help="Time clips with prefetched frames too."),
)
#: what is compared
_SYSTEMS = (
    click.option(
        "--backend",
        type=click.Choice(BACKENDS),
        default=BACKENDS[0],
        show_default=True,
        help="Library that runs the bundle's graphs.",
    ),
    click.option(
        "--device",
        default="cpu",
        show_default=True,
        shell_complete=one_of("cpu", "cuda", "tensorrt"),
        help="Where the bundle's graphs run: cpu, cuda or tensorrt.",
    ),
    click.option(
        "--also",
        multiple=True,
        type=_FOLDER,
        shell_complete=bundles,
        help="Another sam2rt bundle.",
    ),
    click.option(
        "--on",
        "elsewhere",
        multiple=True,
        type=(click.Choice(BACKENDS), _FOLDER),
        metavar="BACKEND BUNDLE",
        help="Another sam2rt bundle on another backend.",
    ),
    click.option(
        "--ablate",
        "ablations",
        multiple=True,
        type=click.Choice([*ABLATIONS, "all"]),
        help="The bundle with one optimisation taken away.",
    ),
    click.option(
        "--baseline",
        "baselines",
        multiple=True,
        type=click.Choice(list(BASELINES)),
        help="Another implementation on the same work.",
    ),
    click.option(
        "--onnx", multiple=True, type=_FOLDER, help="A folder of another exporter's graphs."
    ),
    click.option(
        "--onnx-dim",
        "dims",
        multiple=True,
        callback=_dims,
        metavar="NAME=SIZE",
        help="Size of a symbolic dimension of those graphs.",
    ),
    click.option(
        "--checkpoint",
        metavar="FILE|NAME",
        shell_complete=checkpoints,
        help="The bundle's weights: for other variants, for baselines, and for float32 masks.",
    ),
)


def _comparison_options(command: F) -> F:
    """Adds the options of the work and of the systems."""
    for option in reversed((*_WORK, *_SYSTEMS)):
        command = option(command)
    return command


@click.command("bench", cls=ReportCommand)
@click.argument("bundle", type=_FILE, shell_complete=bundles)
@_comparison_options
@click.option("--plot", type=_FILE, help="Draw the report (.png, .svg or .pdf).")
@click.option("--compare", "old", type=_FILE, help="An earlier report: print new / old ratios.")
@report_options
def bench(
    bundle: Path,
    plot: Path | None,
    old: Path | None,
    report: Path | None,
    console: Console,
    **asked: Any,
) -> None:
    """Time a bundle per stage and end to end, beside other systems.

    All do the same work. Every system is a process of its own, and each takes one frame in
    rotation.
    """
    before = read_report(old) if old else None
    if plot is not None:
        from ...benchmarks.speed.plot import check_plot

        check_plot(plot)
    for target in (report, plot):
        if target is not None:
            check_file_target(target)
    loaded = Bundle.load(bundle)
    with console.progress() as progress:
        measured = bench_bundle(loaded, _request(loaded, asked), progress)
    compared = [compare(measured, before)] if before is not None else []
    console.answer([table(measured), *compared], measured.as_dict())
    _save(measured, report, plot)


def _save(report: BenchReport, path: Path | None, plot: Path | None) -> None:
    if path is not None:
        write_json(report.as_dict(), path)
    if plot is not None:
        from ...benchmarks.speed.plot import draw

        draw(report, plot)


def _request(bundle: Bundle, asked: dict[str, Any]) -> Request:
    names = ("objects", "memories", "pointers", "threads", "video", "scored_frames")
    work = {name: asked.pop(name) for name in names}
    if work["video"] is not None:
        work["frame_size"] = video_size(work["video"])
    ablations = asked.pop("ablations")
    chosen = possible_ablations(bundle) if "all" in ablations else ablations
    return Request(Work(**work), ablations=chosen, **asked)


COMMANDS: list[click.Command] = [bench]
