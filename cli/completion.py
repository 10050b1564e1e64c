"""What the shell offers for values: bundles, checkpoints, devices, names.

click writes the script for the shell (``_SAM2RT_COMPLETE=bash_source sam2rt``) and asks the
command for candidates with the same variable; choices and files it knows itself.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path

import click
from click.shell_completion import CompletionItem, shell_complete

from ..configs.formats.manifest import MANIFEST
from ..configs.models import BUILT_IN, MODELS
from ..export.checkpoint.official import OFFICIAL

VARIABLE = "_SAM2RT_COMPLETE"
#: what click's options take as `shell_complete`
Completer = Callable[[click.Context, click.Parameter, str], list[CompletionItem]]


def asked_by_shell(group: click.Group, name: str) -> int | None:
    """Answer the shell and give the exit code; None when no shell asks.

    click's own main() would do this; the command does not go through it.
    """
    instruction = os.environ.get(VARIABLE)
    return shell_complete(group, {}, name, VARIABLE, instruction) if instruction else None


def bundles(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Folders that hold a bundle; where there is none, folders on the way to one."""
    head, tail = os.path.split(incomplete)
    try:
        inside = sorted(Path(os.path.expanduser(head) or ".").iterdir())
    except OSError:
        inside = []
    found = [
        CompletionItem(os.path.join(head, path.name))
        for path in inside
        # the shell takes a line for a candidate
        if path.name.startswith(tail) and path.name.isprintable() and (path / MANIFEST).is_file()
    ]
    return found or [CompletionItem(incomplete, type="dir")]


def checkpoints(
    ctx: click.Context, param: click.Parameter, incomplete: str
) -> list[CompletionItem]:
    """Official names and the built-in one; files where none begins like that."""
    return _named([*OFFICIAL, BUILT_IN], incomplete) or [CompletionItem(incomplete, type="file")]


def models(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Names of models."""
    return _named(MODELS, incomplete)


def one_of(*names: str) -> Completer:
    """Names of which others are taken too."""
    return lambda ctx, param, incomplete: _named(names, incomplete)


def name_or_folder(name: str) -> Completer:
    """A name that stands for what else lies in a folder."""

    def complete(
        ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        return _named([name], incomplete) or [CompletionItem(incomplete, type="dir")]

    return complete


def _named(names: Iterable[str], incomplete: str) -> list[CompletionItem]:
    return [CompletionItem(name) for name in names if name.startswith(incomplete)]
