"""Parts one after the other, each in a process of its own with a limit, results kept as they come.

A part that crashes, hangs or fails costs only itself, and leaves why in the report. What a part
tells while it runs is in the file at once, so that a call that is cut short leaves what was
measured.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ...configs.staging import replaced_file

#: a part's last line of output carries its result, earlier ones what is known so far
RESULT, SO_FAR = "RESULT ", "SO FAR "
#: seconds between looks at what a part has told
_LOOK = 0.5


def tell(mark: str, found: Any) -> None:
    """Print a result for the collecting process."""
    # a library may have left a line of its own unfinished
    print(f"\n{mark}{json.dumps(found)}", flush=True)


def write_report(results: Mapping[str, Any], target: Path) -> None:
    """Write the JSON whole or not at all."""
    target.parent.mkdir(parents=True, exist_ok=True)
    text = json.dumps(_strict(results), indent=1, allow_nan=False)
    with replaced_file(target) as part:
        part.write_text(text + "\n", encoding="utf-8")


def _strict(value: Any) -> Any:
    """The same with NaN and infinities as text, which JSON has no numbers for."""
    if isinstance(value, dict):
        return {key: _strict(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_strict(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Collector:
    """command: the process of a part, by its name. limits: seconds a part may take at most."""

    command: Callable[[str], Sequence[str]]
    limits: Mapping[str, float]
    target: Path

    def collect(self, parts: Sequence[str], seconds: float) -> dict[str, Any]:
        """Run the parts within `seconds`, and write what is known to the target as it comes."""
        deadline = time.monotonic() + seconds
        results: dict[str, Any] = {}
        for name in parts:
            left = min(deadline - time.monotonic(), self.limits.get(name, seconds))
            started = time.monotonic()
            if left > 5:
                results[name] = self._in_process(name, left, results)
            else:
                results[name] = {"not_run": "no time was left"}
            results.setdefault("seconds", {})[name] = round(time.monotonic() - started, 1)
            write_report(results, self.target)
            print(f"{name}: {results['seconds'][name]:.0f} s", flush=True)
        return results

    def _in_process(self, name: str, seconds: float, results: Mapping[str, Any]) -> Any:
        # files, not pipes: compilers that a part started may outlive it and hold a pipe open
        with _text_file() as out, _text_file() as err:
            part = subprocess.Popen(
                self.command(name), stdout=out, stderr=err, start_new_session=True
            )
            try:
                why = self._watched(part, name, seconds, out, results)
            finally:
                if part.poll() is None:
                    os.killpg(part.pid, signal.SIGKILL)
                    # a driver that hangs keeps its process even from being killed
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        part.wait(5)
            lines = _lines(out)
            err.seek(0)
            said = err.read().strip().splitlines()[-1:]
        return _outcome(lines, ": ".join([why, *said]))

    def _watched(
        self,
        part: subprocess.Popen[bytes],
        name: str,
        seconds: float,
        out: IO[str],
        results: Mapping[str, Any],
    ) -> str:
        """Wait for the part, its news in the report; how it ended."""
        deadline, known = time.monotonic() + seconds, 0
        while (left := deadline - time.monotonic()) > 0:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return f"exit code {part.wait(min(left, _LOOK))}"
            so_far = _carried(_lines(out), SO_FAR)
            if len(so_far) > known:
                known = len(so_far)
                running = {"stopped": "the script was cut short", "until_then": so_far[-1]}
                write_report({**results, name: running}, self.target)
        return f"stopped after {seconds:.0f} s"


def _outcome(lines: Sequence[str], why: str) -> Any:
    results, so_far = (_carried(lines, mark) for mark in (RESULT, SO_FAR))
    if not results:
        # what was found until then counts
        return {"stopped": why, "until_then": so_far[-1]} if so_far else {"not_run": why}
    last = results[-1]
    if so_far and isinstance(last, dict) and last.keys() & {"not_run", "failed"}:
        return {**last, "until_then": so_far[-1]}
    return last


def _text_file() -> IO[str]:
    return tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")


def _lines(out: IO[str]) -> list[str]:
    # the part writes through a description of its own offset; ours must not move it
    size = os.fstat(out.fileno()).st_size
    raw = os.pread(out.fileno(), size, 0)
    return raw.decode("utf-8", "replace").splitlines(keepends=True)


def _carried(lines: Sequence[str], mark: str) -> list[Any]:
    found = []
    for line in lines:
        if line.startswith(mark):
            # a part that was killed may have been writing
            with contextlib.suppress(ValueError):
                found.append(json.loads(line.removeprefix(mark)))
    return found
