"""The commands that measure: speed and accuracy."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from ..configs.bundle import Bundle
from .bench import PEERS, bench_bundle, compare, read_json, table, write_json
from .systems import Work


@click.command("bench")
@click.argument("bundle", type=click.Path(path_type=Path))
@click.option("--objects", default=1, show_default=True, type=click.IntRange(1))
@click.option("--memories", default=7, show_default=True, type=click.IntRange(1))
@click.option("--pointers", default=16, show_default=True, type=click.IntRange(1))
@click.option("--frames", default=10, show_default=True, type=click.IntRange(1))
@click.option(
    "--peer",
    "peers",
    multiple=True,
    type=click.Choice(list(PEERS)),
    help="Measure this system on the same work in the same run.",
)
@click.option("--backend", default="onnxruntime", show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--threads", default=2, show_default=True, type=click.IntRange(1))
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Write the report.")
@click.option(
    "--compare",
    "old",
    type=click.Path(path_type=Path),
    help="An earlier report: print new / old ratios.",
)
def bench(
    bundle: Path, objects: int, memories: int, pointers: int, frames: int, peers: tuple[str, ...],
    backend: str, device: str, threads: int, json_path: Path | None, old: Path | None,
) -> None:  # fmt: skip
    """Time a bundle in the steady state, per stage, beside peers on the same work."""
    before = read_json(old) if old else None
    loaded = Bundle.load(bundle)
    work = Work(objects, memories, pointers, threads)
    show = sys.stderr.isatty()

    def progress(text: str) -> None:
        if show:
            click.echo(f"\r\033[K{text}", nl=False, err=True)

    data = bench_bundle(
        loaded, work, backend=backend, device=device, frames=frames, peers=peers, progress=progress
    )
    progress("")
    click.echo(table(data))
    if before is not None:
        click.echo(compare(data, before))
    if json_path is not None:
        write_json(data, json_path)


COMMANDS: list[click.Command] = [bench]
