"""The command ``sam2rt verify``."""

from __future__ import annotations

from pathlib import Path

import click

from ...configs.bundle import Bundle
from ...configs.extras import extras_of
from ..describe import proof_lines, usable_lines
from ..options import session_options
from ..progress_line import ProgressLine


@click.command("verify", no_args_is_help=True)
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path))
@click.option("--checkpoint", help="Compare with it on fresh inputs; needs the extra 'export'.")
@click.option(
    "--seed",
    type=click.IntRange(0),
    help="Fixes the inputs of --checkpoint.  [default: fresh]",
)
@session_options
def verify(
    path: Path,
    checkpoint: str | None,
    seed: int | None,
    backend: str,
    device: str,
    threads: int | None,
) -> None:
    """Prove a bundle again, on the backend and device at hand."""
    from ...export.verify import verify_bundle

    if seed is not None and checkpoint is None:
        raise click.UsageError(
            "--seed has no effect on the bundle's own record: leave it out, it is for --checkpoint",
            click.get_current_context(),
        )
    with ProgressLine() as progress, extras_of("verify --checkpoint"):
        outcome = verify_bundle(
            path,
            checkpoint,
            backend=backend,
            device=device,
            threads=threads,
            seed=seed,
            progress=progress,
        )
    # the proof may have been of graphs that stand in for the bundle's
    places = usable_lines(Bundle.load(path, check_hashes=False))
    click.echo("\n".join([*proof_lines(outcome), *places]))


COMMANDS: list[click.Command] = [verify]
