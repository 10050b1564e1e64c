"""The command ``sam2rt download``."""

from __future__ import annotations

from pathlib import Path

import click

from ..completion import checkpoints
from ..console import Console
from ..options import console_options


@click.command("download", no_args_is_help=True)
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
    """Fetch a checkpoint by its official name or hub id.

    What was begun is resumed, and what is fetched is checked.
    """
    from ...export.checkpoint.download import download_checkpoint
    from ...export.checkpoint.transfer import sha256_of

    with console.progress() as progress:
        path = download_checkpoint(name, folder=folder, progress=progress)
    sha256 = sha256_of(path)
    console.answer([str(path), f"sha256 {sha256}"], {"path": str(path), "sha256": sha256})


COMMANDS: list[click.Command] = [download]
