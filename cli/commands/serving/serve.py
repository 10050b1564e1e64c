"""The command ``sam2rt serve``."""

from __future__ import annotations

from pathlib import Path

import click

from ....configs.bundle import Bundle
from ....configs.extras import extras_of
from ...completion import bundles
from ...console import Console
from ...options import PORT, console_options, limit_option, session_options

#: megabytes as options count them
_MB = 1 << 20


@click.command("serve", no_args_is_help=True)
@click.argument("path", metavar="BUNDLE", type=click.Path(path_type=Path), shell_complete=bundles)
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen on.")
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=PORT,
    show_default=True,
    help="Port to listen on; 0 for a free one.",
)
@click.option(
    "--token",
    envvar="SAM2RT_TOKEN",
    help="What clients have to send; needed beyond this machine. Also in SAM2RT_TOKEN.",
)
@click.option(
    "--root",
    type=click.Path(path_type=Path),
    help="Folder whose videos and images clients may name.  [default: none]",
)
@click.option(
    "--data",
    type=click.Path(path_type=Path),
    help="Folder that keeps uploads.  [default: a temporary one]",
)
@click.option(
    "--origin",
    "origins",
    multiple=True,
    help="A page of another host that may ask, such as http://localhost:5173.",
)
@click.option(
    "--api",
    "apis",
    multiple=True,
    type=click.Choice(["meta", "xanylabeling"]),
    help="An API beside our own: of Meta's web demo, or of the labelling tool X-AnyLabeling.",
)
@limit_option("--max-upload", 1024, "MB of a file.")
@limit_option("--max-frames", 20_000, "Frames of a video.")
@limit_option("--max-objects", 32, "Objects of a session.")
@limit_option("--max-sessions", 32, "Sessions and streams at once.")
@limit_option("--max-state", 8192, "MB that one session may remember.")
@limit_option("--idle", 1800, "Seconds after which a session that nobody asks for ends.")
@session_options
@console_options
def serve(
    path: Path,
    host: str,
    port: int,
    token: str | None,
    root: Path | None,
    data: Path | None,
    origins: tuple[str, ...],
    apis: tuple[str, ...],
    max_upload: int,
    max_frames: int,
    max_objects: int,
    max_sessions: int,
    max_state: int,
    idle: int,
    backend: str,
    device: str,
    threads: int | None,
    console: Console,
) -> None:
    """Serve a page to click on and an API, until Ctrl-C.

    Without --host only this machine can ask. Beyond it, a token is needed: choose a long one, and
    put a server with TLS in front.
    """
    with extras_of("sam2rt serve"):
        from ....serving.run import ServerOptions, serve_bundle
        from ....serving.sessions.limits import ServerLimits
    limits = ServerLimits(
        upload_bytes=max_upload * _MB,
        frames=max_frames,
        objects=max_objects,
        sessions=max_sessions,
        state_bytes=max_state * _MB,
        idle_seconds=idle,
    )
    options = ServerOptions(
        host=host,
        port=port,
        token=token,
        root=root,
        data=data,
        origins=origins,
        apis=apis,
        backend=backend,
        device=device,
        threads=threads,
        limits=limits,
    )

    def ready(address: str) -> None:
        shown = f"{address}/?token=TOKEN" if token else f"{address}/"
        console.answer([f"serving {path} at {shown}"], {"address": address})
        console.note("Ctrl-C ends it")

    serve_bundle(Bundle.load(path), options, ready)


COMMANDS: list[click.Command] = [serve]
