"""The command ``sam2rt download``."""

from __future__ import annotations

from pathlib import Path

import click

from ..completion import checkpoints
from ..console import Console
from ..describe import NAMES, bundle_document
from ..options import console_options


@click.command("download", no_args_is_help=True, epilog=NAMES)
@click.argument("name", shell_complete=checkpoints)
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to put it in.  [default: the user's cache]",
)
@console_options
def download(name: str, folder: Path | None, console: Console) -> None:
    """Fetch a checkpoint or a ready bundle; resumed and checked.

    NAME is an official name such as sam2.1_hiera_tiny, or USER/REPO on the Hugging Face hub, of
    which a bundle is taken if there is one. USER/REPO@REVISION names a branch, tag or commit.
    """
    from ...export.checkpoint.download import download_checkpoint, download_size
    from ...export.checkpoint.hub import download_bundle
    from ...export.checkpoint.official import hub_name
    from ...export.checkpoint.transfer import sha256_of

    console.announce_download(name, download_size(name, folder=folder))
    with console.progress() as progress:
        bundle = None
        if hub_name(name) is not None:
            bundle = download_bundle(name, folder=folder, progress=progress)
        if bundle is not None:
            title = f"bundle of {bundle.model.name}, {bundle.precision}"
            console.answer([str(bundle.path), title], bundle_document(bundle))
            return
        path = download_checkpoint(name, folder=folder, progress=progress)
    sha256 = sha256_of(path)
    console.answer([str(path), f"sha256 {sha256}"], {"path": str(path), "sha256": sha256})


COMMANDS: list[click.Command] = [download]
