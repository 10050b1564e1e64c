"""A server of one file on 127.0.0.1 that misbehaves as told."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass
class FileServer:
    """What it serves and how; `requests` records (path, Range header) of each request."""

    content: bytes
    etag: str = '"v1"'
    ranges: bool = True
    #: bytes after which the connection is dropped, one entry per request
    cut_after: list[int] = field(default_factory=list)
    #: status answered instead, one entry per request
    statuses: list[int] = field(default_factory=list)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    url: str = ""


@contextmanager
def serving(content: bytes) -> Iterator[FileServer]:
    """Serve `content` at every path while the block runs."""
    state = FileServer(content)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            _answer(self, state)

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    state.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def _answer(handler: BaseHTTPRequestHandler, state: FileServer) -> None:
    wanted = handler.headers.get("Range")
    state.requests.append((handler.path, wanted))
    if state.statuses and (status := state.statuses.pop(0)) != 200:
        handler.send_error(status)
        return
    body, start = state.content, 0
    if_range = handler.headers.get("If-Range")
    if wanted and state.ranges and if_range in (None, state.etag):
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(body) - 1}/{len(body)}")
    else:
        handler.send_response(200)
    body = body[start:]
    handler.send_header("Content-Length", str(len(body)))
    handler.send_header("ETag", state.etag)
    handler.end_headers()
    cut = state.cut_after.pop(0) if state.cut_after else len(body)
    handler.wfile.write(body[:cut])
