"""Progress speaks only when it helps: counts, rates, the time left, on terminals and off them."""

from __future__ import annotations

import io
import os
import sys
import time
from collections.abc import Callable

import pytest

from sam2rt.cli.progress_line import ProgressLine

REWRITTEN = "\r\033[K"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def test_it_waits_two_seconds_and_clears_its_line() -> None:
    clock, stream = Clock(), Terminal()
    with ProgressLine(stream, clock=clock) as progress:
        progress("export", 0, 4)
        clock.now = 1.9
        progress("export", 1, 4)
        assert stream.getvalue() == ""
        clock.now = 2.0
        progress("export", 2, 4)
        first = "export 2 of 4 (50 %), 1.0/s, 0:02 left"
        assert stream.getvalue() == REWRITTEN + first
        progress("export", 3, 4)  # too soon after the last
        clock.now = 2.2
        progress("frame", 17)
        progress("end")
    assert stream.getvalue() == f"{REWRITTEN}{first}{REWRITTEN}frame 17{REWRITTEN}"


def said(*reports: tuple[float, str, int, int | None]) -> str:
    """What a terminal shows after reports at these seconds."""
    clock, stream = Clock(), Terminal()
    progress = ProgressLine(stream, delay=0, clock=clock)
    for now, what, done, total in reports:
        clock.now = now
        progress(what, done, total)
    return stream.getvalue().split(REWRITTEN)[-1]


@pytest.mark.parametrize(
    ("reports", "expected"),
    [
        ([(0, "opening the bundle", 0, None)], "opening the bundle"),
        (
            [(0, "opening the bundle", 0, None), (75, "opening the bundle", 0, None)],
            "opening the bundle, 1:15",
        ),
        ([(0, "tracking", 0, 200)], "tracking 0 of 200 (0 %)"),
        (
            [(0, "tracking", 1, 200), (10, "tracking", 26, 200)],
            "tracking 26 of 200 (13 %), 2.5/s, 1:10 left",
        ),
        (
            [(0, "tracking", 0, 5000), (100, "tracking", 100, 5000)],
            "tracking 100 of 5000 (2 %), 1.0/s, 1:21:40 left",
        ),
        (
            [(0, "tracking", 0, 10), (50, "tracking", 2, 10)],
            "tracking 2 of 10 (20 %), 25.0 s each, 3:20 left",
        ),
        (
            [(0, "tracking", 0, 10), (20, "tracking", 10, 10)],
            "tracking 10 of 10 (100 %), 2.0 s each",
        ),
        # a stream has no end
        ([(0, "tracking", 0, None), (20, "tracking", 500, None)], "tracking 500, 25.0/s"),
        # the rate is that of the present stage, which has a whole of its own
        (
            [(0, "looking", 0, 9), (90, "looking", 9, 9),
             (91, "writing", 0, 8), (92, "writing", 4, 8)],
            "writing 4 of 8 (50 %), 4.0/s, 0:01 left",
        ),
        (
            [(0, "video 1", 0, 8), (90, "video 1", 8, 8),
             (91, "video 2", 0, 8), (92, "video 2", 4, 8)],
            "video 2 4 of 8 (50 %), 4.0/s, 0:01 left",
        ),
        # steps of one whole may have names of their own
        (
            [(0, "exporting encoder", 0, 6), (30, "exporting decoder", 3, 6)],
            "exporting decoder 3 of 6 (50 %), 10.0 s each, 0:30 left",
        ),
        # bytes of a download
        (
            [(0, "tiny.pt", 0, 156_008_466), (4, "tiny.pt", 12_800_000, 156_008_466)],
            "tiny.pt 12.8M of 156.0M (8 %), 3.2M/s, 0:45 left",
        ),
        # what brings its count is a whole of parts
        (
            [(0, "2 of 20 videos", 200, 2000), (60, "3 of 20 videos", 350, 2000)],
            "3 of 20 videos (17 %), 11:00 left",
        ),
    ],
)  # fmt: skip
def test_count_rate_and_time_left(
    reports: list[tuple[float, str, int, int | None]], expected: str
) -> None:
    assert said(*reports) == expected


def test_off_a_terminal_a_line_comes_every_ten_seconds_and_at_the_end() -> None:
    clock, stream = Clock(), io.StringIO()
    with ProgressLine(stream, every=10.0, clock=clock) as progress:
        for frame in range(1, 241):
            clock.now = frame / 10
            progress("tracking", frame, 240)
    assert stream.getvalue().splitlines() == [
        "tracking 100 of 240 (41 %), 10.0/s, 0:14 left",
        "tracking 200 of 240 (83 %), 10.0/s, 0:04 left",
        "tracking 240 of 240 (100 %), 10.0/s",
    ]


def test_off_a_terminal_short_work_and_failures_add_nothing() -> None:
    clock, stream = Clock(), io.StringIO()
    with ProgressLine(stream, every=10.0, clock=clock) as progress:
        clock.now = 9.9
        progress("export", 2, 4)
    assert stream.getvalue() == ""
    with pytest.raises(KeyboardInterrupt):
        _interrupted(stream, clock)
    assert stream.getvalue() == "export 2 of 4 (50 %)\n"


def _interrupted(stream: io.StringIO, clock: Clock) -> None:
    with ProgressLine(stream, every=10.0, clock=clock) as progress:
        clock.now = 30.0
        progress("export", 2, 4)
        raise KeyboardInterrupt


@pytest.mark.parametrize("make", [Terminal, io.StringIO])
def test_quiet_is_silent(make: Callable[[], io.StringIO]) -> None:
    clock, stream = Clock(), make()
    with ProgressLine(stream, every=0, clock=clock, quiet=True) as progress:
        clock.now = 60.0
        progress("export", 2, 4)
    assert stream.getvalue() == ""


def _waited(stream: io.StringIO, lines: int) -> list[str]:
    """What the stream holds once it has so many lines; within a minute."""
    deadline = time.monotonic() + 60
    while stream.getvalue().count("\n") < lines:
        assert time.monotonic() < deadline, stream.getvalue()
        time.sleep(0.005)
    return stream.getvalue().splitlines()


def test_a_step_that_takes_long_is_seen_while_it_runs() -> None:
    """Nothing is called meanwhile: a thread looks whether a line is due."""
    clock, stream = Clock(), io.StringIO()
    with ProgressLine(stream, every=10.0, clock=clock, tick=0.001) as progress:
        progress("opening the bundle")
        for number in (1, 2):
            clock.now = 10.0 * number
            _waited(stream, number)
        time.sleep(0.05)
        assert stream.getvalue().splitlines() == [
            "opening the bundle, 0:10",
            "opening the bundle, 0:20",
        ]
        progress("tracking", 1, 4)
    assert stream.getvalue().splitlines()[2:] == ["tracking 1 of 4 (25 %)"]
    clock.now = 60.0
    time.sleep(0.05)
    # the thread has ended with the block
    assert len(stream.getvalue().splitlines()) == 3


def test_without_standard_error_it_is_silent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    with ProgressLine(delay=0, every=0) as progress:
        progress("export", 2, 4)


@pytest.mark.parametrize(("columns", "most"), [(20, 19), (1, 1), (0, 79)])
def test_a_narrow_terminal_is_never_wrapped(
    columns: int, most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = Terminal()
    monkeypatch.setattr(stream, "fileno", lambda: 2)
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((columns, 5)))
    ProgressLine(stream, delay=0, clock=Clock())("a" * 100)
    assert stream.getvalue() == REWRITTEN + "a" * most


def test_short_work_leaves_the_terminal_alone() -> None:
    stream = Terminal()
    with ProgressLine(stream) as progress:
        progress("export", 2, 4)
    assert stream.getvalue() == ""
