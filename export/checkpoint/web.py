"""Requests under the rules of every download: https alone, after redirects too.

What the hub says of a file (its own hash, the commit) stands in its first answer; the address
that this redirects to belongs to a store that knows neither.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
import urllib.request
from http.client import HTTPMessage, HTTPResponse
from pathlib import Path
from typing import IO
from urllib.parse import urlsplit

from ...configs.bundle import file_sha256
from ...configs.errors import CheckpointError
from ...configs.version import VERSION

_SAID = ("etag", "x-linked-etag", "x-repo-commit", "x-error-code")


def check_url(url: str, *, from_url: str | None = None) -> None:
    """Refuse, with CheckpointError, what is not https; http is for servers on this machine."""
    parts = urlsplit(url)
    ours = from_url is None or urlsplit(from_url).scheme == "http"
    if parts.scheme == "https" or (parts.scheme == "http" and ours and _is_here(parts.hostname)):
        return
    via = f"{from_url} leads to {url}" if from_url else url
    raise CheckpointError(f"{via}, expected https: nothing is fetched without it")


def _is_here(host: str | None) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


class WebRequest:
    """One GET; after :meth:`open` `said` holds what the first answer said, in lower case."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.headers = {"User-Agent": f"sam2rt/{VERSION}"}
        self.said: dict[str, str] = {}

    def open(self, timeout: float) -> HTTPResponse:
        """The answer at the end of all redirects. Raises what urllib raises, CheckpointError."""
        check_url(self.url)
        opener = urllib.request.build_opener(_Redirects(self))
        asked = urllib.request.Request(self.url, headers=self.headers)
        response: HTTPResponse = opener.open(asked, timeout=timeout)
        self.listen(response.headers)
        return response

    def listen(self, headers: HTTPMessage) -> None:
        """Keep what an answer says, unless an earlier one has."""
        if not self.said:
            self.said = {name: headers[name] for name in _SAID if headers[name]}


class _Redirects(urllib.request.HTTPRedirectHandler):
    def __init__(self, request: WebRequest) -> None:
        self._request = request

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        self._request.listen(headers)
        check_url(newurl, from_url=req.full_url)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def check_hub_hash(path: Path, said: dict[str, str], url: str) -> None:
    """Compare a file with the hash in the hub's answer, where there is one. CheckpointError.

    Of large files the hub's ETag is the sha256, of others that of git: the sha1 of a blob.
    """
    tag = said.get("x-linked-etag") or said.get("etag") or ""
    expected = tag.removeprefix("W/").strip('"').lower()
    if not re.fullmatch(r"[0-9a-f]{40}|[0-9a-f]{64}", expected):
        return
    kind, found = "sha256", file_sha256(path) if len(expected) == 64 else ""
    if not found:
        kind, found = "git's sha1", _git_sha1(path)
    if found != expected:
        raise CheckpointError(
            f"{url} has {kind} {found}, the hub says {expected}: it is not the file it should be, "
            "nothing was kept; try again"
        )


def _git_sha1(path: Path) -> str:
    digest = hashlib.sha1(b"blob %d\0" % path.stat().st_size, usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
