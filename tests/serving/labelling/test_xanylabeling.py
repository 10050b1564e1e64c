"""Requests as X-AnyLabeling's client sends them to its server; its polygons hold our masks."""

from __future__ import annotations

import base64
import http.client
import io
import json
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from PIL import Image
from served import Served, serving

from sam2rt import ImagePredictor, VideoPredictor
from sam2rt.serving.labelling.outlines import edges_of, mask_of_polygon
from sam2rt.serving.labelling.xanylabeling import xanylabeling_routes
from sam2rt.serving.web.security import Access

EXACT = {"epsilon_factor": 0, "conf_threshold": 0.0, "iou_threshold": 0.0}


@pytest.fixture(scope="module")
def served(model) -> Iterator[Served]:
    with serving(model, extra=lambda _: xanylabeling_routes(), sessions=3) as server:
        yield server


def uri(frame: Any, **options: Any) -> str:
    content = io.BytesIO()
    Image.fromarray(frame).save(content, "PNG", **options)
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode()


def inside(mask: Any) -> list[float]:
    rows, columns = np.nonzero(mask)
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return [float(columns[nearest]), float(rows[nearest])]


def drawn(shapes: list[dict[str, Any]], size: tuple[int, int]) -> Any:
    """The pixels of polygons that are closed by their first point."""
    pixels = np.zeros(size, bool)
    for shape in shapes:
        assert (shape["label"], shape["shape_type"]) == ("AUTOLABEL_OBJECT", "polygon")
        assert shape["points"][0] == shape["points"][-1]
        pixels |= mask_of_polygon(shape["points"], size)
    return pixels


def predicted(served: Served, frame: Any, *marks: dict[str, Any], **params: Any) -> Any:
    body = {
        "model": "sam2rt",
        "image": uri(frame),
        "params": {**EXACT, "marks": list(marks), **params},
    }
    answer = served.ok("POST", "/v1/predict", body)
    assert answer["success"] is True
    assert answer["data"]["description"] == ""
    return answer["data"]["shapes"]


def point(xy: list[float], label: int = 1) -> dict[str, Any]:
    return {"type": "point", "data": xy, "label": label}


def test_clicks_on_an_image(served, clip, segmented):
    first, second = inside(clip.labels[0] == 2), inside(clip.labels[0] == 1)
    shapes = predicted(served, clip.frames[0], point(first), point(second, 0))
    expected, score = segmented([first, second], [1, 0])
    np.testing.assert_array_equal(drawn(shapes, expected.shape), expected)
    assert shapes[0]["score"] == pytest.approx(score)
    true = clip.labels[0] == 2
    assert (expected & true).sum() / (expected | true).sum() > 0.9


def test_boxes_on_an_image(served, clip, model):
    """One box joins the clicks, several are an object each; they are drawn from any corner."""
    boxes = [edges_of(clip.labels[0] == number) for number in (1, 2)]
    marks = [{"type": "rectangle", "data": [*box[2:], *box[:2]], "label": 1} for box in boxes]
    image = ImagePredictor(model.bundle, session=model)
    image.set_image(clip.frames[0])
    masks = [image.predict(box=box, multimask_output=False)[0][0] for box in boxes]
    shapes = predicted(served, clip.frames[0], *marks)
    np.testing.assert_array_equal(drawn(shapes, masks[0].shape), masks[0] | masks[1])
    click = inside(clip.labels[0] == 2)
    joined = image.predict([click], [1], box=boxes[1], multimask_output=False)[0][0]
    shapes = predicted(served, clip.frames[0], marks[1], point(click))
    np.testing.assert_array_equal(drawn(shapes, joined.shape), joined)


def test_the_fineness_and_the_threshold_of_the_client_count(served, clip, segmented):
    click = inside(clip.labels[0] == 2)
    expected, score = segmented([click], [1])
    (fine,) = predicted(served, clip.frames[0], point(click))
    (coarse,) = predicted(served, clip.frames[0], point(click), epsilon_factor=0.01)
    assert 3 < len(coarse["points"]) < len(fine["points"]) / 2
    pixels = drawn([coarse], expected.shape)
    assert (pixels & expected).sum() / (pixels | expected).sum() > 0.9
    assert score < 1
    assert predicted(served, clip.frames[0], point(click), conf_threshold=1.0) == []


def test_without_marks_nothing_is_replaced(served, clip):
    body = {"model": "sam2rt", "image": uri(clip.frames[0]), "params": EXACT}
    answer = served.ok("POST", "/v1/predict", body)
    assert answer["data"] == {"shapes": [], "description": "", "replace": False}


def test_an_image_on_its_side_is_turned(served, clip, segmented):
    exif = Image.Exif()
    exif[0x0112] = 6
    click = inside(clip.labels[0] == 2)
    body = {
        "model": "sam2rt",
        "image": uri(np.rot90(clip.frames[0]).copy(), exif=exif),
        "params": {**EXACT, "marks": [point(click)]},
    }
    shapes = served.ok("POST", "/v1/predict", body)["data"]["shapes"]
    expected, _ = segmented([click], [1])
    np.testing.assert_array_equal(drawn(shapes, expected.shape), expected)


def opened(served: Served, frames: Any) -> str:
    body = {"model": "sam2rt_video", "frames": [uri(f) for f in frames], "start_frame_index": 0}
    data = served.ok("POST", "/v1/video/init", body)["data"]
    assert data["total_frames"] == len(frames)
    return data["session_id"]


def prompted(served: Served, session: str, frame: int, clicks: Any, size: Any, **more: Any) -> Any:
    height, width = size
    body = {
        "session_id": session,
        "model": "sam2rt_video",
        "frame_index": frame,
        "points": [[x / width, y / height] for x, y in clicks],
        "point_labels": [1] * len(clicks),
        "obj_id": 10000,
        "params": EXACT,
        **more,
    }
    return served.ok("POST", "/v1/video/prompt", body)["data"]["masks"]


def events(served: Served, **body: Any) -> list[Any]:
    """Server-sent events, read by the rules of the client."""
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=120)
    sent = json.dumps({"model": "sam2rt_video", "params": EXACT, **body}).encode()
    connection.request("POST", "/v1/video/propagate/stream", sent)
    answer = connection.getresponse()
    assert answer.headers["content-type"].startswith("text/event-stream")
    lines = answer.read().decode().splitlines()
    connection.close()
    return [json.loads(line[6:]) for line in lines if line.startswith("data: ")]


def closed(served: Served, session: str) -> None:
    served.ok("POST", f"/v1/video/cleanup/{session}?model=sam2rt_video")


def test_a_clip_of_twenty_frames_is_tracked(served, clip, model):
    size = clip.frames.shape[1:3]
    clicks = [inside(clip.labels[0] == number) for number in (1, 2)]
    session = opened(served, clip.frames)
    first = prompted(served, session, 0, clicks[:1], size)
    second = prompted(served, session, 0, clicks[1:], size, obj_id=3)
    video = VideoPredictor(model.bundle, session=model, add_all_frames_to_correct_as_cond=True)
    state = video.init_state(clip.frames)
    for number, click, shapes in ((1, clicks[0], first), (2, clicks[1], second)):
        logits = video.add_new_points_or_box(state, 0, number, [click], [1])[2]
        np.testing.assert_array_equal(drawn(shapes, size), logits[-1, 0] > 0)
    expected = {t: logits[:, 0] > 0 for t, _, logits in video.propagate_in_video(state)}
    found = events(served, session_id=session, start_frame=0)
    assert found[0] == {"type": "started", "total_frames": 20, "start_frame_index": 0}
    progress = [event["current_frame"] for event in found if event["type"] == "progress"]
    assert progress == list(range(20))
    assert (found[-1]["type"], found[-1]["frames_processed"]) == ("completed", 20)
    results = found[-1]["results"]
    assert results.keys() == {str(t) for t in range(20)}
    for t, masks in expected.items():
        pixels = drawn(results[str(t)]["masks"], size)
        np.testing.assert_array_equal(pixels, masks.any(axis=0))
        true = clip.labels[t] > 0
        assert (pixels & true).sum() / (pixels & true | masks.any(axis=0) & ~true).sum() > 0.8
    closed(served, session)


def test_a_range_of_frames(served, clip):
    session = opened(served, clip.frames[:8])
    prompted(served, session, 2, [inside(clip.labels[2] == 2)], clip.frames.shape[1:3])
    found = events(served, session_id=session, start_frame=2, end_frame=5)
    assert list(found[-1]["results"]) == ["2", "3", "4", "5"]
    closed(served, session)


def test_the_frames_go_with_the_session(served, clip):
    session = opened(served, clip.frames[:2])
    folder = served.services.sessions.get(session).medium.path
    assert len(list(folder.iterdir())) == 2
    closed(served, session)
    assert not folder.exists()


def test_a_clip_that_is_refused_leaves_no_frames(served, clip):
    before = len(served.services.sessions)
    good, other = uri(clip.frames[0]), uri(clip.frames[0][:100])
    status, answer = served.json(
        "POST", "/v1/video/init", {"model": "sam2rt_video", "frames": [good, other]}
    )
    assert status == 415
    assert answer["success"] is False
    assert len(served.services.sessions) == before


def test_what_the_client_asks_first(served, built_in):
    assert served.ok("GET", "/health")["status"] == "healthy"
    data = served.ok("GET", "/v1/models")["data"]
    assert list(data) == ["sam2rt", "sam2rt_video"]
    assert data["sam2rt"]["display_name"] == f"sam2rt {built_in.model.name}"
    assert data["sam2rt_video"]["batch_processing_mode"] == "video"
    names = {widget["name"] for widget in data["sam2rt"]["widgets"]}
    assert {"button_add_point", "button_add_rect", "button_finish_object"} <= names
    info = served.ok("GET", "/v1/models/sam2rt/info")["data"]
    assert info == {"model_id": "sam2rt", **data["sam2rt"]}


def test_the_token_comes_in_the_clients_header(model):
    access = Access.of("127.0.0.1", "secret-token")
    with serving(model, access=access, extra=lambda _: xanylabeling_routes()) as served:
        for headers, status in (
            ({}, 401),
            ({"Token": "wrong-token"}, 401),
            ({"Token": "secret-token"}, 200),
            ({"Token": "secret-token", "Authorization": "Bearer wrong-token"}, 401),
        ):
            assert served.raw("GET", "/v1/models", None, headers)[0] == status


_BAD = "data:image/png;base64,"


@pytest.mark.parametrize(
    ("path", "body", "status", "line"),
    [
        ("predict", {"image": _BAD}, 400, "the body: "),
        ("predict", {"model": "yolo", "image": _BAD}, 404, "no model 'yolo': expected sam2rt or"),
        ("predict", {"model": "sam2rt", "image": "*"}, 415, "the image is no base64: send a data"),
        ("predict", {"model": "sam2rt", "image": "data:x,AAAA"}, 415, "the image begins with 'da"),
        ("predict", {"model": "sam2rt", "image": _BAD + "AAAA"}, 415, "neither a video nor an"),
        ("video/init", {"model": "sam2rt_video", "frames": []}, 400, "the body: "),
        ("video/init", {"model": "sam2rt_video", "frames": [_BAD + "AAAA"]}, 415, "neither a vid"),
        ("video/prompt", {"session_id": "none"}, 404, "no session none: sessions end after"),
        ("video/propagate/stream", {"session_id": "none"}, 404, "no session none: sessions end"),
        ("video/cleanup/none", {}, 404, "no session none: sessions end after"),
    ],
)
def test_what_is_wrong_is_one_line(path, body, status, line, served):
    found, answer = served.json("POST", f"/v1/{path}", body)
    assert (found, answer["success"]) == (status, False)
    assert answer["error"]["message"].startswith(line), answer
    assert "\n" not in answer["error"]["message"]


@pytest.mark.parametrize(
    ("params", "line"),
    [
        ({"text_prompt": "a cat"}, "a text prompt: SAM 2 takes clicks and boxes, not words"),
        ({"marks": [{"type": "point", "data": [1, 2, 3]}]}, "a point of 3 numbers: expected x, y"),
        (
            {"marks": [{"type": "rectangle", "data": [1, 2, 9, 9], "label": 0}]},
            "a negative box: SAM 2 takes negative points, not boxes",
        ),
        (
            {"marks": [{"type": "point", "data": [5000, 3]}]},
            "the point [5000.0, 3.0] lies outside the image",
        ),
        (
            {"marks": [{"type": "rectangle", "data": [3, 3, 3, 9]}]},
            "box [3.0, 3.0, 3.0, 9.0] is empty or reversed",
        ),
    ],
)
def test_wrong_marks_are_one_line(params, line, served, clip):
    body = {"model": "sam2rt", "image": uri(clip.frames[0]), "params": params}
    status, answer = served.json("POST", "/v1/predict", body)
    assert status == 422
    assert answer["error"]["code"] == "INVALID_REQUEST"
    assert answer["error"]["message"].startswith(line), answer


def test_tracking_without_a_click_is_one_line(served, clip):
    session = opened(served, clip.frames[:2])
    status, answer = served.json("POST", "/v1/video/propagate/stream", {"session_id": session})
    assert (status, answer["error"]["message"]) == (
        409,
        "no object to track: add points, a box or a mask first",
    )
    closed(served, session)


def test_an_image_that_ends_early_or_is_too_large_is_one_line(served, model, clip):
    whole = uri(clip.frames[0])
    body = {"model": "sam2rt", "image": whole[: len(whole) // 8 * 4 + 2], "params": EXACT}
    body["params"] = {"marks": [point([9, 9])]}
    status, answer = served.json("POST", "/v1/predict", body)
    assert (status, answer["error"]["code"]) == (415, "INVALID_IMAGE")
    with serving(model, extra=lambda _: xanylabeling_routes(), pixels=100) as small:
        status, answer = small.json("POST", "/v1/predict", {**body, "image": whole})
    pixels = clip.frames.shape[1] * clip.frames.shape[2]
    assert status == 413
    assert answer["error"]["message"] == f"a frame has {pixels} pixels, expected at most 100"


def test_the_frames_go_when_the_session_expires(served, clip):
    session = served.services.sessions.get(opened(served, clip.frames[:2]))
    folder = session.medium.path
    session.touched -= 2 * served.services.limits.idle_seconds
    assert served.services.sessions.expire() == 1
    assert not folder.exists()


def test_a_client_that_hangs_up_ends_the_tracking(served, clip):
    session = opened(served, clip.frames)
    prompted(served, session, 0, [inside(clip.labels[0] == 2)], clip.frames.shape[1:3])
    connection = http.client.HTTPConnection("127.0.0.1", served.port, timeout=120)
    body = json.dumps({"session_id": session, "model": "sam2rt_video"}).encode()
    connection.request("POST", "/v1/video/propagate/stream", body)
    answer = connection.getresponse()
    assert answer.readline().startswith(b'data: {"type": "started"')
    answer.close()
    connection.close()
    work = served.services.sessions.get(session)
    until = time.monotonic() + 60
    while work.propagating and time.monotonic() < until:
        time.sleep(0.02)
    assert (work.propagating, work.in_use) == (False, 0)
    found = events(served, session_id=session, start_frame=0, end_frame=2)
    assert list(found[-1]["results"]) == ["0", "1", "2"]
    closed(served, session)
