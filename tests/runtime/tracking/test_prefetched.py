"""Items made by a background thread before they are asked for."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from bundles import SharedBundles

from sam2rt import FrameError, InputError
from sam2rt.runtime.tracking.prefetch import prefetched


class TestPrefetched:
    def test_gives_the_same_items_and_makes_no_more_than_its_depth(self) -> None:
        made: list[int] = []

        def produce() -> Iterator[int]:
            for i in range(20):
                made.append(i)
                yield i

        items = prefetched(produce(), depth=3)
        assert next(items) == 0
        deadline = time.monotonic() + 5
        while len(made) < 5 and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.05)
        # one was taken, three wait, one more is in the producer's hand
        assert made == [0, 1, 2, 3, 4]
        assert list(items) == list(range(1, 20))

    def test_an_error_comes_where_its_item_would_have_come(self) -> None:
        def produce() -> Iterator[int]:
            yield 1
            raise FrameError("frame 1 is damaged")

        items = prefetched(produce())
        assert next(items) == 1
        with pytest.raises(FrameError, match="frame 1 is damaged"):
            next(items)

    @pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt()])
    def test_an_exit_of_the_source_is_no_end(self, error: BaseException) -> None:
        def produce() -> Iterator[int]:
            yield 1
            raise error

        items = prefetched(produce())
        assert next(items) == 1
        with pytest.raises(type(error)):
            next(items)

    def test_leaving_early_stops_the_thread(self) -> None:
        before = threading.active_count()
        items = prefetched(iter(int, 1), depth=2)
        assert next(items) == 0
        items.close()  # type: ignore[attr-defined]
        assert threading.active_count() == before

    def test_a_stalled_source_does_not_hold_up_the_end(self) -> None:
        stalled = threading.Event()

        def produce() -> Iterator[int]:
            yield 1
            stalled.wait(30)

        items = prefetched(produce(), patience=0.1)
        assert next(items) == 1
        start = time.monotonic()
        items.close()
        assert time.monotonic() - start < 10
        stalled.set()

    def test_depth_must_be_positive(self) -> None:
        with pytest.raises(InputError, match="expected at least 1"):
            next(prefetched([], depth=0))


_STILL_REFERENCED = """
import sys
import onnxruntime
from sam2rt.runtime.tracking.prefetch import prefetched

def produce():
    while True:
        # C++ that the interpreter cannot interrupt, and that comes back to it
        onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
        yield 1

items = prefetched(produce(), depth=2)
print(next(items), next(items))
"""


def test_items_still_referenced_at_the_end_do_not_abort(shared_bundles: SharedBundles) -> None:
    """A thread that came back to an interpreter that was gone ended the process with SIGABRT."""
    pytest.importorskip("onnxruntime")
    graph = shared_bundles.untrained("micro", 2, seed=5).graph_path("mask_decoder")
    for _ in range(6):
        command = [sys.executable, "-c", _STILL_REFERENCED, str(graph)]
        ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1 1\n", "")


def test_a_stalled_source_does_not_hold_up_the_end_of_the_program() -> None:
    code = """
import time
from sam2rt.runtime.tracking.prefetch import prefetched
def produce():
    yield 1
    time.sleep(60)
items = prefetched(produce(), patience=0.1)
print(next(items))
"""
    start = time.monotonic()
    ended = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "1\n", "")
    assert time.monotonic() - start < 30
