"""The command ``sam2rt verify``."""

from __future__ import annotations

from pathlib import Path

import click

from ...configs.bundle import Bundle
from ...configs.extras import extras_of
from ..completion import bundles, checkpoints
from ..console import Console
from ..describe import proof_lines, usable_document, usable_lines
from ..options import console_options, session_options


@click.command("verify", no_args_is_help=True)
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path), shell_complete=bundles)
@click.option(
    "--checkpoint",
    shell_complete=checkpoints,
    help="Compare with it on fresh inputs; needs the extra 'export'.",
)
@click.option(
    "--seed",
    type=click.IntRange(0),
    help="Fixes the inputs of --checkpoint.  [default: fresh]",
)
@session_options
@console_options
def verify(
    path: Path,
    checkpoint: str | None,
    seed: int | None,
    backend: str,
    device: str,
    threads: int | None,
    console: Console,
) -> None:
    """Prove a bundle again, on the backend and device at hand."""
    from ...export.verify import verify_bundle

    if seed is not None and checkpoint is None:
        raise click.UsageError(
            "--seed has no effect on the bundle's own record: leave it out, it is for --checkpoint",
            click.get_current_context(),
        )
    with console.progress() as progress, extras_of("verify --checkpoint"):
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
    bundle = Bundle.load(path, check_hashes=False)
    lines = [*proof_lines(outcome), *usable_lines(bundle)]
    console.answer(lines, {**outcome, "runs_on": usable_document(bundle)})


COMMANDS: list[click.Command] = [verify]
