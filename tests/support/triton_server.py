"""A real Triton server, as ``nvidia-pytriton`` brings it, in an environment with NumPy 1.

pip fetches it on first use into ``.venv/wheels`` of the checkout (or the folder named by
SAM2RT_WHEELS). Tests are skipped where it cannot be had.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from functools import cache
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import pytest

ROOT = Path(__file__).resolve().parents[2]
_SERVER = "nvidia-pytriton==0.7.0"
#: the last of OpenCV that takes NumPy 1; tracking gives the same masks with it
_OTHERS = (
    "numpy==1.26.4", "opencv-python-headless==4.11.0.86", "tritonclient[grpc,http]==2.73.0",
    "grpcio==1.85.3", "protobuf==6.33.6",
)  # fmt: skip
#: of the versions that the tests themselves run
_SAME = ("onnxruntime", "av", "pillow", "pycocotools")


def environment() -> Path:
    """The folder of the environment; skips, with the reason, where there can be none."""
    found = _environment()
    if isinstance(found, str):
        pytest.skip(found)
    return found


@cache
def _environment() -> Path | str:
    """The folder, or why there is none: tried once a run."""
    libraries = Path(sysconfig.get_config_var("LIBDIR") or "")
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        return "Triton's package is for Linux on x86-64"
    if not list(libraries.glob(f"libpython{_python()}.so*")):
        return "Triton's Python backend needs Python as a shared library"
    base = Path(os.environ.get("SAM2RT_WHEELS") or ROOT / ".venv" / "wheels")
    base.mkdir(parents=True, exist_ok=True)
    final = base / f"{_SERVER.replace('==', '-')}-{_python()}"
    with (base / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not final.is_dir() and (why := _make(final)):
            return f"pip cannot fetch {_SERVER}: {why}"
    return final


def _python() -> str:
    return f"{sys.version_info[0]}.{sys.version_info[1]}"


def _make(final: Path) -> str:
    """Make the environment; why it cannot be, or nothing."""
    part = final.with_name(final.name + ".part")
    shutil.rmtree(part, ignore_errors=True)
    text = (ROOT / "constraints.txt").read_text()
    same = [line for line in text.splitlines() if line.partition("==")[0] in _SAME]
    # pip writes no addresses of the folder into what is needed here, so it may be renamed
    commands = [
        [sys.executable, "-m", "venv", str(part)],
        [str(part / "bin" / "python"), "-m", "pip", "install", "-q", "--no-deps", _SERVER],
        [str(part / "bin" / "python"), "-m", "pip", "install", "-q", *_OTHERS, *same],
    ]
    for command in commands:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            last = (done.stderr.strip().splitlines() or ["no message"])[-1]
            shutil.rmtree(part, ignore_errors=True)
            return last
    part.rename(final)
    return ""


class TritonServer:
    """The server on a repository, on free ports of this machine alone; a context manager.

    python: the folder of the Python that models run in, the environment's own if not given.
    """

    def __init__(self, repository: Path, work: Path, python: Path | None = None) -> None:
        self.home = environment()
        self.log = work / "triton.log"
        site = self.home / "lib" / f"python{_python()}" / "site-packages"
        self._server = site / "pytriton" / "tritonserver"
        _link_checkout(self.home / "src", site)
        backends = work / "backends"
        shutil.copytree(self._server / "backends", backends)
        stub = self._server / "python_backend_stubs" / _python() / "triton_python_backend_stub"
        shutil.copy(stub, backends / "python")
        self.http, self.grpc, self.metrics = _free_ports(3)
        libraries = f"{site / 'nvidia_pytriton.libs'}:{sysconfig.get_config_var('LIBDIR')}"
        self._environment = {
            **os.environ,
            "LD_LIBRARY_PATH": libraries,
            "PATH": f"{python or self.home / 'bin'}:{os.environ['PATH']}",
            "OMP_NUM_THREADS": "1",
        }
        ports = {"http": self.http, "grpc": self.grpc, "metrics": self.metrics}
        self._command = [
            str(self._server / "bin" / "tritonserver"),
            f"--model-repository={repository}",
            f"--backend-directory={backends}",
            *(f"--{name}-port={port}" for name, port in ports.items()),
            *(f"--{name}-address=127.0.0.1" for name in ports),
        ]

    def __enter__(self) -> TritonServer:
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                self._command, stdout=log, stderr=log, env=self._environment
            )
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        try:
            self.process.wait(40)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def wait(self) -> None:
        """Until all models are ready; an AssertionError with the log where they never are."""
        deadline = time.monotonic() + 120
        while True:
            assert self.process.poll() is None, self.log.read_text()[-3000:]
            assert time.monotonic() < deadline, self.log.read_text()[-3000:]
            try:
                with urlopen(f"http://127.0.0.1:{self.http}/v2/health/ready", timeout=5):
                    return
            except OSError:
                time.sleep(0.1)

    def figure(self, name: str) -> float:
        """A figure of the page of metrics."""
        with urlopen(f"http://127.0.0.1:{self.metrics}/metrics", timeout=20) as answer:
            text = answer.read().decode()
        (found,) = re.findall(rf"^{name}{{[^}}]*}} (\S+)$", text, re.M)
        return float(found)

    def until(self, name: str, wanted: float) -> None:
        """Until a figure is `wanted`, a minute at most."""
        deadline = time.monotonic() + 60
        while self.figure(name) != wanted:
            assert time.monotonic() < deadline, (name, self.figure(name))
            time.sleep(0.05)

    def client(self, script: Path, *words: object) -> subprocess.CompletedProcess[str]:
        """Run a program in the environment, where ``tritonclient`` is."""
        return subprocess.run(
            [str(self.home / "bin" / "python"), str(script), *map(str, words)],
            capture_output=True, text=True, check=False, timeout=300,
        )  # fmt: skip

    def calls(self, name: str, *words: object) -> Any:
        """What a function of ``triton_calls`` gives."""
        script = Path(__file__).with_name("triton_calls.py")
        done = self.client(script, name, self.grpc, self.http, *words)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)


def _link_checkout(folder: Path, site: Path) -> None:
    """Let the environment import this checkout: the server's backend heeds no PYTHONPATH."""
    folder.mkdir(exist_ok=True)
    link = folder / "sam2rt"
    if not link.is_symlink() or link.resolve() != ROOT:
        link.unlink(missing_ok=True)
        link.symlink_to(ROOT)
    (site / "sam2rt_checkout.pth").write_text(f"{folder}\n")


def _free_ports(count: int) -> list[int]:
    found = [socket.socket() for _ in range(count)]
    try:
        for each in found:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in found]
    finally:
        for each in found:
            each.close()
