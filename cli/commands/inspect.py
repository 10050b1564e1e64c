"""The command ``sam2rt inspect``."""

from __future__ import annotations

from pathlib import Path

import click

from ...configs.bundle import Bundle
from ..completion import bundles
from ..console import Console
from ..describe import bundle_document, bundle_lines
from ..options import console_options


@click.command("inspect", no_args_is_help=True)
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path), shell_complete=bundles)
@console_options
def inspect(path: Path, console: Console) -> None:
    """Check a bundle's files and print what it holds."""
    bundle = Bundle.load(path)
    console.answer(bundle_lines(bundle), bundle_document(bundle))


COMMANDS: list[click.Command] = [inspect]
