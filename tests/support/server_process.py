"""The command ``sam2rt serve`` as a process, for tests of the page."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

from sam2rt.configs.bundle import Bundle


class ServerProcess:
    """A server of the built-in model."""

    def __init__(
        self, bundle: Bundle, folder: Path, *options: str, port: int | None = None
    ) -> None:
        self.bundle = bundle
        self.port = port or _free_port()
        self.address = f"http://127.0.0.1:{self.port}/"
        command = [sys.executable, "-m", "sam2rt", "serve", str(bundle.path)]
        with (folder / "server.log").open("w") as log:
            self._process = subprocess.Popen(
                [*command, "--port", str(self.port), *options], stdout=log, stderr=log, cwd=folder
            )
        self._log = folder / "server.log"
        self._wait()

    def _wait(self) -> None:
        for _ in range(600):
            assert self._process.poll() is None, self._log.read_text()
            with suppress(OSError), urlopen(f"{self.address}v1/health", timeout=5):
                return
            time.sleep(0.1)
        raise AssertionError("the server did not come up")

    def call(self, method: str, path: str) -> Any:
        """What the server answers, as JSON."""
        with urlopen(Request(f"{self.address}{path}", method=method), timeout=60) as answer:
            content = answer.read()
        return json.loads(content) if content else None

    def kill(self) -> None:
        """End it without a chance to say so."""
        self._process.kill()
        self._process.wait(30)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)


def _free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])
