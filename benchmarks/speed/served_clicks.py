"""How long a click waits on a server while others propagate: lone and crowded rounds in turn.

    python -m sam2rt.benchmarks.speed.served_clicks BUNDLE [OTHERS]

A server runs in this process, all clients ask it over HTTP. The figures that carry over to another
machine are the ratios.
"""

from __future__ import annotations

import http.client
import json
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ...configs.bundle import Bundle
from ...runtime.backends.open import open_session
from ...serving.run import listening, run_server
from ...serving.sessions.limits import ServerLimits
from ...serving.web.app import make_app
from ...serving.web.security import Access
from ...serving.web.server import opened_services, server_for
from .machine import this_machine

#: rounds of lone and of crowded clicks, and clicks of a round
_ROUNDS, _CLICKS = 8, 25


def click_latency(bundle: Bundle, others: int = 7, threads: int | None = None) -> dict[str, Any]:
    """Milliseconds of a click alone and while `others` sessions propagate: p50, p99, ratios."""
    lone: list[float] = []
    crowded: list[float] = []
    with _server(bundle, threads) as port:
        client = _Client(port)
        at = client.session()
        for _ in range(5):
            client.click(at)
        for _ in range(_ROUNDS):
            lone += [client.click(at) for _ in range(_CLICKS)]
            with _crowd(port, others):
                crowded += [client.click(at) for _ in range(_CLICKS)]
    figures: dict[str, Any] = {
        "machine": this_machine(threads).line(),
        "others": others,
        "clicks": len(lone),
    }
    for share in (50, 99):
        alone, among = (float(np.percentile(times, share)) for times in (lone, crowded))
        figures |= {
            f"lone_p{share}_ms": round(alone * 1000, 1),
            f"crowded_p{share}_ms": round(among * 1000, 1),
            f"ratio_p{share}": round(among / alone, 2),
        }
    return figures


class _Client:
    """One connection to the server."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port)

    def ask(self, path: str, body: Any) -> bytes:
        """The whole of an answer."""
        self._connection.request("POST", path, json.dumps(body))
        answer = self._connection.getresponse()
        content = answer.read()
        if answer.status >= 300:
            raise RuntimeError(content.decode())
        return content

    def session(self) -> str:
        """The address of a new session with one object."""
        opened = json.loads(self.ask("/v1/sessions", {"sample": "shapes"}))
        at = f"/v1/sessions/{opened['session']}"
        self.click(at)
        return at

    def click(self, at: str) -> float:
        """Seconds from a click to its masks."""
        started = time.perf_counter()
        self.ask(f"{at}/prompts", {"object": 1, "points": [[100, 120]], "labels": [1]})
        return time.perf_counter() - started


@contextmanager
def _server(bundle: Bundle, threads: int | None) -> Iterator[int]:
    with (
        listening("127.0.0.1", 0) as listener,
        open_session(bundle, "onnxruntime", "cpu", threads) as session,
        opened_services(
            session, None, None, ServerLimits(sessions=1000), "onnxruntime"
        ) as services,
    ):
        server = server_for(make_app(services, Access.of("127.0.0.1", None)), services)
        ready = threading.Event()
        thread = threading.Thread(target=run_server, args=(server, listener, ready.set))
        thread.start()
        try:
            ready.wait()
            yield int(listener.getsockname()[1])
        finally:
            server.stop()
            thread.join()


@contextmanager
def _crowd(port: int, count: int) -> Iterator[None]:
    """So many sessions that propagate over and over while the block lasts."""
    ended = threading.Event()
    begun = threading.Barrier(count + 1)

    def work() -> None:
        client = _Client(port)
        at = client.session()
        begun.wait()
        while not ended.is_set():
            client.ask(f"{at}/propagate", {})

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    begun.wait()
    try:
        yield
    finally:
        ended.set()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    _, path, *rest = sys.argv
    print(json.dumps(click_latency(Bundle.load(Path(path)), *map(int, rest))))
