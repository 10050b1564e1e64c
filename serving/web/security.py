"""Who may ask: the token, the host that was asked for, and where a page came from."""

from __future__ import annotations

import hmac
import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ...configs.errors import InputError
from .body_rest import BodyRest
from .errors import error_answer
from .metrics import Metrics

#: what needs no token: the page has no secrets, and whoever watches has no token
_OPEN = ("/", "/v1/health")
_OPEN_FOLDERS = ("/page/",)
_SHORTEST_TOKEN = 8
_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "X-Frame-Options": "DENY",
    "Cross-Origin-Resource-Policy": "same-origin",
}


@dataclass(frozen=True)
class Access:
    """Who may ask. token: None where none is asked for; local: whether the server is on loopback.

    origins: pages of other hosts that may ask, such as ``http://localhost:5173``.
    """

    token: str | None
    local: bool
    origins: tuple[str, ...] = ()

    @classmethod
    def of(cls, host: str, token: str | None, origins: tuple[str, ...] = ()) -> Access:
        """For a server on `host`; InputError for one that others can reach without a token."""
        local = is_local(host)
        if token is None and not local:
            raise InputError(
                f"host {host} can be reached by others: give --token, or stay on 127.0.0.1"
            )
        if token is not None and (len(token) < _SHORTEST_TOKEN or not _is_token(token)):
            raise InputError(
                f"the token must have at least {_SHORTEST_TOKEN} letters, digits, '-' or '_'"
            )
        for origin in origins:
            parts = urlsplit(origin)
            if (
                parts.scheme not in ("http", "https")
                or origin != f"{parts.scheme}://{parts.netloc}"
            ):
                raise InputError(
                    f"origin {origin!r:.60}: expected one such as http://localhost:5173"
                )
        return cls(token, local, origins)

    def refused(self, scope: Scope) -> tuple[int, str] | None:
        """Status and line for a request that is refused; None for one that may go on."""
        headers = Headers(scope=scope)
        host = headers.get("host", "")
        # a name that leads here today may have led elsewhere when its page was loaded
        if self.local and not is_local(_name_of(host)):
            return 403, f"host {host!r:.60} is not this server: ask for localhost or 127.0.0.1"
        origin = headers.get("origin")
        if origin is not None and origin not in self.origins and urlsplit(origin).netloc != host:
            return 403, f"a page of {origin!r:.60} may not ask this server: see --origin"
        if (
            self.token is not None
            and not self._is_open(scope)
            and not self._has_token(scope, headers)
        ):
            return 401, "the token is missing or wrong: send 'Authorization: Bearer TOKEN'"
        return None

    def _is_open(self, scope: Scope) -> bool:
        path = scope["path"]
        return scope["type"] == "http" and (path in _OPEN or path.startswith(_OPEN_FOLDERS))

    def _has_token(self, scope: Scope, headers: Mapping[str, str]) -> bool:
        kind, _, given = headers.get("authorization", "").partition(" ")
        if not kind and "token" in headers:
            # as the labelling tool X-AnyLabeling sends it
            given = headers["token"]
        elif kind.lower() != "bearer":
            query = parse_qs(scope["query_string"].decode("latin-1"))
            given = query.get("token", [""])[0]
        return hmac.compare_digest(given.encode(), str(self.token).encode())


class Guard:
    """ASGI middleware: refuses what :class:`Access` refuses, counts answers, adds headers."""

    def __init__(self, app: ASGIApp, access: Access, metrics: Metrics) -> None:
        self._app, self._access, self._metrics = app, access, metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self._app(scope, receive, send)
            return

        rest = BodyRest(scope, receive)

        async def sent(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._metrics.requests.labels(str(message["status"])).inc()
                headers = dict(message.get("headers") or [])
                for name, value in _HEADERS.items():
                    headers.setdefault(name.lower().encode(), value.encode())
                if message["status"] >= 400 and not await rest.ended():
                    headers[b"connection"] = b"close"
                message = {**message, "headers": list(headers.items())}
            await send(message)

        refused = self._access.refused(scope)
        if refused is None:
            await self._app(scope, rest.receive, sent)
        elif scope["type"] == "websocket":
            # before it is accepted, a close would be an answer that browsers do not show
            await receive()
            await send({"type": "websocket.accept"})
            await send({"type": "websocket.close", "code": 1008, "reason": refused[1]})
        else:
            status, line = refused
            headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None
            await error_answer(status, line, headers)(scope, rest.receive, sent)


def is_local(host: str) -> bool:
    """Whether a name or address is this machine alone."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _name_of(host: str) -> str:
    """The name in a Host header, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_token(token: str) -> bool:
    return token.isascii() and all(c.isalnum() or c in "-_" for c in token)
