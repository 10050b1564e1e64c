"""Signals that end a command: what Ctrl-C undoes, SIGTERM and SIGHUP undo too.

Python runs a handler between two steps of its own, hence only after a native call is over. So a
thread is woken by the signal itself and asks such calls to end (:mod:`~sam2rt.runtime.stopping`).
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..runtime.stopping import stop_running


class Ended(KeyboardInterrupt):
    """A signal that asks the process to end, as service managers and closed terminals send it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        #: as shells give it: 128 and the signal's number
        self.code = 128 + number
        self.what = "terminated" if number == signal.SIGTERM else "hung up"


#: SIGTERM of service managers and ``timeout``; SIGHUP, of a terminal that goes, unknown to Windows
_ENDING = [getattr(signal, name) for name in ("SIGTERM", "SIGHUP") if hasattr(signal, name)]


@contextmanager
def ending_signals() -> Iterator[None]:
    """SIGTERM and SIGHUP raise Ended in the block, and with Ctrl-C they end native calls."""
    if threading.current_thread() is not threading.main_thread():
        # only there may signals be handled
        yield
        return

    def end(number: int, _: object) -> None:
        raise Ended(number)

    before = {}
    for number in _ENDING:
        # nohup and the like: whoever had it ignored goes on ignoring it
        if signal.getsignal(number) is not signal.SIG_IGN:
            before[number] = signal.signal(number, end)
    try:
        with _woken():
            yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _woken() -> Iterator[None]:
    """A thread that stops native calls as soon as one of the signals comes."""
    reading, writing = os.pipe()
    # Windows has it for pipes from Python 3.12 on; it stops what fills the pipe, which nobody does
    if hasattr(os, "set_blocking"):
        os.set_blocking(writing, False)
    ending = {int(number) for number in (signal.SIGINT, *_ENDING)}

    def watch() -> None:
        # a byte a signal, its number; none when the block is over
        while number := os.read(reading, 1):
            if number[0] in ending:
                stop_running()
        os.close(reading)

    before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    threading.Thread(target=watch, name="sam2rt-signals", daemon=True).start()
    try:
        yield
    finally:
        signal.set_wakeup_fd(before)
        with suppress(OSError):
            os.close(writing)
