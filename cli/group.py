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
from .commands.serving import serve

#: from checkpoint to bundle to engines; from bundle to masks; training; measuring; the rest
_MODULES = (
    *(download, export, verify, inspect, build),
    *(segment, masks, track, serve),
    *(train, evaluate, accuracy, bench),
    *(demo, machine),
)


class _InOrder(click.Group):
    def list_commands(self, ctx: click.Context) -> list[str]:
        """As they were added; click would sort them by name."""
        return list(self.commands)


def make_group() -> click.Group:
    """The group with its commands."""
    group = _InOrder(
        "sam2rt",
        help="SAM 2 in production: export with proof, segment and track without torch.",
        epilog="Exit codes: 0 done, 1 failed, 2 wrong usage, 130 interrupted, 143 terminated.",
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    click.version_option(VERSION, prog_name="sam2rt")(group)
    for module in _MODULES:
        for command in module.COMMANDS:
            group.add_command(command)
    return group
