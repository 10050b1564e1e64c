"""Commands that run a bundle, and what every command shares: options, prompts, progress."""

from __future__ import annotations

import click

COMMANDS: list[click.Command] = []
