"""Live streams: the masks of the stream tracker, the newest frame wins, what is wrong is told."""

from __future__ import annotations

import io
import json
import struct
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
from PIL import Image
from served import Served, serving
from square_clip import moving_square
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from sam2rt import StreamTracker
from sam2rt.runtime.pixels.rle import mask_from_rle, rle_from_mask
from sam2rt.runtime.session import SessionWrapper
from sam2rt.serving.web.security import Access

CLICK = {"points": [[20, 42]], "labels": [1]}
PROMPT = {"prompt": {"object": 1, **CLICK}}


class Gated(SessionWrapper):
    """Holds the encoder back until it may go on."""

    def __init__(self, session: Any) -> None:
        super().__init__(session)
        self.free, self.held = threading.Event(), threading.Event()
        self.free.set()

    def run(self, graph: str, inputs: Any, into: Any = None) -> dict[str, Any]:
        if graph == "image_encoder" and not self.free.is_set():
            self.held.set()
            assert self.free.wait(20)
        return super().run(graph, inputs, into)


@pytest.fixture(scope="module")
def gated(session) -> Gated:
    return Gated(session)


@pytest.fixture(scope="module")
def served(gated) -> Iterator[Served]:
    with serving(gated, sessions=2, objects=2, pixels=200 * 200) as server:
        yield server


@pytest.fixture(scope="module")
def frames() -> list[bytes]:
    return [encoded(frame, "PNG") for frame in moving_square(8)]


def encoded(frame: np.ndarray, kind: str) -> bytes:
    content = io.BytesIO()
    Image.fromarray(frame).save(content, kind, quality=90)
    return content.getvalue()


@contextmanager
def stream(served: Served, query: str = "") -> Iterator[ClientConnection]:
    address = f"ws://127.0.0.1:{served.port}/v1/live{query}"
    with connect(address, compression=None) as connection:
        connection.hello = json.loads(connection.recv(20))
        yield connection


def unpacked(content: bytes) -> dict[str, Any]:
    """The binary form, read as the guide says."""
    frame, dropped, width, height, count = struct.unpack_from("<IIIIH", content)
    at, objects = 18, []
    for _ in range(count):
        obj_id, score, length = struct.unpack_from("<IfI", content, at)
        counts = content[at + 12 : at + 12 + length].decode("ascii")
        objects.append((obj_id, score, {"size": [height, width], "counts": counts}))
        at += 12 + length
    assert at == len(content)
    return {"frame": frame, "dropped": dropped, "objects": objects}


@pytest.mark.parametrize("form", ["binary", "json"])
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_masks_are_those_of_the_stream_tracker(session, served, form, kind):
    clip = [encoded(frame, kind) for frame in moving_square(6)]
    tracker = StreamTracker(session.bundle, session=session, non_overlap_masks=True)
    mask = np.zeros((96, 128), bool)
    mask[60:80, 60:100] = True
    with stream(served, f"?format={form}&no_overlap=true") as live:
        assert live.hello["model"] == session.bundle.model.name
        assert live.hello["image_size"] == session.bundle.model.image_size
        for t, content in enumerate(clip):
            if t == 1:
                live.send(json.dumps(PROMPT))
                tracker.add_points(1, **CLICK)
            if t == 2:
                prompt = {"prompt": {"object": 6, "mask": rle_from_mask(mask)}}
                live.send(json.dumps(prompt))
                tracker.add_mask(6, mask)
            if t == 4:
                live.send('{"remove": 1}')
                tracker.remove_object(1)
            live.send(content)
            expected = tracker.step(np.array(Image.open(io.BytesIO(content)).convert("RGB")))
            if form == "json":
                found = json.loads(live.recv(20))
                objects = [(o["object"], o["score"], o["mask"]) for o in found["objects"]]
                assert (found["width"], found["height"]) == (128, 96)
            else:
                found = unpacked(live.recv(20))
                objects = found["objects"]
            assert (found["frame"], found["dropped"]) == (t, 0)
            assert [obj_id for obj_id, _, _ in objects] == expected.obj_ids
            for (_, score, rle), wanted, number in zip(
                objects, expected.each_mask(), expected.object_scores, strict=True
            ):
                np.testing.assert_array_equal(mask_from_rle(rle), wanted)
                assert score == float(number)


def test_the_newest_frame_wins_and_keeps_what_was_asked_for_others(session, served, gated, frames):
    tracker = StreamTracker(session.bundle, session=session)
    with stream(served, "?format=json") as live:
        live.send(json.dumps(PROMPT))
        gated.held.clear()
        gated.free.clear()
        live.send(frames[0])
        assert gated.held.wait(20)
        # three come while the first is in work; what was asked for the second holds for the last
        live.send('{"prompt": {"object": 2, "box": [90, 20, 120, 60]}}')
        for content in frames[1:4]:
            live.send(content)
        # an answer to something else shows that all have come
        live.send("no JSON")
        assert json.loads(live.recv(20))["status"] == 400
        gated.free.set()
        first, last = json.loads(live.recv(20)), json.loads(live.recv(20))
        tracker.add_points(1, **CLICK)
        tracker.step(moving_square(8)[0])
        tracker.skip_to(3)
        tracker.add_box(2, [90, 20, 120, 60])
        expected = tracker.step(moving_square(8)[3])
        assert (first["frame"], first["dropped"]) == (0, 0)
        assert (last["frame"], last["dropped"]) == (3, 2)
        assert [item["object"] for item in last["objects"]] == [1, 2]
        for item, rle in zip(last["objects"], expected.rles(), strict=True):
            assert item["mask"] == rle


@pytest.mark.parametrize(
    ("message", "status", "part"),
    [
        ("[]", 400, "expected an object"),
        ("{}", 400, "expected one of 'prompt', 'remove' and 'reset'"),
        ('{"prompt": {"object": 1}, "reset": true}', 400, "expected one of"),
        ('{"reset": false}', 400, "expected True"),
        ('{"prompt": {"object": -1}}', 400, "a whole number from 0"),
        ('{"prompt": {"object": 1}}', 422, "no prompt"),
        ('{"prompt": {"object": 1, "box": [9, 9, 1, 1]}}', 422, "empty or reversed"),
        ('{"prompt": {"object": 1, "points": [[500, 9]], "labels": [1]}}', 422, "lies outside"),
        ('{"remove": 7}', 422, "no object 7"),
        (b"no picture", 422, "the frame"),
        (b"\xff\xd8\xff" + b"\0" * 99, 422, "the frame"),
        (encoded(np.zeros((300, 300, 3), np.uint8), "PNG"), 413, "90000 pixels, expected"),
        (encoded(np.zeros((50, 50, 3), np.uint8), "GIF"), 422, "the frame"),
        (encoded(np.zeros((50, 50, 3), np.uint8), "PNG"), 422, "earlier ones were 128 x 96"),
    ],
)
def test_what_is_wrong_is_told_and_the_stream_goes_on(served, frames, message, status, part):
    with stream(served, "?format=json") as live:
        live.send(frames[0])
        assert json.loads(live.recv(20))["objects"] == []
        live.send(message)
        live.send(frames[1]) if isinstance(message, str) else None
        answers = [json.loads(live.recv(20))]
        if isinstance(message, str):
            answers.append(json.loads(live.recv(20)))
            assert answers[1]["objects"] == []
        assert (list(answers[0]), answers[0]["status"]) == (["error", "status"], status)
        assert part in answers[0]["error"]
        live.send(json.dumps(PROMPT))
        live.send(frames[2])
        assert json.loads(live.recv(20))["objects"][0]["object"] == 1


def test_a_reset_takes_frames_of_another_size(served, frames):
    with stream(served, "?format=json") as live:
        live.send(frames[0])
        live.recv(20)
        live.send('{"reset": true}')
        live.send(encoded(np.zeros((50, 60, 3), np.uint8), "PNG"))
        found = json.loads(live.recv(20))
        assert (found["frame"], found["width"], found["height"]) == (1, 60, 50)


def test_objects_beyond_the_limit(served, frames):
    with stream(served, "?format=json") as live:
        for obj_id in (1, 2, 3):
            live.send(json.dumps({"prompt": {"object": obj_id, **CLICK}}))
        live.send(frames[0])
        error, found = json.loads(live.recv(20)), json.loads(live.recv(20))
        assert (error["status"], error["error"]) == (
            429, "the stream has 2 objects, the most it may have"
        )  # fmt: skip
        assert [item["object"] for item in found["objects"]] == [1, 2]


def closed(served: Served, query: str, **options: Any) -> tuple[int, str]:
    """Code and reason with which the server closes a stream at once."""
    address = f"ws://127.0.0.1:{served.port}/v1/live{query}"
    with connect(address, compression=None, **options) as live, pytest.raises(ConnectionClosed):
        live.recv(20)
    return live.close_code, live.close_reason


def test_streams_that_are_not_begun(served, session):
    assert closed(served, "?format=xml") == (1008, "format is 'xml': expected binary or json")
    assert closed(served, "?no_overlap=1") == (1008, "no_overlap is '1': expected true or false")
    code, reason = closed(served, "", origin="http://evil.example")
    assert (code, reason[:36]) == (1008, "a page of 'http://evil.example' may ")
    with stream(served), stream(served):
        assert closed(served, "") == (
            1008, "2 sessions are open, the most there may be: close one, or wait"
        )  # fmt: skip
    until = time.monotonic() + 10
    while len(served.services.sessions) and time.monotonic() < until:
        time.sleep(0.01)
    with stream(served):
        pass
    access = Access.of("0.0.0.0", "correct-horse")
    with serving(session, access=access) as guarded:
        code, reason = closed(guarded, "?token=wrong")
        assert (code, reason[:36]) == (1008, "the token is missing or wrong: send ")
        with stream(guarded, "?token=correct-horse"):
            pass


def test_an_idle_stream_is_closed(session):
    with serving(session, idle_seconds=1) as served, stream(served) as live:
        with pytest.raises(ConnectionClosed):
            live.recv(20)
        assert (live.close_code, live.close_reason) == (
            1008, "no message in 1 seconds: connect again"
        )  # fmt: skip


def test_a_server_that_stops_closes_its_streams(session, frames):
    with serving(session) as served, stream(served) as live:
        live.send(frames[0])
        live.recv(20)
        served.server.stop()
        with pytest.raises(ConnectionClosed):
            live.recv(20)
        assert live.close_code == 1012
