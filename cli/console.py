"""What a command says: its answer on stdout; notes, and progress, beside it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

import click

from ..configs.errors import printable
from .progress_line import ProgressLine


class Console:
    """Where a command's words go, as ``--json`` and ``--quiet`` ask.

    The answer goes to stdout, as lines of text or as one JSON document. Notes go there too, but
    to stderr beside JSON. Progress goes to stderr. quiet leaves out notes and progress. Words may
    come from names of files: what a terminal would obey is escaped here.
    """

    def __init__(self, as_json: bool = False, quiet: bool = False) -> None:
        self.as_json, self.quiet = as_json, quiet

    def progress(self) -> ProgressLine:
        """A line of progress for a ``with`` block."""
        return ProgressLine(quiet=self.quiet, tick=0.5)

    def note(self, text: str) -> None:
        """Say something a person may want to know, and a program does not."""
        if not self.quiet:
            click.echo(printable(text), err=self.as_json)

    def warn(self, text: str) -> None:
        """Say on stderr what may spoil the answer, unless quiet."""
        if not self.quiet:
            click.echo(printable(text), err=True)

    def announce_download(self, name: str, size: int | None) -> None:
        """Say on stderr how much is fetched, before it is; size: bytes, None for nothing known."""
        if size is not None:
            self.warn(f"{name}: {size / 1e6:.0f} MB to download, once")

    def answer(self, lines: Iterable[str], document: Any) -> None:
        """Give the answer: as these lines, or as this document."""
        # JSON escapes what is not ASCII by itself
        text = json.dumps(document, indent=1) if self.as_json else printable("\n".join(lines))
        click.echo(text)
