"""Requests in the form of Meta's page, answers checked field by field against its types.

The operations name the fields that the page reads: its session, its clicks, its gallery, its
upload. The stream is read by the rules of its reader: blank lines, boundary, headers, as many bytes
as announced, and nothing behind the last part.
"""

from __future__ import annotations

import base64
import json
import re
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from served import Served, serving

from sam2rt import VideoPredictor, open_frames
from sam2rt.runtime.pixels.rle import mask_from_rle, rle_from_mask
from sam2rt.serving.meta.routes import meta_routes
from sam2rt.serving.sessions.media import _SAMPLES
from sam2rt.serving.web.security import Access

CLIP = _SAMPLES / "shapes.mp4"
MASKS = "frameIndex rleMaskList { objectId rleMask { counts size } }"
VIDEO = "id path posterPath url posterUrl height width __typename"


def mutation(kind: str, fields: str) -> str:
    """A mutation as the page writes it: named, with one variable `input`."""
    field = kind[0].lower() + kind[1:]
    return f"mutation {kind}($input: {kind}Input!) {{ {field}(input: $input) {{ {fields} }} }}"


START = mutation("StartSession", "sessionId")
CLOSE = mutation("CloseSession", "success")
POINTS = mutation("AddPoints", MASKS)
CLEAR = mutation("ClearPointsInFrame", MASKS)
CLEAR_ALL = mutation("ClearPointsInVideo", "success")
REMOVE = mutation("RemoveObject", MASKS)
CANCEL = mutation("CancelPropagateInVideo", "success")
UPLOAD = f"mutation Upload($file: Upload!) {{ uploadVideo(file: $file) {{ {VIDEO} }} }}"
NO_UPLOAD = 'mutation { uploadVideo(file: "x") { path } }'
EDGES = f"edges {{ node {{ {VIDEO} }} cursor }}"
GALLERY = f"query Gallery {{ videos {{ {EDGES} pageInfo {{ endCursor hasNextPage }} }} }}"
DEFAULT = "query Default { defaultVideo { path posterUrl url height width id } }"
PAGE = "http://localhost:7262"


@pytest.fixture(scope="module")
def served(session) -> Iterator[Served]:
    access = Access.of("127.0.0.1", None, (PAGE,))
    with serving(session, access=access, extra=lambda _: meta_routes()) as server:
        yield server


def asked(served: Served, query: str, **variables: Any) -> dict[str, Any]:
    """Data and errors of an operation, sent as the page does."""
    body = json.dumps({"query": query, "variables": variables}).encode()
    headers = {"Content-Type": "application/json", "Origin": PAGE}
    status, content, answered = served.raw("POST", "/graphql", body, headers)
    assert status == 200, content
    assert answered["content-type"] == "application/json"
    assert answered["access-control-allow-origin"] == PAGE
    assert answered["access-control-allow-credentials"] == "true"
    return json.loads(content)


def data(served: Served, query: str, **variables: Any) -> Any:
    answer = asked(served, query, **variables)
    assert "errors" not in answer, answer
    (value,) = answer["data"].values()
    return value


def uploaded(served: Served, content: bytes, name: str = "clip.mp4") -> dict[str, Any]:
    """An upload as a form, in the order in which the page appends its parts."""
    operations = json.dumps({"query": UPLOAD, "variables": {"file": None}})
    parts = [("operations", operations.encode()), ("map", b'{"file":["variables.file"]}')]
    body = b"".join(
        b'--xyz\r\nContent-Disposition: form-data; name="%s"\r\n\r\n%s\r\n' % (key.encode(), value)
        for key, value in parts
    )
    body += (
        b'--xyz\r\nContent-Disposition: form-data; name="file"; filename="%s"\r\n'
        b"Content-Type: video/mp4\r\n\r\n%s\r\n--xyz--\r\n" % (name.encode(), content)
    )
    headers = {"Content-Type": "multipart/form-data; boundary=xyz", "Origin": PAGE}
    status, answer, _ = served.raw("POST", "/graphql", body, headers)
    assert status == 200, answer
    return json.loads(answer)


def parts_of(content: bytes) -> list[tuple[dict[str, str], Any]]:
    """The parts of a stream, read by the page's rules."""
    found, at = [], 0
    while at < len(content):
        while content[at : at + 2] == b"\r\n":
            at += 2
        assert content[at : at + 9] == b"--frame\r\n"
        at += 9
        headers = {}
        while (line := content[at : content.index(b"\r\n", at)].decode()) != "":
            name, _, value = line.partition(": ")
            headers[name] = value
            at += len(line) + 2
        at += 2
        length = int(headers["Content-Length"])
        found.append((headers, json.loads(content[at : at + length])))
        at += length
    return found


def typed(masks: dict[str, Any], size: list[int]) -> dict[int, np.ndarray]:
    """The masks by object of an RLEMaskListOnFrame, each field of its type."""
    assert list(masks) == ["frameIndex", "rleMaskList"]
    assert type(masks["frameIndex"]) is int
    found = {}
    for item in masks["rleMaskList"]:
        assert list(item) == ["objectId", "rleMask"]
        assert type(item["objectId"]) is int
        assert list(item["rleMask"]) == ["counts", "size"]
        assert type(item["rleMask"]["counts"]) is str
        assert item["rleMask"]["size"] == size
        found[item["objectId"]] = mask_from_rle(item["rleMask"])
    return found


def test_the_gallery_and_its_files(served):
    found = data(served, GALLERY)
    (edge,) = found["edges"]
    base = f"http://127.0.0.1:{served.port}"
    assert edge["node"] == {
        "id": base64.b64encode(b"Video:gallery/shapes.mp4").decode(),
        "path": "gallery/shapes.mp4",
        "posterPath": "posters/shapes.jpg",
        "url": f"{base}/gallery/shapes.mp4",
        "posterUrl": f"{base}/posters/shapes.jpg",
        "height": 256,
        "width": 256,
        "__typename": "Video",
    }
    assert found["pageInfo"] == {"endCursor": edge["cursor"], "hasNextPage": False}
    assert data(served, DEFAULT)["path"] == "gallery/shapes.mp4"
    status, content, headers = served.raw("GET", "/gallery/shapes.mp4")
    assert (status, content, headers["content-type"]) == (200, CLIP.read_bytes(), "video/mp4")
    assert headers["cross-origin-resource-policy"] == "cross-origin"
    status, content, _ = served.raw("GET", "/gallery/shapes.mp4", headers={"Range": "bytes=4-7"})
    assert (status, content) == (206, b"ftyp")
    status, content, headers = served.raw("GET", "/posters/shapes.jpg")
    assert (status, content[:3], headers["content-type"]) == (200, b"\xff\xd8\xff", "image/jpeg")
    assert served.raw("GET", "/healthy")[:2] == (200, b"OK")


def test_a_whole_session_of_the_page(session, served):
    predictor = VideoPredictor(session.bundle, session=session)
    state = predictor.init_state(CLIP)
    started = data(served, START, input={"path": "gallery/shapes.mp4"})
    assert list(started) == ["sessionId"]
    (session_id,) = started.values()
    assert re.fullmatch(r"[0-9a-f]{32}", session_id)

    def click(obj_id: int, frame: int, points: list, labels: list) -> None:
        variables = {
            "sessionId": session_id, "frameIndex": frame, "objectId": obj_id, "labels": labels,
            "points": points, "clearOldPoints": True,
        }  # fmt: skip
        found = data(served, POINTS, input=variables)
        pixels = [[x * 256, y * 256] for x, y in points]
        _, ids, logits = predictor.add_new_points_or_box(state, frame, obj_id, pixels, labels)
        masks = typed(found, [256, 256])
        assert (found["frameIndex"], list(masks)) == (frame, ids)
        for mask, plane in zip(masks.values(), logits, strict=True):
            np.testing.assert_array_equal(mask, plane[0] > 0)

    click(0, 0, [[0.5, 0.5]], [1])
    click(1, 0, [[0.25, 0.75], [0.1, 0.1]], [1, 0])
    click(0, 12, [[0.3, 0.3]], [1])

    body = {"session_id": session_id, "start_frame_index": 12}
    status, content, headers = served.raw("POST", "/propagate_in_video", json.dumps(body).encode())
    assert (status, headers["content-type"]) == (
        200, "multipart/x-savi-stream; boundary=frame"
    )  # fmt: skip
    parts = parts_of(content)
    steps = list(predictor.propagate_in_video(state, 12))
    steps += predictor.propagate_in_video(state, 12, reverse=True)
    assert len(parts) == len(steps) == 12 + 13
    for (part, body), (frame, ids, logits) in zip(parts, steps, strict=True):
        assert part["Content-Type"] == "application/json; charset=utf-8"
        named = (part["Frame-Current"], part["Frame-Total"], part["Mask-Type"])
        assert named == ("-1", "-1", "RLE[]")
        assert list(body) == ["frame_index", "results"]
        assert body["frame_index"] == frame
        assert [result["object_id"] for result in body["results"]] == ids
        for result, plane in zip(body["results"], logits, strict=True):
            assert result["mask"] == rle_from_mask(np.asarray(plane[0] > 0))

    # the first click goes, the object stays for its other one
    found = data(served, CLEAR, input={"sessionId": session_id, "frameIndex": 0, "objectId": 0})
    _, ids, logits = predictor.clear_all_prompts_in_frame(state, 0, 0)
    masks = typed(found, [256, 256])
    assert list(masks) == ids
    np.testing.assert_array_equal(masks[0], logits[0, 0] > 0)
    # the other goes, too: the page has to see the mask go
    found = data(served, CLEAR, input={"sessionId": session_id, "frameIndex": 12, "objectId": 0})
    masks = typed(found, [256, 256])
    assert set(masks) == {0, 1}
    assert not masks[0].any()
    left = data(served, REMOVE, input={"sessionId": session_id, "objectId": 1})
    assert [typed(frame, [256, 256]) for frame in left] == [{}]
    assert data(served, CLEAR_ALL, input={"sessionId": session_id}) == {"success": True}
    assert data(served, CANCEL, input={"sessionId": session_id}) == {"success": True}
    assert data(served, CLOSE, input={"sessionId": session_id}) == {"success": True}
    assert data(served, CLOSE, input={"sessionId": session_id}) == {"success": False}


def test_an_upload_is_a_video_of_the_page(served, tmp_path):
    answer = uploaded(served, CLIP.read_bytes())
    video = answer["data"]["uploadVideo"]
    assert re.fullmatch(r"uploads/[0-9a-f]{32}\.mp4", video["path"])
    assert (video["width"], video["height"], video["__typename"]) == (256, 256, "Video")
    assert served.raw("GET", "/" + video["path"])[1] == CLIP.read_bytes()
    assert [edge["node"]["path"] for edge in data(served, GALLERY)["edges"]][1:] == [video["path"]]
    session_id = data(served, START, input={"path": video["path"]})["sessionId"]
    assert served.ok("GET", f"/v1/sessions/{session_id}")["num_frames"] == 24
    # what browsers may not decode comes back as one that they do
    gif = tmp_path / "clip.gif"
    from PIL import Image

    images = [Image.fromarray(frame) for frame in open_frames(CLIP)]
    images[0].save(gif, save_all=True, append_images=images[1:], duration=40)
    video = uploaded(served, gif.read_bytes(), "clip.gif")["data"]["uploadVideo"]
    (tmp_path / "back.mp4").write_bytes(served.raw("GET", "/" + video["path"])[1])
    assert (tmp_path / "back.mp4").read_bytes()[4:8] == b"ftyp"
    with open_frames(tmp_path / "back.mp4") as frames:
        assert (frames.num_frames, frames.measure()) == (24, (256, 256))


def test_an_upload_is_cut_as_asked(served, tmp_path):
    query = (
        "mutation Upload($file: Upload!) { uploadVideo(file: $file, startTimeSec: 0.2, "
        "durationTimeSec: 0.4) { path } }"
    )
    operations = json.dumps({"query": query, "variables": {"file": None}}).encode()
    body = b"".join(
        b'--xyz\r\nContent-Disposition: form-data; name="%s"%s\r\n\r\n%s\r\n' % part
        for part in (
            (b"operations", b"", operations),
            (b"map", b"", b'{"file": ["variables.file"]}'),
            (b"file", b'; filename="a.mp4"', CLIP.read_bytes()),
        )
    )
    headers = {"Content-Type": "multipart/form-data; boundary=xyz"}
    _, content, _ = served.raw("POST", "/graphql", body + b"--xyz--\r\n", headers)
    path = json.loads(content)["data"]["uploadVideo"]["path"]
    (tmp_path / "cut.mp4").write_bytes(served.raw("GET", "/" + path)[1])
    with open_frames(tmp_path / "cut.mp4") as cut, open_frames(CLIP) as whole:
        assert cut.num_frames == 10
        apart = [np.abs(cut.read(0).astype(int) - whole.read(t)).mean() for t in range(24)]
        assert np.argmin(apart) == 5


def test_a_propagation_is_cancelled(served):
    session_id = data(served, START, input={"path": "gallery/shapes.mp4"})["sessionId"]
    variables = {
        "sessionId": session_id, "frameIndex": 0, "objectId": 0, "labels": [1],
        "points": [[0.5, 0.5]], "clearOldPoints": True,
    }  # fmt: skip
    data(served, POINTS, input=variables)
    work = served.services.sessions.get(session_id)
    # the model is kept busy until the page has cancelled
    hold = threading.Event()
    content: list[bytes] = []
    body = json.dumps({"session_id": session_id, "start_frame_index": 0}).encode()
    page = threading.Thread(
        target=lambda: content.append(served.raw("POST", "/propagate_in_video", body)[1])
    )
    served.services.model.submit(hold.wait)
    page.start()
    while not work.propagating:
        pass
    assert data(served, CANCEL, input={"sessionId": session_id}) == {"success": True}
    hold.set()
    page.join(30)
    assert len(parts_of(content[0])) <= 1


@pytest.mark.parametrize(
    ("query", "variables", "part"),
    [
        (START, {"path": "gallery/none.mp4"}, "no sample none"),
        (START, {"path": "../../etc/passwd"}, "expected uploads/ID.mp4 or gallery/NAME.mp4"),
        (START, {"path": "uploads/../x.mp4"}, "expected uploads/ID.mp4"),
        (START, {"path": "gallery/still.mp4"}, "is an image"),
        (CANCEL, {"sessionId": "none"}, "no session none"),
        (CLEAR_ALL, {"sessionId": "none"}, "no session none"),
        (REMOVE, {"sessionId": "none", "objectId": 1}, "no session none"),
        (REMOVE, {"sessionId": "none", "objectId": -1}, "objectId is -1"),
        (CLEAR, {"sessionId": "x", "frameIndex": -1, "objectId": 0}, "frameIndex is -1"),
        (CLOSE, {}, "required field 'sessionId'"),
        ("query { none }", {}, "Cannot query field 'none'"),
        ("mutation {", {}, "Syntax Error"),
        ("{" + "a " * 3000 + "}", {}, "tokens"),
        (NO_UPLOAD, {}, "no upload"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_an_error_of_graphql(served, query, variables, part):
    answer = asked(served, query, **({"input": variables} if "$input" in query else {}))
    assert answer["data"] is None
    (error,) = answer["errors"]
    assert part in error["message"]
    assert "\n" not in error["message"]


@pytest.mark.parametrize(
    ("body", "kind", "status", "part"),
    [
        (b"{", "application/json", 400, "the body is no JSON"),
        (b"[" * 100_000, "application/json", 400, "the body is no JSON"),
        (b'{"variables": {}}', "application/json", 400, "lacks 'query'"),
        (b'{"query": 3}', "application/json", 400, "query is 3"),
        (b"--xyz--\r\n", "multipart/form-data; boundary=xyz", 400, "expected 'operations'"),
        (b"garbage", "multipart/form-data; boundary=xyz", 400, ""),
        (b"", "multipart/form-data", 400, ""),
    ],
)
def test_what_is_no_operation_is_refused(served, body, kind, status, part):
    found, content, _ = served.raw("POST", "/graphql", body, {"Content-Type": kind})
    assert found == status
    assert part in json.loads(content)["error"]


def test_streams_that_cannot_begin(served):
    for body, status in (
        ({"session_id": "none"}, 404), ({}, 400), ({"session_id": 1}, 400),
        ({"session_id": "none", "start_frame_index": -1}, 400),
    ):  # fmt: skip
        assert served.json("POST", "/propagate_in_video", body)[0] == status
    session_id = data(served, START, input={"path": "gallery/shapes.mp4"})["sessionId"]
    status, answer = served.json("POST", "/propagate_in_video", {"session_id": session_id})
    assert (status, answer["error"][:18]) == (409, "no object to track")


def test_there_is_no_such_api_unless_asked_for(session):
    with serving(session) as served:
        assert served.json("POST", "/graphql", {"query": GALLERY})[0] == 404
