"""Wrong requests: each the right status and one line, and the server goes on."""

from __future__ import annotations

import io
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from served import Client, Served, raw_socket, serving
from square_clip import moving_square

from sam2rt.runtime.media.images import write_image
from sam2rt.runtime.pixels.rle import rle_from_mask
from sam2rt.serving.sessions.media import _SAMPLES
from sam2rt.serving.web.security import Access

CLICK = {"frame": 0, "object": 1, "points": [[20, 42]], "labels": [1]}
MASK = rle_from_mask(np.ones((96, 128), bool))
NOBODY = "/v1/sessions/0123456789abcdef"


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("served") / "root"
    (root / "clip").mkdir(parents=True)
    for t, frame in enumerate(moving_square(4)):
        write_image(root / "clip" / f"{t}.png", frame)
    (root.parent / "secret.png").write_bytes((root / "clip" / "0.png").read_bytes())
    os.symlink(root.parent / "secret.png", root / "link.png")
    (root / "list.m3u8").write_text("#EXTM3U\n#EXTINF:1,\n/etc/passwd\n")
    (root / "notes.txt").write_text("no video")
    return root


@pytest.fixture(scope="module")
def served(session, root: Path) -> Iterator[Served]:
    with serving(
        session, root=root, upload_bytes=1 << 20, objects=2, frames=30, pixels=256 * 256
    ) as server:
        yield server


@pytest.fixture
def at(served: Served) -> Iterator[str]:
    """A session on the clip."""
    at = served.session(path="clip")
    yield at
    served.raw("DELETE", at)


@pytest.fixture(autouse=True)
def no_faults(caplog: pytest.LogCaptureFixture, served: Served) -> Iterator[None]:
    yield
    assert [r for r in caplog.records if r.levelno >= logging.ERROR] == []
    assert served.ok("GET", "/v1/health")["status"] == "ok"


def refused(answer: tuple[int, Any], status: int, part: str) -> None:
    assert answer[0] == status, answer
    assert list(answer[1]) == ["error"]
    line = answer[1]["error"]
    assert "\n" not in line
    assert len(line) <= 300
    assert part in line, line


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "part"),
    [
        ("GET", "/v2/info", None, 404, "no such address"),
        ("GET", "/page/../web/app.py", None, 404, "no such address"),
        ("GET", "/page/%2e%2e/web/app.py", None, 404, "no such address"),
        ("PATCH", "/v1/media", None, 405, "another method"),
        ("POST", "/v1/sessions", b"{", 400, "the body is no JSON"),
        ("POST", "/v1/sessions", b"\xff\xfe", 400, "not UTF-8"),
        ("POST", "/v1/sessions", b"[]", 400, "expected an object"),
        ("POST", "/v1/sessions", b"[" * 100_000, 400, "the body is no JSON"),
        ("POST", "/v1/sessions", b'{"media":"a","media":"b"}', 400, "a key twice"),
        ("POST", "/v1/sessions", b'{"media": NaN}', 400, "no number"),
        ("POST", "/v1/sessions", {}, 400, "expected one of 'media', 'sample' and 'path'"),
        ("POST", "/v1/sessions", {"media": "a", "path": "b"}, 400, "expected one of"),
        ("POST", "/v1/sessions", {"sample": "shapes", "threads": 4}, 400, "no part of it"),
        ("POST", "/v1/sessions", {"sample": 3}, 400, "sample is 3: expected text"),
        ("POST", "/v1/sessions", {"media": "0" * 32}, 404, "upload it first"),
        ("POST", "/v1/sessions", {"sample": "none"}, 404, "the samples are shapes, still"),
        ("POST", "/v1/sessions", {"path": "../secret.png"}, 403, "leads out of the root"),
        ("POST", "/v1/sessions", {"path": "clip/../../secret.png"}, 403, "leads out"),
        ("POST", "/v1/sessions", {"path": "/etc/passwd"}, 403, "leads out of the root"),
        ("POST", "/v1/sessions", {"path": "link.png"}, 403, "leads out of the root"),
        ("POST", "/v1/sessions", {"path": "a\0b"}, 403, "has a NUL"),
        ("POST", "/v1/sessions", {"path": "none.mp4"}, 404, "no file 'none.mp4'"),
        ("POST", "/v1/sessions", {"path": "notes.txt"}, 415, "neither a video nor an image"),
        ("POST", "/v1/sessions", {"path": "list.m3u8"}, 415, "neither a video nor an image"),
        ("GET", NOBODY, None, 404, "no session 0123"),
        ("DELETE", NOBODY, None, 404, "open a new one"),
        ("POST", f"{NOBODY}/prompts", CLICK, 404, "no session"),
        ("POST", f"{NOBODY}/propagate", None, 404, "no session"),
        ("DELETE", f"{NOBODY}/propagate", None, 404, "no session"),
        ("POST", f"{NOBODY}/automatic", None, 404, "no session"),
        ("GET", f"{NOBODY}/masks.zip", None, 404, "no session"),
        ("DELETE", "/v1/media/none", None, 404, "upload it first"),
    ],
)
def test_the_server_is_asked_for_what_it_has_not(served, method, path, body, status, part):
    refused(served.json(method, path, body), status, part)


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "part"),
    [
        ("POST", "/prompts", {**CLICK, "frame": 4}, 404, "the frames are 0 to 3"),
        ("POST", "/prompts", {**CLICK, "frame": -1}, 400, "frame is -1"),
        ("POST", "/prompts", {**CLICK, "object": "1"}, 400, "object is '1'"),
        ("POST", "/prompts", {**CLICK, "object": 1 << 31}, 400, "expected a whole number"),
        ("POST", "/prompts", {"frame": 0}, 400, "lacks 'object'"),
        ("POST", "/prompts", {**CLICK, "points": [[500, 42]]}, 422, "lies outside the image"),
        ("POST", "/prompts", {**CLICK, "points": [[1e300, 42]]}, 400, "a number from"),
        ("POST", "/prompts", {**CLICK, "points": [[1]]}, 400, "a list of 2 to 2"),
        ("POST", "/prompts", {**CLICK, "labels": [1, 0]}, 422, "1 points but 2 labels"),
        ("POST", "/prompts", {**CLICK, "labels": [5]}, 422, "expected 1 (positive) or 0"),
        ("POST", "/prompts", {**CLICK, "labels": [2]}, 422, "expected 1 (positive) or 0"),
        ("POST", "/prompts", {"object": 1, "points": [[2, 2]]}, 422, "without labels"),
        ("POST", "/prompts", {"object": 1}, 422, "no prompt"),
        ("POST", "/prompts", {"object": 1, "box": [50, 50, 10, 10]}, 422, "empty or reversed"),
        ("POST", "/prompts", {"object": 1, "box": [1, 2, 3]}, 400, "a list of 4 to 4"),
        ("POST", "/prompts", {"object": 1, "mask": {**MASK, "size": [9, 9]}}, 422, "frame's size"),
        ("POST", "/prompts", {"object": 1, "mask": {**MASK, "counts": "1"}}, 422, "do not fill"),
        ("POST", "/prompts", {"object": 1, "mask": {**MASK, "counts": "é"}}, 422, "not a run-"),
        ("POST", "/prompts", {**CLICK, "mask": MASK}, 422, "a mask goes alone"),
        ("POST", "/prompts", {**CLICK, "box": [1, 1, 9, 9], "clear": False}, 422, "a box must"),
        ("POST", "/propagate", None, 409, "no object to track"),
        ("POST", "/propagate", {"direction": "up"}, 400, "expected 'forward' or"),
        ("POST", "/propagate", {"frames": 0}, 400, "frames is 0"),
        ("POST", "/automatic", {"frame": 9}, 404, "the frames are 0 to 3"),
        ("POST", "/automatic", {"points_per_side": 1000}, 400, "from 1 to 64"),
        ("GET", "/frames/x", None, 400, "frame is 'x'"),
        ("GET", "/frames/99999999999", None, 400, "expected a whole number"),
        ("GET", "/frames/0?width=1", None, 400, "width is 1"),
        ("GET", "/masks/4", None, 404, "the frames are 0 to 3"),
        ("GET", "/masks.json", None, 409, "no masks yet"),
        ("GET", "/overlay.png", None, 404, "no result overlay.png"),
        ("GET", "/passwd", None, 404, "no result passwd"),
        ("PUT", "/objects/1", {"name": "x"}, 404, "no object 1"),
        ("DELETE", "/objects/1", None, 404, "no object 1"),
        ("DELETE", "/objects/1/prompts/0", None, 404, "no object 1"),
    ],
)
def test_a_session_is_asked_for_what_does_not_fit(served, at, method, path, body, status, part):
    refused(served.json(method, at + path, body), status, part)
    shown = served.ok("GET", at)
    assert (shown["objects"], shown["prompts"], shown["propagating"]) == ([], [], False)


def test_more_than_a_session_takes(served, at):
    for obj_id in (1, 2):
        served.ok("POST", f"{at}/prompts", {**CLICK, "object": obj_id})
    answer = served.json("POST", f"{at}/prompts", {**CLICK, "object": 3})
    refused(answer, 429, "2 objects, the most")
    refused(served.json("PUT", f"{at}/objects/1", {"name": "x" * 101}), 422, "100 characters")
    refused(served.json("PUT", f"{at}/objects/1", {"name": "x" * 201}), 400, "200 characters")
    refused(served.json("POST", f"{at}/propagate", {"start": 4}), 404, "the frames are 0 to 3")
    refused(served.json("POST", f"{at}/prompts", b" " * (9 << 20)), 413, "8388608 bytes")


def test_a_session_on_an_image_does_not_propagate(served):
    at = served.session(sample="still")
    served.ok("POST", f"{at}/prompts", {"object": 1, "points": [[120, 170]], "labels": [1]})
    refused(served.json("POST", f"{at}/propagate"), 409, "use a video")
    served.ok("DELETE", at)


class TestUploads:
    @pytest.mark.parametrize(
        ("content", "part"),
        [
            (b"", "the file is empty"),
            (b"no video at all", "neither a video nor an image"),
            (b"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "neither a video nor an image"),
            (b"ffconcat version 1.0\nfile /etc/passwd\n", "neither a video nor an image"),
            (b"\0\0\0\x18ftypisom" + b"\0" * 500, "the file cannot be read"),
            (b"\x89PNG\r\n\x1a\n" + b"\0" * 500, "the file cannot be read"),
            ((_SAMPLES / "still.png").read_bytes()[:5000], "the file cannot be read"),
        ],
    )
    def test_what_is_no_video(self, served, content, part):
        refused(served.json("POST", "/v1/media?name=clip.mp4", content), 415, part)
        assert served.ok("GET", "/v1/media") == {"media": []}

    def test_what_is_too_large(self, served, tmp_path):
        refused(served.json("POST", "/v1/media", b"x" * ((1 << 20) + 1)), 413, "at most 1048576")
        write_image(tmp_path / "large.png", np.zeros((257, 256, 3), np.uint8))
        content = (tmp_path / "large.png").read_bytes()
        refused(served.json("POST", "/v1/media", content), 413, "65792 pixels, expected at most")
        frames = np.zeros((31, 8, 8, 3), np.uint8)
        images = [Image.fromarray(frame + t) for t, frame in enumerate(frames)]
        images[0].save(tmp_path / "long.gif", save_all=True, append_images=images[1:])
        content = (tmp_path / "long.gif").read_bytes()
        refused(served.json("POST", "/v1/media", content), 413, "31 frames, expected at most 30")

    def test_an_image_is_refused_before_it_is_decoded(self, served, monkeypatch):
        from sam2rt.runtime.media import images

        content = io.BytesIO()
        Image.new("1", (9000, 9000)).save(content, "PNG")
        assert len(content.getvalue()) < 1 << 20
        monkeypatch.setattr(images, "image_pixels", pytest.fail)
        answer = served.json("POST", "/v1/media", content.getvalue())
        refused(answer, 413, "81000000 pixels, expected at most")

    def test_four_gigabytes_are_refused_before_they_come(self, served):
        with raw_socket(served.port) as connection:
            connection.sendall(
                b"POST /v1/media HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4294967296\r\n\r\n"
            )
            answer = b"".join(iter(lambda: connection.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 413 ")
        assert b"4294967296 bytes or more, expected at most 1048576" in answer

    def test_what_comes_in_pieces_is_counted(self, served):
        with raw_socket(served.port) as connection:
            connection.sendall(
                b"POST /v1/media HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n"
            )
            chunk = b"40000\r\n" + b"x" * 0x40000 + b"\r\n"
            answer = b""
            try:
                for _ in range(8):
                    connection.sendall(chunk)
                connection.sendall(b"0\r\n\r\n")
            except OSError:
                pass
            answer = connection.recv(4096)
        assert answer.startswith(b"HTTP/1.1 413 ")


def test_a_slow_upload_and_one_too_many(session):
    with serving(session, upload_seconds=1, uploads=1) as served, raw_socket(served.port) as slow:
        slow.sendall(b"POST /v1/media HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99\r\n\r\nx")
        until = time.monotonic() + 10
        while served.services.media._uploads == 0 and time.monotonic() < until:
            time.sleep(0.01)
        refused(served.json("POST", "/v1/media", b"x"), 429, "1 uploads at once, the most")
        answer = b"".join(iter(lambda: slow.recv(4096), b""))
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"the body took more than 1 seconds" in answer
        refused(served.json("POST", "/v1/media", b"x"), 415, "neither a video")


def test_sessions_beyond_the_limit(session):
    with serving(session, sessions=2) as served:
        first = served.session(sample="shapes")
        served.session(sample="still")
        refused(
            served.json("POST", "/v1/sessions", {"sample": "still"}), 429, "2 sessions are open"
        )
        served.ok("DELETE", first)
        served.session(sample="shapes")
        refused(served.json("POST", "/v1/sessions", {"path": "x"}), 403, "start it with --root")


def test_more_than_a_session_may_remember(session):
    config = session.bundle.model
    memory = config.mem_dim * config.embed_size**2
    each = 4 * (config.mask_size**2 + memory + config.hidden_dim)
    with serving(session, state_bytes=24 * each) as served:
        at = served.session(sample="shapes")
        answer = served.json("POST", f"{at}/prompts", {**CLICK, "object": 1})
        assert answer[0] == 200
        answer = served.json("POST", f"{at}/prompts", {**CLICK, "object": 2})
        refused(answer, 413, "2 objects on 24 frames may take")


@pytest.fixture(scope="module")
def guarded(session) -> Iterator[Served]:
    access = Access.of("0.0.0.0", "correct-horse", ("http://friend.example",))
    with serving(session, access=access) as served:
        yield served


class TestAccess:
    @pytest.mark.parametrize("path", ["/v1/info", "/metrics", "/openapi.json", "/v1/none"])
    def test_nothing_without_the_token(self, guarded, path):
        refused(guarded.json("GET", path), 401, "the token is missing or wrong")
        wrong = Client(guarded.port, "wrong-horse")
        refused(wrong.json("GET", path), 401, "the token is missing or wrong")
        refused(guarded.json("GET", f"{path}?token=wrong"), 401, "the token is missing or wrong")

    def test_the_token_in_either_place(self, guarded):
        assert Client(guarded.port, "correct-horse").json("GET", "/v1/info")[0] == 200
        assert guarded.json("GET", "/v1/info?token=correct-horse")[0] == 200
        assert guarded.json("GET", "/v1/health")[0] == 200

    @pytest.mark.parametrize(
        ("headers", "status"),
        [
            ({"Origin": "http://evil.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Origin": "http://friend.example"}, 200),
            ({}, 200),
        ],
    )
    def test_pages_of_others(self, guarded, headers, status):
        path = "/v1/info?token=correct-horse"
        found, content, answered = guarded.raw("GET", path, headers=headers)
        assert found == status, content
        allowed = answered.get("access-control-allow-origin")
        assert allowed == ("http://friend.example" if "friend" in str(headers) else None)

    def test_a_name_that_leads_here_by_rebinding(self, served):
        for host in ("evil.example", "evil.example:80", "", "[::1", "127.0.0.1.evil.example"):
            status, content, headers = served.raw("GET", "/v1/info", headers={"Host": host})
            refused((status, json.loads(content)), 403, "is not this server")
            assert "access-control-allow-origin" not in headers
        for host in ("localhost", f"127.0.0.1:{served.port}", "[::1]:80"):
            assert served.raw("GET", "/v1/info", headers={"Host": host})[0] == 200
        own = {"Origin": f"http://127.0.0.1:{served.port}"}
        assert served.raw("GET", "/v1/info", headers=own)[0] == 200
        other = {"Origin": "http://localhost:1"}
        assert served.raw("GET", "/v1/info", headers=other)[0] == 403

    @pytest.mark.parametrize(
        ("host", "token", "origins", "part"),
        [
            ("0.0.0.0", None, (), "give --token"),
            ("example.org", None, (), "give --token"),
            ("127.0.0.1", "short", (), "at least 8 letters"),
            ("127.0.0.1", "with space in", (), "letters, digits"),
            ("127.0.0.1", None, ("*",), "expected one such as"),
            ("127.0.0.1", None, ("http://a.example/x",), "expected one such as"),
        ],
    )
    def test_a_server_that_would_be_open(self, host, token, origins, part):
        with pytest.raises(ValueError, match=part):
            Access.of(host, token, origins)


def test_a_refused_body_is_heard_out_when_it_is_short(served):
    """Closed with bytes on their way, a connection is reset before its answer was read."""
    head = f"POST {NOBODY}/prompts HTTP/1.1\r\nHost: localhost\r\nContent-Length: 20\r\n\r\n"
    with raw_socket(served.port) as connection:
        for _ in range(3):
            connection.sendall(head.encode())
            time.sleep(0.05)
            connection.sendall(b'{"object": 1.000000}')
            answer = connection.recv(4096)
            while b"}" not in answer:
                answer += connection.recv(4096)
            assert answer.startswith(b"HTTP/1.1 404 ")
            assert b"connection: close" not in answer


def test_garbage_instead_of_a_request(served):
    for content in (b"\0\1\2\3\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"GET /" + b"a" * (70 << 10)):
        with raw_socket(served.port) as connection:
            try:
                connection.sendall(content)
                answer = connection.recv(4096)
            except ConnectionError:
                answer = b""
        assert answer[:13] in (b"HTTP/1.1 400 ", b"HTTP/1.1 403 ", b"")
