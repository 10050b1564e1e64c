"""A real server on a free port, and a client of it that needs no library."""

from __future__ import annotations

import http.client
import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sam2rt.runtime.session import Session
from sam2rt.serving.run import address_of, listening, run_server
from sam2rt.serving.sessions.limits import ServerLimits
from sam2rt.serving.web.app import make_app
from sam2rt.serving.web.security import Access
from sam2rt.serving.web.server import PageServer, opened_services, server_for
from sam2rt.serving.web.services import Services


class Client:
    """Requests to a server; a new connection for each, so that threads may share a client."""

    def __init__(self, port: int, token: str | None = None) -> None:
        self.port, self._token = port, token

    def raw(
        self, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None
    ) -> tuple[int, bytes, dict[str, str]]:
        """Status, content and headers."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        sent = dict(headers or {})
        if self._token is not None:
            sent.setdefault("Authorization", f"Bearer {self._token}")
        try:
            connection.request(method, path, body, sent)
            answer = connection.getresponse()
            content = answer.read()
            return answer.status, content, {k.lower(): v for k, v in answer.getheaders()}
        finally:
            connection.close()

    def json(self, method: str, path: str, body: Any = None) -> tuple[int, Any]:
        """Status and value; bytes are sent as they are, anything else as JSON."""
        sent = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        status, content, _ = self.raw(method, path, sent)
        return status, json.loads(content) if content else None

    def ok(self, method: str, path: str, body: Any = None) -> Any:
        """The value of an answer that must be no error."""
        status, value = self.json(method, path, body)
        assert status < 300, (status, value)
        return value

    def lines(self, path: str, body: Any = None) -> Iterator[Any]:
        """The lines of a streamed answer as they come; closing the iterator hangs up."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)
        try:
            sent = b"" if body is None else json.dumps(body).encode()
            connection.request("POST", path, sent)
            answer = connection.getresponse()
            if answer.status != 200:
                raise AssertionError((answer.status, answer.read()))
            while line := answer.readline():
                yield json.loads(line)
        finally:
            connection.close()

    def session(self, **body: Any) -> str:
        """The address of a new session."""
        return f"/v1/sessions/{self.ok('POST', '/v1/sessions', body)['session']}"

    def upload(self, path: Path) -> str:
        """The id of an uploaded file."""
        content = path.read_bytes()
        media: str = self.ok("POST", f"/v1/media?name={path.name}", content)["media"]
        return media


class Served(Client):
    """A server that runs in a thread; its services are there to look at."""

    def __init__(self, port: int, services: Services, server: PageServer) -> None:
        super().__init__(port)
        self.services, self.server = services, server


@contextmanager
def serving(
    session: Session,
    *,
    data: Path | None = None,
    root: Path | None = None,
    access: Access | None = None,
    extra: Any = None,
    **limits: int,
) -> Iterator[Served]:
    """A server on the session, stopped when the block ends."""
    with (
        listening("127.0.0.1", 0) as listener,
        opened_services(session, data, root, ServerLimits(**limits), "onnxruntime") as services,
    ):
        routes = extra(services) if extra else None
        app = make_app(services, access or Access.of("127.0.0.1", None), routes)
        server = server_for(app, services)
        ready = threading.Event()
        thread = threading.Thread(target=run_server, args=(server, listener, ready.set))
        thread.start()
        try:
            assert ready.wait(30)
            assert address_of("127.0.0.1", listener).startswith("http://127.0.0.1:")
            yield Served(listener.getsockname()[1], services, server)
        finally:
            server.stop()
            thread.join(30)
            assert not thread.is_alive()


def raw_socket(port: int) -> socket.socket:
    """A connection to write bytes to that are no proper request."""
    return socket.create_connection(("127.0.0.1", port), timeout=30)
