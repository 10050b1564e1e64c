"""A server on 127.0.0.1 that answers as the Hugging Face hub does, and misbehaves as told."""

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

COMMIT = "0123456789abcdef0123456789abcdef01234567"


@dataclass
class Hub:
    """Repository ``someone/bundle`` of one commit, from the files of a folder."""

    folder: Path
    url: str = ""
    #: files of so many bytes or more lie in a store, to which the hub redirects
    large: int = 50_000
    #: where the store is, if not here
    store: str = ""
    #: replaces the hash that the hub gives of a file
    hashes: dict[str, str] = field(default_factory=dict)
    #: status for every request
    status: int = 200
    #: bytes after which the connection is dropped, one entry per request of the store
    cut_after: list[int] = field(default_factory=list)
    #: which commit the hub says it gives
    commit: str = COMMIT
    requests: list[tuple[str, str | None]] = field(default_factory=list)

    def asked(self) -> list[str]:
        return [path for path, _ in self.requests]


def git_sha1(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


@contextmanager
def hub_of(folder: Path) -> Iterator[Hub]:
    """Serve while the block runs."""
    state = Hub(folder)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            state.requests.append((self.path, self.headers.get("Range")))
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


def _answer(handler: BaseHTTPRequestHandler, state: Hub) -> None:
    if state.status != 200:
        _refuse(handler, state.status, "")
    elif handler.path.startswith("/store/"):
        _send(handler, state)
    elif match := re.fullmatch(r"/someone/bundle/resolve/([^/]+)/(.+)", handler.path):
        if match[1] not in ("main", "v1", COMMIT):
            _refuse(handler, 404, "RevisionNotFound")
        elif not (state.folder / match[2]).is_file():
            _refuse(handler, 404, "EntryNotFound")
        else:
            _resolve(handler, state, match[2])
    else:
        _refuse(handler, 401, "RepoNotFound")


def _refuse(handler: BaseHTTPRequestHandler, status: int, code: str) -> None:
    handler.send_response(status)
    handler.send_header("X-Error-Code", code)
    handler.send_header("Content-Length", "0")
    handler.end_headers()


def _resolve(handler: BaseHTTPRequestHandler, state: Hub, name: str) -> None:
    content = (state.folder / name).read_bytes()
    if len(content) < state.large:
        handler.send_response(200)
        handler.send_header("ETag", f'"{state.hashes.get(name, git_sha1(content))}"')
    else:
        sha256 = state.hashes.get(name, hashlib.sha256(content).hexdigest())
        handler.send_response(302)
        handler.send_header("Location", f"{state.store or state.url}/store/{name}")
        handler.send_header("X-Linked-Etag", f'"{sha256}"')
        content = b""
    handler.send_header("X-Repo-Commit", state.commit)
    handler.send_header("Content-Length", str(len(content)))
    handler.end_headers()
    handler.wfile.write(content)


def _send(handler: BaseHTTPRequestHandler, state: Hub) -> None:
    content = (state.folder / handler.path.removeprefix("/store/")).read_bytes()
    start = 0
    if wanted := handler.headers.get("Range"):
        start = int(wanted.removeprefix("bytes=").removesuffix("-"))
        handler.send_response(206)
        handler.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
    else:
        handler.send_response(200)
    handler.send_header("ETag", '"of-the-store"')
    handler.send_header("Content-Length", str(len(content) - start))
    handler.end_headers()
    cut = state.cut_after.pop(0) if state.cut_after else len(content)
    handler.wfile.write(content[start : start + cut])
