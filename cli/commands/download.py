"""The command ``sam2rt download``."""

from __future__ import annotations

from pathlib import Path

import click

from ..progress_line import ProgressLine


@click.command("download", no_args_is_help=True)
@click.argument("name")
@click.option(
    "-o",
    "--output",
    "folder",
    type=click.Path(path_type=Path, file_okay=False),
    help="Folder to put it in.  [default: the user's cache]",
)
def download(name: str, folder: Path | None) -> None:
    """Fetch a checkpoint or a ready bundle; resumed and checked.

    NAME is an official name such as sam2.1_hiera_tiny, or USER/REPO on the Hugging Face hub, of
    which a bundle is taken if there is one. USER/REPO@REVISION names a branch, tag or commit.
    """
    from ...export.checkpoint.download import download_checkpoint
    from ...export.checkpoint.hub import download_bundle
    from ...export.checkpoint.official import hub_name
    from ...export.checkpoint.transfer import sha256_of

    with ProgressLine() as progress:
        bundle = None
        if hub_name(name) is not None:
            bundle = download_bundle(name, folder=folder, progress=progress)
        if bundle is not None:
            click.echo(f"{bundle.path}\nbundle of {bundle.model.name}, {bundle.precision}")
            return
        path = download_checkpoint(name, folder=folder, progress=progress)
    click.echo(f"{path}\nsha256 {sha256_of(path)}")


COMMANDS: list[click.Command] = [download]
