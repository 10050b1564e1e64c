"""Commands that make, check and describe bundles."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import click

from ..configs.bundle import Bundle, Precision, check_bundle_target
from ..configs.errors import MissingExtraError
from ..configs.graphs import TensorSpec
from ..runtime.console import THREADS, Progress, session_options


@click.command("export", no_args_is_help=True)
@click.argument("checkpoint")
@click.option(
    "-o", "--output", "target", required=True, type=click.Path(path_type=Path),
    help="Folder of the bundle; a bundle there is replaced.",
)  # fmt: skip
@click.option("--model", help="Which model it is, instead of recognising it.")
@click.option("--image-size", type=int, help="Side of the model's input, pixels.")
@click.option(
    "--precision", type=click.Choice(get_args(Precision)), default="fp32", show_default=True
)
@click.option("--opset", type=int, help="ONNX operator set.  [default: 20]")
@click.option("--engine-forms", is_flag=True, help="Add the forms that 'build' chooses from.")
@click.option("--threads", type=THREADS, help="CPU threads of the proof.")
@click.option("--seed", type=click.IntRange(0), help="Fixes the proof's inputs.  [default: fresh]")
def export(
    checkpoint: str, target: Path, model: str | None, image_size: int | None,
    precision: Precision, opset: int | None, engine_forms: bool, threads: int | None,
    seed: int | None,
) -> None:  # fmt: skip
    """Make a bundle from a checkpoint, and prove it.

    CHECKPOINT is a file or folder (original or Hugging Face layout), an official name such as
    sam2.1_hiera_tiny, or a hub id such as facebook/sam2.1-hiera-tiny.
    """
    # told before the weights are fetched and read
    check_bundle_target(target)
    try:
        from .bundle import check_export, export_bundle
        from .checkpoints import load_checkpoint
    except ModuleNotFoundError as error:
        raise MissingExtraError("export", error.name or "torch", "export") from None
    check_export(image_size, precision, opset, engine_forms)
    with Progress() as progress:
        loaded = load_checkpoint(checkpoint, model=model, image_size=image_size, progress=progress)
        bundle = export_bundle(
            loaded, target, precision=precision, opset=opset, for_engines=engine_forms,
            threads=threads, seed=seed, progress=progress,
        )  # fmt: skip
    click.echo(f"{bundle.model.name}, {bundle.model.image_size} pixels, {bundle.precision}")
    click.echo("\n".join(proof_lines(bundle.proof)))
    click.echo(f"written to {target}")


@click.command("verify", no_args_is_help=True)
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--checkpoint", help="Compare with it on fresh inputs; needs the extra 'export'.")
@session_options
def verify(
    path: Path, checkpoint: str | None, backend: str, device: str, threads: int | None
) -> None:
    """Prove a bundle again, on the backend and device at hand."""
    from .verify import verify_bundle

    with Progress() as progress:
        try:
            outcome = verify_bundle(
                path, checkpoint, backend=backend, device=device, threads=threads,
                progress=progress,
            )  # fmt: skip
        except ModuleNotFoundError as error:
            package = error.name or "torch"
            raise MissingExtraError("verify --checkpoint", package, "export") from None
    click.echo("\n".join(proof_lines(outcome)))


@click.command("inspect", no_args_is_help=True)
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path))
def inspect(path: Path) -> None:
    """Check a bundle's files and print what it holds."""
    click.echo("\n".join(bundle_lines(Bundle.load(path))))


@click.command("download", no_args_is_help=True)
@click.argument("name")
@click.option(
    "-o", "--output", "folder", type=click.Path(path_type=Path, file_okay=False),
    help="Folder to put it in.  [default: the user's cache]",
)  # fmt: skip
def download(name: str, folder: Path | None) -> None:
    """Fetch a checkpoint: an official name or a hub id; resumed and checked."""
    from .download import download_checkpoint, sha256_of

    with Progress() as progress:
        path = download_checkpoint(name, folder=folder, progress=progress)
    click.echo(f"{path}\nsha256 {sha256_of(path)}")


def bundle_lines(bundle: Bundle) -> Iterator[str]:
    """What ``sam2rt inspect`` prints: model, graphs with shapes and sizes, the proof."""
    model = bundle.model
    yield f"model       {model.name} (SAM {model.family}), {model.image_size} pixels"
    yield f"precision   {bundle.precision}, opset {bundle.opset}"
    yield f"checkpoint  sha256 {bundle.checkpoint_sha256}"
    yield f"made by     {bundle.generator}"
    for name, entry in bundle.graphs.items():
        beside = "".join(f" + {file.path}" for file in entry.external)
        yield f"\n{name}  {_size(entry.file.size)}{beside}"
        for arrow, tensors in (("<-", entry.spec.inputs), ("->", entry.spec.outputs)):
            yield from (f"  {arrow} {_tensor(t)}" for t in tensors)
    yield ""
    size = sum(file.size for file in bundle.files())
    yield f"{_size(size)} in all"
    yield ""
    yield from proof_lines(bundle.proof)


def _size(count: int) -> str:
    return f"{count / 1e6:.1f} MB" if count >= 1e6 else f"{count / 1e3:.0f} kB"


def _tensor(tensor: TensorSpec) -> str:
    shape = ", ".join(map(str, tensor.shape))
    return f"{tensor.name:<18} {tensor.dtype:<8} [{shape}]"


def proof_lines(proof: Mapping[str, Any]) -> Iterator[str]:
    """A proof's outcome as a table; what was emulated or not compared is said."""
    emulated = ", rounding emulated in float32" if proof["emulated"] else ""
    where = f"{proof['backend']} {proof['device']}{emulated}"
    yield f"proof       {proof['status']} on {where}, seed {proof['seed']}"
    yield f"  {'output':<36} {'largest difference':>18} {'mean':>9} {'scale':>9} {'cosine':>10}"
    for name, row in proof["outputs"].items():
        yield (
            f"  {name:<36} {row['max']:>18.2e} {row['mean']:>9.1e} {row['scale']:>9.3g} "
            f"{row['cosine']:>10.7f}"
        )
    clip = proof["clip"]
    yield (
        f"  clip of {proof['frames']} frames: lowest mask IoU {clip['lowest_iou']:.4f}, "
        f"{clip['compared']} of {clip['results']} results compared, {proof['flips']} other masks "
        f"chosen, {proof['presence_flips']} objects lost or found"
    )
    bounds = proof["bounds"]
    yield (
        f"  bounds: {bounds['relative']:g} of the scale, cosine {bounds['cosine']:g}, "
        f"IoU {bounds['iou']:g}"
    )


COMMANDS: list[click.Command] = [export, verify, inspect, download]
