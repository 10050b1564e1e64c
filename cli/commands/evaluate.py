"""The command ``sam2rt eval``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

import click

from ...benchmarks.evaluation.datasets import LAYOUTS, Dataset, Layout, check_ids, open_dataset
from ...benchmarks.evaluation.evaluate import SpreadVideos, evaluate, evaluate_to_file, parts_folder
from ...benchmarks.evaluation.job import BundleOpener, Job, ProtocolName, Settings
from ...benchmarks.evaluation.protocols import PromptKind
from ...benchmarks.evaluation.report import table
from ...benchmarks.evaluation.synthetic_dataset import synthetic_dataset
from ...configs.bundle import Bundle
from ...configs.errors import InputError
from ...configs.progress import Progress
from ...configs.systems import usable_cores
from ...runtime.predictors.pretrained import pretrained_bundle
from ..completion import bundles, name_or_folder, one_of
from ..console import Console
from ..options import ReportCommand, report_options, session_options

if TYPE_CHECKING:
    from ...benchmarks.synthetic.clips import Level

#: what is evaluated when no bundle is named
BUILT_IN = "sam2rt_micro"
#: processes unless said otherwise: each holds a model of its own
_MOST_PROCESSES = 8


@click.command("eval", cls=ReportCommand, no_args_is_help=True)
@click.argument("dataset", shell_complete=name_or_folder("synthetic"))
@click.option(
    "--bundle",
    "path",
    type=click.Path(path_type=Path),
    shell_complete=bundles,
    help="Folder made by 'sam2rt export'.  [default: the built-in model]",
)
@click.option(
    "--protocol",
    type=click.Choice(get_args(ProtocolName)),
    default="semi-supervised",
    show_default=True,
    help="How objects are prompted.",
)
@click.option(
    "--prompt",
    type=click.Choice(get_args(PromptKind)),
    help="Prompt on an object's first frame.  [default: mask; synthetic: click]",
)
@click.option(
    "--clicks",
    type=click.IntRange(1),
    default=3,
    show_default=True,
    help="Interactive: clicks a frame.",
)
@click.option(
    "--rounds",
    type=click.IntRange(1),
    default=8,
    show_default=True,
    help="Interactive: frames clicked on.",
)
@click.option(
    "--masks",
    "masks_folder",
    type=click.Path(path_type=Path),
    help="Write predictions to this folder.",
)
@click.option(
    "--layout", type=click.Choice(LAYOUTS), help="Layout of the folder.  [default: recognised]"
)
@click.option("--subset", default="val", show_default=True, help="DAVIS: which list of videos.")
@click.option("--video", "videos", multiple=True, help="Only this one; may be repeated.")
@click.option(
    "--level",
    default="standard",
    show_default=True,
    shell_complete=one_of("plain", "standard", "hard"),
    help="Synthetic: how hard clips are (plain, standard or hard).",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Synthetic: fixes the clips.",
)
@click.option(
    "--clips",
    type=click.IntRange(1),
    default=20,
    show_default=True,
    help="Synthetic: number of clips.",
)
@click.option(
    "--frames",
    type=click.IntRange(3),
    default=30,
    show_default=True,
    help="Synthetic: frames of a clip.",
)
@click.option(
    "--processes",
    type=click.IntRange(1),
    help="Videos worked on at a time.  [default: one a core on the CPU, else 1]",
)
@click.option(
    "--ray",
    metavar="ADDRESS",
    help="Evaluate on this cluster of Ray: host:port, auto, or local for one on this machine.",
)
@session_options
@report_options
def eval_command(
    dataset: str,
    path: Path | None,
    protocol: ProtocolName,
    prompt: PromptKind | None,
    clicks: int,
    rounds: int,
    masks_folder: Path | None,
    processes: int | None,
    ray: str | None,
    backend: str,
    device: str,
    threads: int | None,
    report: Path | None,
    console: Console,
    **videos: Any,
) -> None:
    """Measure J&F on a dataset.

    DATASET is a folder in the layout of DAVIS 2017, MOSE, SA-V or LVOS, or 'synthetic' for clips
    drawn here. Semi-supervised: every object is prompted on its first frame. Interactive, offline
    or online: clicks are simulated where the result is wrong. With --json FILE an interrupted run
    goes on when it is repeated.
    """
    synthetic = dataset == "synthetic"
    _refuse_idle_options(click.get_current_context(), synthetic, protocol)
    data = _dataset(dataset, **videos)
    usual: PromptKind = "click" if synthetic else "mask"
    settings = Settings(protocol, prompt or usual, clicks, rounds, masks_folder)
    for note in check_ids(data, written=masks_folder is not None):
        console.warn(note)
    with console.progress() as progress:
        progress("loading the bundle")
        bundle = Bundle.load(path) if path else pretrained_bundle(BUILT_IN)
        count, share = _processes(processes, device, len(data.videos))
        opener = BundleOpener(bundle.path, backend, device, threads or (1 if ray else share))
        job = Job(data, opener, settings)
        spread = _on_ray(job, ray, processes, threads, device)
        found = _evaluated(job, report, count, progress, spread)
    console.answer([table(found)], found)
    if report is not None:
        console.note(f"written to {report}")
    # of sets that annotate first frames alone predictions are made, to be scored elsewhere
    if found["J&F"] is None and masks_folder is None:
        raise InputError(
            "nothing was scored: annotate objects (ids 1 to 254) on more frames than their first, "
            "or write predictions with --masks"
        )


def _dataset(
    dataset: str,
    layout: Layout | None,
    subset: str,
    videos: tuple[str, ...],
    level: Level,
    seed: int,
    clips: int,
    frames: int,
) -> Dataset:
    if dataset == "synthetic":
        return synthetic_dataset(level, seed, clips, frames)
    return open_dataset(Path(dataset), layout, subset=subset, only=videos)


def _evaluated(
    job: Job,
    json_path: Path | None,
    processes: int,
    progress: Progress,
    spread: SpreadVideos | None,
) -> dict[str, Any]:
    try:
        if json_path is None:
            return evaluate(job, processes=processes, progress=progress, spread=spread)
        return evaluate_to_file(
            job, json_path, processes=processes, progress=progress, spread=spread
        )
    except KeyboardInterrupt:
        _say_what_is_kept(json_path, len(job.dataset.videos))
        raise


def _on_ray(
    job: Job, address: str | None, workers: int | None, threads: int | None, device: str
) -> SpreadVideos | None:
    """Evaluates videos on the cluster of that address; None where none is named."""
    if address is None:
        return None
    from ...benchmarks.evaluation.cluster import on_cluster

    return lambda todo: on_cluster(job, todo, address, workers, threads or 1, device)


def _refuse_idle_options(ctx: click.Context, synthetic: bool, protocol: ProtocolName) -> None:
    """Refuse an option that would have no effect on what is evaluated."""
    interactive = protocol != "semi-supervised"
    idle = {
        "videos": (synthetic, "synthetic clips", "a folder's videos"),
        "layout": (synthetic, "synthetic clips", "a folder"),
        "subset": (synthetic, "synthetic clips", "a folder"),
        "level": (not synthetic, "a folder", "'synthetic'"),
        "seed": (not synthetic, "a folder", "'synthetic'"),
        "clips": (not synthetic, "a folder", "'synthetic'"),
        "frames": (not synthetic, "a folder", "'synthetic'"),
        "prompt": (interactive, f"the {protocol} protocol", "the semi-supervised one"),
        "clicks": (not interactive, "the semi-supervised protocol", "offline and online"),
        "rounds": (not interactive, "the semi-supervised protocol", "offline and online"),
    }
    for param in ctx.command.params:
        applies, here, there = idle.get(str(param.name), (False, "", ""))
        given = ctx.get_parameter_source(str(param.name)) is click.core.ParameterSource.COMMANDLINE
        if applies and given:
            ctx.fail(f"{param.opts[0]} has no effect on {here}: leave it out, it is for {there}")


def _processes(wanted: int | None, device: str, videos: int) -> tuple[int, int | None]:
    """How many processes, and the threads of each (None: the backend decides)."""
    if device != "cpu":
        return wanted or 1, None
    cores = usable_cores()
    count = min(wanted or min(cores, _MOST_PROCESSES), videos)
    return count, max(cores // count, 1)


def _say_what_is_kept(json_path: Path | None, videos: int) -> None:
    if json_path is None:
        return
    kept = len(list(parts_folder(json_path).glob("*.json")))
    click.echo(f"{kept} of {videos} videos are finished and kept; repeat to go on", err=True)


COMMANDS: list[click.Command] = [eval_command]
