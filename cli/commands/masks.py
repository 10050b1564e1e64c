"""The command ``sam2rt masks``."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import click

from ...configs.bundle import Bundle
from ...configs.errors import InputError
from ..console import Console
from ..options import bundle_option, console_options, output_option, session_options

F = TypeVar("F", bound=Callable[..., Any])
_SHARE = click.FloatRange(0, 1)


def _setting(
    name: str, kind: click.IntRange | click.FloatRange, default: float, text: str
) -> Callable[[F], F]:
    """An option of the generator."""
    return click.option(name, type=kind, default=default, show_default=True, help=text)


@click.command("masks", no_args_is_help=True)
@click.argument("image", type=click.Path(path_type=Path))
@bundle_option
@_setting("--points-per-side", click.IntRange(1, 256), 32, "Points along one side of the grid.")
@_setting("--points-per-batch", click.IntRange(1), 64, "Points decoded together.")
@_setting("--pred-iou-thresh", _SHARE, 0.8, "Predicted quality a mask has to exceed.")
@_setting("--stability-score-thresh", _SHARE, 0.95, "Stability a mask has to reach.")
@_setting(
    "--box-nms-thresh",
    _SHARE,
    0.7,
    "Of two masks whose boxes overlap more, the better one stays.",
)
@_setting("--crop-n-layers", click.IntRange(0, 5), 0, "Look again in 4, then 16, ... crops.")
@_setting(
    "--crop-n-points-downscale-factor",
    click.IntRange(1),
    1,
    "Each layer's grid has as many times fewer points a side.",
)
@_setting(
    "--min-mask-region-area",
    click.IntRange(0),
    0,
    "Fill holes and remove islands of so many low-resolution pixels.",
)
@click.option("--use-m2m", is_flag=True, help="Refine each mask once by itself.")
@click.option("--single", is_flag=True, help="One mask a point instead of three.")
@click.option("--no-masks", is_flag=True, help="Write no PNG of each mask.")
@output_option
@session_options
@console_options
def masks(
    image: Path,
    path: Path,
    single: bool,
    no_masks: bool,
    out: Path,
    backend: str,
    device: str,
    threads: int | None,
    console: Console,
    **settings: Any,
) -> None:
    """Find the masks of everything in an image, without prompts."""
    from ...runtime.tasks.masks import write_image_masks

    _check_grids(settings)
    settings["multimask_output"] = not single
    with console.progress() as progress:
        records = write_image_masks(
            Bundle.load(path),
            image,
            out,
            settings=settings,
            write_masks=not no_masks,
            backend=backend,
            device=device,
            threads=threads,
            progress=progress,
        )
    console.answer([f"{len(records)} masks written to {out}"], _document(records, out))
    if not records:
        console.note("for more, lower --pred-iou-thresh and --stability-score-thresh")


def _document(records: Sequence[Mapping[str, Any]], out: Path) -> dict[str, Any]:
    """The records without their run lengths, which lie in the folder."""
    masks = [
        {"id": number, **{k: v for k, v in record.items() if k != "segmentation"}}
        for number, record in enumerate(records, 1)
    ]
    return {"folder": str(out), "masks": masks}


def _check_grids(settings: dict[str, Any]) -> None:
    """Refuse crop layers without points, in the words of the options."""
    side, layers = settings["points_per_side"], settings["crop_n_layers"]
    factor = settings["crop_n_points_downscale_factor"]
    for layer in range(1, layers + 1):
        if side < factor**layer:
            raise InputError(
                f"crop layer {layer} would have 0 points a side, {side} divided by "
                f"{factor**layer}: raise --points-per-side to {factor**layers}, or lower "
                "--crop-n-points-downscale-factor or --crop-n-layers"
            )


COMMANDS: list[click.Command] = [masks]
