"""The command ``sam2rt masks``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from ...configs.bundle import Bundle
from ...configs.errors import InputError
from ..options import bundle_option, output_option, session_options
from ..progress_line import ProgressLine

_SHARE = click.FloatRange(0, 1)


@click.command("masks", no_args_is_help=True)
@click.argument("image", type=click.Path(path_type=Path))
@bundle_option
@click.option(
    "--points-per-side", type=click.IntRange(1, 256), default=32, show_default=True,
    help="Points along one side of the grid.",
)  # fmt: skip
@click.option(
    "--points-per-batch", type=click.IntRange(1), default=64, show_default=True,
    help="Points decoded together.",
)  # fmt: skip
@click.option(
    "--pred-iou-thresh", type=_SHARE, default=0.8, show_default=True,
    help="Predicted quality a mask has to exceed.",
)  # fmt: skip
@click.option(
    "--stability-score-thresh", type=_SHARE, default=0.95, show_default=True,
    help="Stability a mask has to reach.",
)  # fmt: skip
@click.option(
    "--box-nms-thresh", type=_SHARE, default=0.7, show_default=True,
    help="Of two masks whose boxes overlap more the better one stays.",
)  # fmt: skip
@click.option(
    "--crop-n-layers", type=click.IntRange(0, 5), default=0, show_default=True,
    help="Look again in 4, then 16, ... crops.",
)  # fmt: skip
@click.option(
    "--crop-n-points-downscale-factor", type=click.IntRange(1), default=1, show_default=True,
    help="Each layer's grid has as many times fewer points a side.",
)  # fmt: skip
@click.option(
    "--min-mask-region-area", type=click.IntRange(0), default=0, show_default=True,
    help="Fill holes and remove islands of so many low-resolution pixels.",
)  # fmt: skip
@click.option("--use-m2m", is_flag=True, help="Refine each mask once by itself.")
@click.option("--single", is_flag=True, help="One mask a point instead of three.")
@click.option("--no-masks", is_flag=True, help="Write no PNG of each mask.")
@output_option
@session_options
def masks(
    image: Path, path: Path, single: bool, no_masks: bool, out: Path,
    backend: str, device: str, threads: int | None, **settings: Any,
) -> None:  # fmt: skip
    """Find the masks of everything in an image, without prompts."""
    from ...runtime.tasks.masks import write_image_masks

    _check_grids(settings)
    settings["multimask_output"] = not single
    with ProgressLine() as progress:
        records = write_image_masks(
            Bundle.load(path), image, out, settings=settings, write_masks=not no_masks,
            backend=backend, device=device, threads=threads, progress=progress,
        )  # fmt: skip
    click.echo(f"{len(records)} masks written to {out}")
    if not records:
        click.echo("for more, lower --pred-iou-thresh and --stability-score-thresh")


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
