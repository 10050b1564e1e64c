"""The command ``sam2rt triton``."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import click

from ....configs.bundle import Bundle
from ....configs.extras import extras_of
from ...completion import bundles
from ...console import Console
from ...options import console_options, limit_option, output_option, session_options

#: megabytes as options count them
_MB = 1 << 20


@click.command("triton", no_args_is_help=True)
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path), shell_complete=bundles)
@output_option
@click.option(
    "--task",
    "tasks",
    multiple=True,
    type=click.Choice(["image", "stream", "video"]),
    help="A model to write; may be given again.  [default: all]",
)
@click.option(
    "--at",
    type=click.Path(path_type=Path),
    help="Where the server finds the bundle, as in a container.  [default: BUNDLE]",
)
@click.option(
    "--gpu",
    "gpus",
    multiple=True,
    type=click.IntRange(0),
    help="Number of a GPU for an instance; may be given again.  [default: all]",
)
@limit_option("--max-sessions", 64, "Streams at once, an instance.")
@limit_option("--max-objects", 32, "Objects of a stream, clip or image.")
@limit_option("--max-frames", 20_000, "Frames of a clip.")
@limit_option("--max-upload", 1024, "MB of a clip.")
@limit_option("--idle", 300, "Seconds after which a stream without a frame ends.")
@session_options
@console_options
def triton(
    path: Path,
    out: Path,
    tasks: tuple[str, ...],
    at: Path | None,
    gpus: tuple[int, ...],
    max_sessions: int,
    max_objects: int,
    max_frames: int,
    max_upload: int,
    idle: int,
    backend: str,
    device: str,
    threads: int | None,
    console: Console,
) -> None:
    """Write a model repository for Triton Inference Server.

    Its Python backend runs the models; the server's Python needs sam2rt. The bundle stays where it
    is.
    """
    with extras_of("sam2rt triton"):
        from ....serving.sessions.limits import ServerLimits
        from ....serving.triton.repository import TASKS, RepositoryOptions, write_repository
    bundle = Bundle.load(path)
    limits = dataclasses.replace(
        ServerLimits(),
        sessions=max_sessions,
        objects=max_objects,
        frames=max_frames,
        upload_bytes=max_upload * _MB,
        idle_seconds=idle,
    )
    options = RepositoryOptions(
        tasks=tasks or tuple(TASKS),
        at=at,
        backend=backend,
        device=device,
        threads=threads,
        gpus=gpus,
        limits=limits,
    )
    mark = write_repository(bundle, out, options)
    if backend == "tensorrt" and not (bundle.path / "engines").is_dir():
        console.warn("the bundle has no engines yet: run 'sam2rt build' on the server's machine")
    names = ", ".join(mark["models"])
    document = {"repository": str(out), "bundle": mark["bundle"], "models": mark["models"]}
    console.answer([f"{out}: {names}", f"tritonserver --model-repository={out}"], document)


COMMANDS: list[click.Command] = [triton]
