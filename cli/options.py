"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..runtime.backends.open import BACKENDS
from .completion import bundles, one_of

F = TypeVar("F", bound=Callable[..., Any])
#: more than any machine has use for; far more would not start, or hang
THREADS = click.IntRange(1, 1024)


def session_options(command: F) -> F:
    """Adds --backend, --device and --threads."""
    options = [
        click.option(
            "--backend",
            type=click.Choice(BACKENDS),
            default=BACKENDS[0],
            show_default=True,
            help="Library that runs the graphs.",
        ),
        click.option(
            "--device",
            default="cpu",
            show_default=True,
            shell_complete=one_of("cpu", "cuda", "tensorrt"),
            help="Where graphs run: cpu, cuda or tensorrt.",
        ),
        click.option("--threads", type=THREADS, help="CPU threads.  [default: all]"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def output_option(command: F) -> F:
    """Adds -o, the folder of the results."""
    return click.option(
        "-o",
        "--output",
        "out",
        required=True,
        type=click.Path(path_type=Path),
        help="Folder for the results; an earlier result there is replaced.",
    )(command)


def bundle_option(command: F) -> F:
    """Adds --bundle, loaded and checked."""
    return click.option(
        "--bundle",
        "path",
        required=True,
        type=click.Path(path_type=Path),
        shell_complete=bundles,
        help="Folder made by 'sam2rt export'.",
    )(command)
