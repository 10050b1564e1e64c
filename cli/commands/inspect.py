"""The command ``sam2rt inspect``."""

from __future__ import annotations

from pathlib import Path

import click

from ...configs.bundle import Bundle
from ..completion import bundles
from ..describe import bundle_lines


@click.command("inspect", no_args_is_help=True)
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path), shell_complete=bundles)
def inspect(path: Path) -> None:
    """Check a bundle's files and print what it holds."""
    click.echo("\n".join(bundle_lines(Bundle.load(path))))


COMMANDS: list[click.Command] = [inspect]
