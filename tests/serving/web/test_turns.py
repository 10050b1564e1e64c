"""Fair turns between sessions, counted in frames; work that is cancelled, left or too slow."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from served import Served, serving
from square_clip import moving_square

from sam2rt import VideoPredictor
from sam2rt.runtime.media.images import write_image
from sam2rt.runtime.pixels.rle import rle_from_mask
from sam2rt.runtime.session import SessionWrapper
from sam2rt.serving.sessions.limits import StoppingError
from sam2rt.serving.sessions.model import Model
from sam2rt.serving.sessions.video import VideoSession
from sam2rt.serving.web.stream_routes import begin, lines_response

CLICK = {"frame": 0, "object": 1, "points": [[20, 42]], "labels": [1]}


class Gated(SessionWrapper):
    """Waits before each frame's encoding until it may go on; counts those that came."""

    def __init__(self, session: Any) -> None:
        super().__init__(session)
        self.free = threading.Event()
        self.free.set()
        self.passes = threading.Semaphore(0)
        self.came = 0

    def run(self, graph: str, inputs: Any, into: Any = None) -> dict[str, Any]:
        if graph == "image_encoder" and not self.free.is_set():
            self.came += 1
            while not self.free.is_set() and not self.passes.acquire(timeout=0.02):
                pass
        return super().run(graph, inputs, into)


def until(true: Callable[[], Any]) -> None:
    deadline = time.monotonic() + 30
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.005)


@pytest.fixture
def gated(session) -> Gated:
    return Gated(session)


@pytest.fixture
def root(tmp_path):
    (tmp_path / "clip").mkdir()
    for t, frame in enumerate(moving_square(12)):
        write_image(tmp_path / "clip" / f"{t:02d}.png", frame)
    return tmp_path


@pytest.fixture
def served(gated, root) -> Iterator[Served]:
    with serving(gated, root=root) as server:
        yield server
        gated.free.set()


@pytest.fixture
def log(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int]]:
    """Sessions and frames in the order in which their masks were made."""
    made: list[tuple[str, int]] = []
    noted = VideoSession._noted

    def noting(self: VideoSession, frame: int, ids: Any, logits: Any) -> Any:
        made.append((self.id, frame))
        return noted(self, frame, ids, logits)

    monkeypatch.setattr(VideoSession, "_noted", noting)
    return made


def prompted(served: Served) -> str:
    at = served.session(path="clip")
    served.ok("POST", f"{at}/prompts", CLICK)
    return at


def name_of(at: str) -> str:
    return at.rpartition("/")[2]


def test_a_click_waits_for_the_frame_in_work_alone(served, gated, log):
    long, other = prompted(served), served.session(path="clip")
    with ThreadPoolExecutor(2) as pool:
        gated.free.clear()
        tracked = pool.submit(lambda: list(served.lines(f"{long}/propagate")))
        # frame 0 was encoded for its prompt
        for frame in (1, 2):
            until(lambda frame=frame: gated.came >= frame)
            gated.passes.release()
        until(lambda: gated.came == 3)
        before = len(log)
        click = pool.submit(lambda: served.ok("POST", f"{other}/prompts", CLICK))
        until(lambda: served.services.model.waiting == 1)
        gated.free.set()
        click.result()
        lines = tracked.result()
    after = log[before:]
    # the frame in work, then the click
    assert after.index((name_of(other), 0)) == 1
    assert after[0] == (name_of(long), 3)
    assert (lines[-1]["end"], len(lines)) == ("complete", 13)


def test_clips_take_turns_frame_by_frame(served, gated, log):
    clips = [prompted(served) for _ in range(3)]
    gated.free.clear()
    log.clear()
    with ThreadPoolExecutor(3) as pool:
        done = [pool.submit(lambda at=at: list(served.lines(f"{at}/propagate"))) for at in clips]
        until(lambda: served.services.model.waiting + gated.came >= 3)
        gated.free.set()
        lines = [one.result() for one in done]
    assert all(len(found) == 13 for found in lines)
    # from when all were there to when the first was done, no two frames of one clip in a row
    ids = [session_id for session_id, _ in log]
    common = ids[ids.index(ids[-1]) : len(ids) - 6]
    assert len(common) > 20
    assert all(one != next_one for one, next_one in pairwise(common))


def test_clicks_of_a_crowd_do_not_stop_a_clip(gated):
    model = Model(gated)
    order: list[str] = []
    start = threading.Event()
    model.submit(start.wait)
    until(lambda: model.waiting == 0)
    model.submit(lambda: order.append("frame"))
    futures = [model.submit(lambda: order.append("click"), urgent=True) for _ in range(20)]
    start.set()
    for future in futures:
        future.result(10)
    model.close()
    assert order.index("frame") == 8
    assert len(order) == 21


def test_a_second_propagation_is_refused_and_a_click_counts(served, gated):
    at = prompted(served)
    with ThreadPoolExecutor(2) as pool:
        gated.free.clear()
        tracked = pool.submit(lambda: list(served.lines(f"{at}/propagate")))
        until(lambda: gated.came == 1)
        for path in ("propagate", "automatic"):
            status, answer = served.json("POST", f"{at}/{path}")
            assert (status, answer["error"]) == (
                409, "the session tracks already: wait for its end, or cancel it"
            )  # fmt: skip
        assert served.ok("GET", at)["propagating"] is True
        second = {**CLICK, "object": 2, "points": [[100, 30]]}
        click = pool.submit(lambda: served.ok("POST", f"{at}/prompts", second))
        until(lambda: served.services.model.waiting >= 1)
        gated.free.set()
        click.result()
        *lines, end = tracked.result()
    assert end["end"] == "complete"
    # from the next frame on there are two objects
    counts = [len(line["objects"]) for line in lines]
    assert (counts[0], counts[-1]) == (1, 2)
    assert counts == sorted(counts)
    assert served.ok("GET", at)["propagating"] is False


def test_cancelling_ends_after_the_frame_in_work(served, gated, session, root):
    at = prompted(served)
    gated.free.clear()
    found = []
    with ThreadPoolExecutor(1) as pool:
        tracked = pool.submit(lambda: found.extend(served.lines(f"{at}/propagate")))
        until(lambda: gated.came == 1)
        served.ok("DELETE", f"{at}/propagate")
        gated.free.set()
        tracked.result()
    assert found[-1] == {"end": "cancelled", "done": 2, "total": 12, "error": None}
    served.ok("DELETE", f"{at}/propagate")
    # and the whole goes on from what was there
    predictor = VideoPredictor(session.bundle, session=session)
    state = predictor.init_state(root / "clip")
    predictor.add_new_points_or_box(state, 0, 1, CLICK["points"], CLICK["labels"])
    *lines, end = served.lines(f"{at}/propagate")
    assert end["end"] == "complete"
    for line, (frame, _, logits) in zip(lines, predictor.propagate_in_video(state), strict=True):
        assert line["frame"] == frame
        assert line["objects"][0]["mask"] == rle_from_mask(np.asarray(logits[0, 0] > 0))


@pytest.mark.parametrize("path", ["propagate", "automatic"])
def test_a_client_that_hangs_up_ends_its_work(served, gated, path):
    at = prompted(served)
    work = served.services.sessions.get(name_of(at))
    if path == "propagate":
        gated.free.clear()
    lines = served.lines(f"{at}/{path}", {"points_per_side": 64} if path == "automatic" else None)
    next(lines)
    lines.close()
    gated.free.set()
    until(lambda: not work.propagating)
    assert work.in_use == 0
    assert served.ok("GET", at)["tracked"] != [[0, 11]]
    *_, end = served.lines(f"{at}/propagate")
    assert end["end"] == "complete"


def test_closing_a_session_ends_its_work(served, gated):
    at = prompted(served)
    gated.free.clear()
    with ThreadPoolExecutor(2) as pool:
        tracked = pool.submit(lambda: list(served.lines(f"{at}/propagate")))
        until(lambda: gated.came == 1)
        closed = pool.submit(lambda: served.ok("DELETE", at))
        until(lambda: served.services.model.waiting == 1)
        gated.free.set()
        closed.result()
        lines = tracked.result()
    assert lines[-1]["end"] == "cancelled"
    assert served.json("GET", at)[0] == 404


def test_a_client_that_takes_nothing_is_left(served):
    work = served.services.sessions.open(served.services.media.sample("shapes"))
    closed = []

    async def lines() -> Any:
        try:
            for number in range(1000):
                yield {"line": number}
        finally:
            closed.append(True)

    async def never(*_: Any) -> Any:
        await asyncio.sleep(3600)

    begin(work)
    started = time.monotonic()
    response = lines_response(work, lines(), 0.2)
    # a browser's tests may have left their event loop running in this thread
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, response({"type": "http"}, never, never)).result()
    assert time.monotonic() - started < 10
    assert (closed, work.propagating, work.in_use) == ([], False, 0) or closed == [True]


def test_work_begins_as_soon_as_the_last_line_is_there(served):
    """Before the answer ends; and the end of that answer does not end the new work."""
    work = served.services.sessions.open(served.services.media.sample("shapes"))
    seen = []

    async def lines() -> Any:
        yield {"done": 1}
        yield {"end": "complete"}

    async def send(message: Any) -> None:
        seen.append(work.propagating)
        if b'"end"' in message.get("body", b""):
            begin(work)

    async def never() -> Any:
        await asyncio.sleep(3600)

    begin(work)
    response = lines_response(work, lines(), 10)
    with ThreadPoolExecutor(1) as pool:
        pool.submit(asyncio.run, response({"type": "http"}, never, send)).result()
    # its start, a line, the last line, its end
    assert seen == [True, True, False, True]
    assert (work.propagating, work.cancelled) == (True, False)


def test_idle_sessions_end_and_used_ones_stay(session):
    with serving(session, idle_seconds=1) as served:
        left, used = served.session(sample="shapes"), served.session(sample="shapes")
        until(lambda: served.ok("GET", used) and served.services.sessions.expired == 1)
        status, answer = served.json("GET", left)
        assert (status, answer["error"]) == (
            404,
            f"no session {name_of(left)}: sessions end after 1 seconds without a request, "
            "open a new one",
        )
        assert b"sam2rt_sessions_expired 1.0" in served.raw("GET", "/metrics")[1]


def test_a_session_in_work_does_not_expire(gated, root):
    with serving(gated, root=root, idle_seconds=1) as served:
        at = prompted(served)
        gated.free.clear()
        with ThreadPoolExecutor(1) as pool:
            tracked = pool.submit(lambda: list(served.lines(f"{at}/propagate")))
            until(lambda: gated.came == 1)
            time.sleep(2)
            gated.free.set()
            assert tracked.result()[-1]["end"] == "complete"


def test_a_server_that_stops_lets_the_frame_in_work_end(gated, root):
    with serving(gated, root=root) as served:
        at = prompted(served)
        gated.free.clear()
        with ThreadPoolExecutor(1) as pool:
            tracked = pool.submit(lambda: list(served.lines(f"{at}/propagate")))
            until(lambda: gated.came == 1)
            served.server.stop()
            gated.free.set()
            lines = tracked.result()
    assert lines[-1] == {"end": "cancelled", "done": 2, "total": 12, "error": None}


def test_a_model_that_is_closed_refuses(gated):
    model = Model(gated)
    model.close()
    with pytest.raises(StoppingError, match="the server stops"):
        model.submit(lambda: None)


def test_a_fault_of_the_server_is_one_line(served, gated, monkeypatch, caplog):
    at = prompted(served)

    def broken(self: VideoSession, prompt: Any) -> Any:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(VideoSession, "prompt", broken)
    assert served.json("POST", f"{at}/prompts", CLICK) == (
        500, {"error": "a fault of the server (ZeroDivisionError): its log has the details"}
    )  # fmt: skip
    assert served.ok("GET", "/v1/health")["status"] == "ok"


@pytest.mark.parametrize("work", ["propagate", "automatic"])
def test_a_fault_in_a_stream_is_told_and_logged(served, gated, monkeypatch, caplog, work):
    at = prompted(served)

    def broken(self: VideoSession, *_: Any) -> Any:
        raise ZeroDivisionError("secret detail")

    monkeypatch.setattr(VideoSession, "propagation" if work == "propagate" else "view", broken)
    caplog.clear()
    end = list(served.lines(f"{at}/{work}"))[-1]
    assert end["end"] == "failed"
    assert end["error"] == "a fault of the server (ZeroDivisionError): its log has the details"
    assert [str(record.exc_info[1]) for record in caplog.records] == ["secret detail"]
