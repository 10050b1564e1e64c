"""From a bundle and options to a server that runs: the story of ``sam2rt serve``."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ..configs.bundle import Bundle
from ..configs.errors import InputError
from ..runtime.backends.open import open_session
from .labelling.xanylabeling import xanylabeling_routes
from .meta.routes import meta_routes
from .sessions.limits import ServerLimits
from .web.app import make_app
from .web.security import Access
from .web.server import PageServer, opened_services, server_for


@dataclass(frozen=True)
class ServerOptions:
    """What ``sam2rt serve`` is told; see its help."""

    host: str = "127.0.0.1"
    port: int = 0
    token: str | None = None
    root: Path | None = None
    data: Path | None = None
    origins: tuple[str, ...] = ()
    apis: tuple[str, ...] = ()
    backend: str = "onnxruntime"
    device: str = "cpu"
    threads: int | None = None
    limits: ServerLimits = field(default_factory=ServerLimits)


def serve_bundle(bundle: Bundle, options: ServerOptions, ready: Callable[[str], None]) -> None:
    """Serve a bundle until a signal comes; `ready` gets the address once requests are taken.

    Raises InputError for a host without a token, a port or folder that is taken.
    """
    access = Access.of(options.host, options.token, options.origins)
    with (
        listening(options.host, options.port) as listener,
        open_session(bundle, options.backend, options.device, options.threads) as session,
        opened_services(
            session, options.data, options.root, options.limits, options.backend
        ) as services,
    ):
        extra = meta_routes() if "meta" in options.apis else []
        extra += xanylabeling_routes() if "xanylabeling" in options.apis else []
        server = server_for(make_app(services, access, extra), services)
        address = address_of(options.host, listener)
        run_server(server, listener, lambda: ready(address))


def address_of(host: str, listener: socket.socket) -> str:
    """Where a browser on this machine finds the server."""
    port = listener.getsockname()[1]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens; port 0 for a free one. InputError where it cannot."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        made = socket.socket(found[0], socket.SOCK_STREAM)
        try:
            made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            made.bind(found[4])
            made.listen(128)
        except BaseException:
            made.close()
            raise
    except OSError as error:
        raise InputError(
            f"cannot listen on {host} port {port} ({error.strerror or error}): name another --port "
            "or --host"
        ) from None
    return made


def run_server(server: PageServer, listener: socket.socket, ready: Callable[[], None]) -> None:
    """Serve until a signal comes; `ready` is called when requests are taken."""

    async def served() -> None:
        work = asyncio.ensure_future(server.serve(sockets=[listener]))
        while not server.started and not work.done():
            await asyncio.sleep(0.01)
        if server.started:
            ready()
        await work

    asyncio.run(served())
