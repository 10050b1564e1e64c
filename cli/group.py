"""The group ``sam2rt``: every command, listed in the order of the work."""

from __future__ import annotations

import click

from ..configs.version import VERSION
from .commands import (
    accuracy,
    bench,
    build,
    demo,
    download,
    evaluate,
    export,
    inspect,
    machine,
    masks,
    segment,
    track,
    train,
    verify,
)
from .commands.serving import many, serve, triton

#: from checkpoint to bundle to engines; from bundle to masks; training; measuring; the rest
_MODULES = (
    *(download, export, verify, inspect, build),
    *(segment, masks, track, many, serve, triton),
    *(train, evaluate, accuracy, bench),
    *(demo, machine),
)


#: what 'sam2rt' alone shows: the way, a command and an example each
START = """SAM 2 in production. The way, with an example each:

  see it work           sam2rt demo
  make a bundle         sam2rt export sam2.1_hiera_tiny -o bundle
  segment an image      sam2rt segment photo.jpg --bundle bundle --point 320,180 -o segmented
  track through video   sam2rt track clip.mp4 --bundle bundle --point 420,260 -o tracked
  prove it once more    sam2rt verify bundle

'sam2rt export sam2rt_micro -o bundle' needs no download: a toy model, for a first try.
'sam2rt doctor' says what this machine can run.
All commands: 'sam2rt -h'. One of them, with the names of models: 'sam2rt export -h'."""


class _InOrder(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """As they were added; click would sort them by name."""
        return list(self.commands)


@click.pass_context
def _start(context: click.Context) -> None:
    """Where no command is named, show the way."""
    if context.invoked_subcommand is None:
        click.echo(START)


def make_group() -> click.Group:
    """The group with its commands."""
    group = _InOrder(
        "sam2rt",
        help="SAM 2 in production: export with proof, segment and track without torch.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
        callback=_start,
        invoke_without_command=True,
    )
    click.version_option(VERSION, prog_name="sam2rt")(group)
    for module in _MODULES:
        for command in module.COMMANDS:
            group.add_command(command)
    return group
