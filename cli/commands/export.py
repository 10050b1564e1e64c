"""Commands that make, check and describe bundles."""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import click

from ...configs.bundle import Precision, check_bundle_target
from ...configs.extras import extras_of
from ..completion import checkpoints, models
from ..console import Console
from ..describe import NAMES, bundle_document, proof_lines, usable_lines
from ..options import THREADS, console_options


@click.command("export", no_args_is_help=True, epilog=NAMES)
@click.argument("checkpoint", shell_complete=checkpoints)
@click.option(
    "-o",
    "--output",
    "target",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder of the bundle; a bundle there is replaced.",
)
@click.option(
    "--model", shell_complete=models, help="Which model it is, instead of recognising it."
)
@click.option("--image-size", type=int, help="Side of the model's input, pixels.")
@click.option(
    "--precision",
    type=click.Choice(get_args(Precision)),
    default="fp32",
    show_default=True,
    help="What the graphs compute in; int8 is for CPUs.",
)
@click.option("--opset", type=int, help="ONNX operator set.  [default: 20]")
@click.option("--engine-variants", is_flag=True, help="Add the variants that 'build' chooses from.")
@click.option(
    "--cpu-variants",
    is_flag=True,
    help="With bf16 or int8, add what ONNX Runtime runs on CPUs with bfloat16 units.",
)
@click.option("--threads", type=THREADS, help="CPU threads of the proof.")
@click.option("--seed", type=click.IntRange(0), help="Fixes the proof's inputs.  [default: fresh]")
@console_options
def export(
    checkpoint: str,
    target: Path,
    model: str | None,
    image_size: int | None,
    precision: Precision,
    opset: int | None,
    engine_variants: bool,
    cpu_variants: bool,
    threads: int | None,
    seed: int | None,
    console: Console,
) -> None:
    """Make a bundle from a checkpoint, and prove it.

    CHECKPOINT is a file or folder (original or Hugging Face layout), an official name such as
    sam2.1_hiera_tiny, or a hub id such as facebook/sam2.1-hiera-tiny.
    """
    # reported before the weights are fetched and read
    check_bundle_target(target)
    with extras_of("export"):
        from ...export.bundle import check_export, export_bundle
        from ...export.checkpoint.download import download_size
        from ...export.checkpoint.load import load_checkpoint
    check_export(image_size, precision, opset, engine_variants, cpu_variants)
    console.announce_download(checkpoint, download_size(checkpoint))
    with console.progress() as progress:
        loaded = load_checkpoint(checkpoint, model=model, image_size=image_size, progress=progress)
        bundle = export_bundle(
            loaded,
            target,
            precision=precision,
            opset=opset,
            engine_variants=engine_variants,
            cpu_variants=cpu_variants,
            threads=threads,
            seed=seed,
            progress=progress,
        )
    title = f"{bundle.model.name}, {bundle.model.image_size} pixels, {bundle.precision}"
    console.answer(
        [title, *proof_lines(bundle.proof), *usable_lines(bundle)], bundle_document(bundle)
    )
    console.note(f"written to {target}")


COMMANDS: list[click.Command] = [export]
