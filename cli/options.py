"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar, cast

import click

from ..runtime.backends.open import BACKENDS
from .completion import bundles, one_of
from .console import Console

F = TypeVar("F", bound=Callable[..., Any])
#: more than any machine has use for; far more would not start, or hang
THREADS = click.IntRange(1, 1024)
#: the name of standard output where a file could be named
STDOUT = "-"
#: where the server listens unless told otherwise
PORT = 8765
_QUIET = click.option(
    "-q", "--quiet", is_flag=True, help="Leave out progress and notes; the answer stays."
)


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
            shell_complete=one_of("cpu", "cuda", "tensorrt", "gpu", "npu"),
            help="Where graphs run: cpu, cuda or tensorrt; with openvino cpu, gpu or npu.",
        ),
        click.option("--threads", type=THREADS, help="CPU threads.  [default: all]"),
    ]
    for option in reversed(options):
        command = option(command)
    return command


def limit_option(name: str, default: int, help_text: str) -> Callable[[F], F]:
    """An option of a whole number from 1, whose default stands in the help."""
    return click.option(
        name, type=click.IntRange(1), default=default, show_default=True, help=help_text
    )


def console_options(command: F) -> F:
    """Adds --json and -q; the command gets its :class:`Console` as `console`."""

    @click.option("--json", "as_json", is_flag=True, help="Print the answer as one JSON document.")
    @_QUIET
    @wraps(command)
    def called(*given: Any, as_json: bool, quiet: bool, **named: Any) -> Any:
        return command(*given, console=Console(as_json, quiet), **named)

    return cast(F, called)


class ReportCommand(click.Command):
    """A command with :func:`report_options`, whose ``--json`` may take what stands after it."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        try:
            return super().parse_args(ctx, args)
        except click.MissingParameter as missing:
            taken = ctx.params.get("target")
            if taken in (None, STDOUT):
                raise
            ctx.fail(
                f"{missing.format_message()} {str(taken)!r} was taken as the file of --json: name "
                "--json last, or write --json -"
            )


def report_options(command: F) -> F:
    """As :func:`console_options`, but --json may name a file, given as `report` (else None)."""

    @click.option(
        "--json",
        "target",
        is_flag=False,
        flag_value=STDOUT,
        type=click.Path(),
        metavar="[FILE]",
        help="Write the report to FILE; without FILE, or with -, print it as one JSON document.",
    )
    @_QUIET
    @wraps(command)
    def called(*given: Any, target: str | None, quiet: bool, **named: Any) -> Any:
        report = None if target in (None, STDOUT) else Path(str(target))
        return command(*given, report=report, console=Console(target == STDOUT, quiet), **named)

    return cast(F, called)


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
