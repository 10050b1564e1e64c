"""Commands that make, check and describe bundles."""

from __future__ import annotations

import click

COMMANDS: list[click.Command] = []
