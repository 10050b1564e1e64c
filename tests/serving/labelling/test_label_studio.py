"""Label Studio's own server, run lengths and label configs ask our backend, over its HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam2rt import ImagePredictor, VideoPredictor, open_frames
from sam2rt.configs.errors import InputError
from sam2rt.runtime.media.video.writer import open_video_writer
from sam2rt.serving.labelling.outlines import edges_of

pytest.importorskip(
    "label_studio_ml.response",
    reason="needs Label Studio's ML backend, which wants an older OpenCV: see "
    "docs/guides/labelling/label_studio.md",
)

from label_studio_ml import api
from label_studio_ml.api import init_app
from label_studio_sdk._extensions.label_studio_tools.core.utils import io
from label_studio_sdk.converter import brush

from sam2rt.serving.labelling.label_studio import backend_class

IMAGES = """<View><Image name="img" value="$image"/>
<BrushLabels name="brush" toName="img"><Label value="Cat"/><Label value="Dog"/></BrushLabels>
<KeyPointLabels name="kp" toName="img" smart="true"><Label value="Cat"/></KeyPointLabels>
<RectangleLabels name="box" toName="img" smart="true"><Label value="Dog"/></RectangleLabels>
</View>"""
VIDEOS = """<View><Labels name="names" toName="video"><Label value="Cat"/></Labels>
<Video name="video" value="$video"/><VideoRectangle name="boxes" toName="video" smart="true"/>
</View>"""


@pytest.fixture(scope="module")
def backend(built_in) -> Any:
    return backend_class(str(built_in.path), threads=1)


@pytest.fixture(scope="module")
def client(backend) -> Any:
    return init_app(backend).test_client()


@pytest.fixture(scope="module", autouse=True)
def local_storage(tmp_path_factory) -> Iterator[None]:
    """Label Studio's storage of local files, whose root is the folder of all tests."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(io, "LOCAL_FILES_DOCUMENT_ROOT", str(tmp_path_factory.getbasetemp()))
        yield


@pytest.fixture
def ask(client, tmp_path_factory) -> Any:
    root = tmp_path_factory.getbasetemp()

    def answer(config: str, path: Path, regions: Any) -> Any:
        """The whole answer to a request as Label Studio sends it."""
        url = f"/data/local-files/?d={path.relative_to(root)}"
        body = {
            "tasks": [{"id": 5, "data": {"image": url, "video": url}}],
            "project": "3.1700000000",
            "label_config": config,
            "params": {"context": {"result": regions} if regions is not None else None},
        }
        return client.post("/predict", json=body)

    return answer


@pytest.fixture(scope="module")
def files(clip, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    Image.fromarray(clip.frames[0]).save(folder / "image.png")
    with open_video_writer(folder / "clip.mp4", 25.0, clip.frames.shape[1:3]) as writer:
        for frame in clip.frames:
            writer.write(frame)
    return folder


def on_image(clip: Any, *regions: dict[str, Any]) -> list[dict[str, Any]]:
    height, width = clip.frames.shape[1:3]
    size = {"original_width": width, "original_height": height}
    return [{**size, "to_name": "img", **region} for region in regions]


def click(x: float, y: float, positive: int = 1, label: str = "Cat") -> dict[str, Any]:
    value = {"x": x, "y": y, "width": 0.4, "keypointlabels": [label]}
    return {"type": "keypointlabels", "is_positive": positive, "value": value}


def percent(mask: Any) -> dict[str, float]:
    x0, y0, x1, y1 = edges_of(mask)
    height, width = mask.shape
    return {
        "x": x0 / width * 100,
        "y": y0 / height * 100,
        "width": (x1 - x0) / width * 100,
        "height": (y1 - y0) / height * 100,
    }


def box(mask: Any, label: str = "Dog") -> dict[str, Any]:
    return {"type": "rectanglelabels", "value": {**percent(mask), "rectanglelabels": [label]}}


def centre(mask: Any) -> tuple[float, float]:
    """Percent x, y of a pixel well inside."""
    rows, columns = np.nonzero(mask)
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return columns[nearest] / mask.shape[1] * 100, rows[nearest] / mask.shape[0] * 100


def decoded(region: dict[str, Any]) -> Any:
    height, width = region["original_height"], region["original_width"]
    planes = brush.decode_rle(region["value"]["rle"]).reshape(height, width, 4)
    for plane in range(3):
        np.testing.assert_array_equal(planes[..., plane], planes[..., 3])
    assert set(np.unique(planes)) <= {0, 255}
    return planes[..., 3] > 0


def results(answer: Any) -> list[dict[str, Any]]:
    assert answer.status_code == 200, answer.json
    (prediction,) = answer.json["results"]
    return prediction["result"]


def test_clicks_give_the_brush_mask_of_the_image_predictor(ask, files, clip, segmented):
    first, second = centre(clip.labels[0] == 2), centre(clip.labels[0] == 1)
    regions = on_image(clip, click(*first), click(*second, positive=0))
    answer = ask(IMAGES, files / "image.png", regions)
    (region,) = results(answer)
    height, width = clip.frames.shape[1:3]
    pixels = [[x / 100 * width, y / 100 * height] for x, y in (first, second)]
    expected, score = segmented(pixels, [1, 0])
    np.testing.assert_array_equal(decoded(region), expected)
    true = clip.labels[0] == 2
    assert (expected & true).sum() / (expected | true).sum() > 0.9
    assert (region["type"], region["from_name"], region["to_name"]) == (
        "brushlabels",
        "brush",
        "img",
    )
    assert region["value"]["brushlabels"] == ["Cat"]
    assert region["score"] == pytest.approx(score)


def test_boxes_are_an_object_each(ask, files, clip, model):
    masks = [clip.labels[0] == 1, clip.labels[0] == 2]
    regions = on_image(clip, *map(box, masks))
    found = results(ask(IMAGES, files / "image.png", regions))
    image = ImagePredictor(model.bundle, session=model)
    image.set_image(clip.frames[0])
    assert len(found) == 2
    assert len({region["id"] for region in found}) == 2
    for region, mask in zip(found, masks, strict=True):
        expected = image.predict(box=edges_of(mask), multimask_output=False)[0][0]
        np.testing.assert_array_equal(decoded(region), expected)
        assert region["value"]["brushlabels"] == ["Dog"]


def test_a_box_and_a_click_of_one_label_are_one_prompt(ask, files, clip, segmented):
    true = clip.labels[0] == 2
    regions = on_image(clip, box(true, "Cat"), click(*centre(true)))
    (region,) = results(ask(IMAGES, files / "image.png", regions))
    x, y = centre(true)
    height, width = true.shape
    expected, _ = segmented([[x / 100 * width, y / 100 * height]], [1], edges_of(true))
    np.testing.assert_array_equal(decoded(region), expected)


def test_a_photograph_is_turned_as_browsers_turn_it(ask, clip, tmp_path, segmented):
    """A camera writes the picture on its side, and the angle beside it."""
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(np.rot90(clip.frames[0]).copy()).save(tmp_path / "turned.png", exif=exif)
    x, y = centre(clip.labels[0] == 2)
    regions = on_image(clip, click(x, y))
    (region,) = results(ask(IMAGES, tmp_path / "turned.png", regions))
    height, width = clip.frames.shape[1:3]
    expected, _ = segmented([[x / 100 * width, y / 100 * height]], [1])
    np.testing.assert_array_equal(decoded(region), expected)


@pytest.fixture(scope="module")
def boxed(model, files, clip) -> dict[tuple[int, int], Any]:
    """The video predictor's masks of the file, by object and frame, for the boxes below."""
    video = VideoPredictor(model.bundle, session=model)
    state = video.init_state(files / "clip.mp4")
    for number, frame, label in ((0, 0, 1), (1, 2, 2)):
        video.add_new_points_or_box(state, frame, number, box=edges_of(clip.labels[frame] == label))
    return {
        (n, t): mask
        for t, ids, logits in video.propagate_in_video(state)
        for n, mask in zip(ids, logits[:, 0] > 0, strict=True)
    }


def in_video(clip: Any, frame: int, label: int, **others: Any) -> dict[str, Any]:
    sequence = [
        {"frame": frame + 1, "time": frame / 25, "enabled": True, "rotation": 0,
         **percent(clip.labels[frame] == label)}
    ]  # fmt: skip
    value = {"framesCount": 20, "duration": 0.8, "sequence": sequence, "labels": ["Cat"], **others}
    return {
        "id": f"object{label}", "type": "videorectangle", "from_name": "boxes",
        "to_name": "video", "value": value,
    }  # fmt: skip


def test_many_objects_are_followed_through_a_clip(ask, files, clip, boxed):
    regions = [in_video(clip, 0, 1), in_video(clip, 2, 2)]
    found = results(ask(VIDEOS, files / "clip.mp4", regions))
    assert [region["id"] for region in found] == ["object1", "object2"]
    height, width = clip.frames.shape[1:3]
    for number, (region, first) in enumerate(zip(found, (0, 2), strict=True)):
        assert (region["type"], region["from_name"]) == ("videorectangle", "boxes")
        assert region["value"]["labels"] == ["Cat"]
        sequence = region["value"]["sequence"]
        assert [item["frame"] for item in sequence] == list(range(first + 1, 21))
        assert [item["enabled"] for item in sequence] == [True] * (19 - first) + [False]
        for item in sequence[1:]:
            x0, y0, x1, y1 = edges_of(boxed[number, item["frame"] - 1])
            edges = (
                item["x"] * width / 100,
                item["y"] * height / 100,
                (item["x"] + item["width"]) * width / 100,
                (item["y"] + item["height"]) * height / 100,
            )
            assert edges == pytest.approx((x0, y0, x1, y1), abs=1e-6)
            assert item["time"] == pytest.approx((item["frame"] - 1) / 25)


def test_the_box_that_was_drawn_stays(ask, files, clip):
    region = in_video(clip, 0, 1)
    (found,) = results(ask(VIDEOS, files / "clip.mp4", [region]))
    assert found["value"]["sequence"][0] == region["value"]["sequence"][0]


def test_frames_are_counted_at_the_rate_of_the_config(ask, files, clip, model):
    """Label Studio counts ten frames in a file of twenty where its config says half the rate."""
    region = in_video(clip, 0, 1, framesCount=10)
    (found,) = results(ask(VIDEOS, files / "clip.mp4", [region]))
    sequence = found["value"]["sequence"]
    assert [item["frame"] for item in sequence] == list(range(1, 11))
    video = VideoPredictor(model.bundle, session=model)
    state = video.init_state(files / "clip.mp4")
    video.add_new_points_or_box(state, 0, 0, box=edges_of(clip.labels[0] == 1))
    masks = {t: logits[0, 0] > 0 for t, _, logits in video.propagate_in_video(state)}
    for item in sequence[1:]:
        expected = percent(masks[2 * (item["frame"] - 1)])
        assert {key: item[key] for key in expected} == pytest.approx(expected)
        assert item["time"] == pytest.approx((item["frame"] - 1) * 0.08)


def test_an_object_that_leaves_ends_its_life(ask, clip, tmp_path):
    """The last box before a black frame is the last one shown."""
    black = np.zeros_like(clip.frames[0])
    with open_video_writer(tmp_path / "leaves.mp4", 25.0, black.shape[:2]) as writer:
        for frame in [*clip.frames[:4], black, black]:
            writer.write(frame)
    region = in_video(clip, 0, 1, framesCount=6, duration=0.24)
    (found,) = results(ask(VIDEOS, tmp_path / "leaves.mp4", [region]))
    shown = [(item["frame"], item["enabled"]) for item in found["value"]["sequence"]]
    assert shown == [(1, True), (2, True), (3, True), (4, False)]


def test_boxes_are_followed_so_far_and_no_farther(ask, built_in, files, clip):
    own = backend_class(str(built_in.path), threads=1, most_frames=5)
    with pytest.MonkeyPatch.context() as patch:
        # the application is one for all
        patch.setattr(api, "MODEL_CLASS", own)
        (found,) = results(ask(VIDEOS, files / "clip.mp4", [in_video(clip, 0, 1)]))
    assert [item["frame"] for item in found["value"]["sequence"]] == [1, 2, 3, 4, 5]


def test_without_clicks_there_is_no_prediction(ask, files):
    for regions in (None, []):
        answer = ask(IMAGES, files / "image.png", regions)
        assert (answer.status_code, answer.json) == (200, {"results": []})


def test_the_server_is_up_and_names_its_version(client, built_in):
    assert client.get("/health").json == {"status": "UP", "model_class": "Sam2rtBackend"}
    body = {"project": "9.1", "schema": IMAGES, "extra_params": None}
    version = client.post("/setup", json=body).json["model_version"]
    assert version == f"{built_in.model.name} {built_in.digest[:8]}"


TURNED = {"type": "rectanglelabels", "value": {"x": 1, "y": 1, "width": 9, "height": 9,
          "rotation": 30, "rectanglelabels": ["Dog"]}}  # fmt: skip


@pytest.mark.parametrize(
    ("config", "name", "regions", "line"),
    [
        (IMAGES, "image.png", [TURNED], "a box is turned by 30 degrees: draw it upright"),
        (IMAGES, "image.png", [click(120, 3)], "the point [1.2000000476837158, 0.02999999932944"),
        (IMAGES, "image.png", [click("a", 3)], "x is 'a': expected a number that is finite"),
        (IMAGES, "image.png", [{"type": "keypointlabels", "value": {}}], "a region of the context"),
        (VIDEOS, "clip.mp4", [{"type": "videorectangle"}], "a region of a video ("),
        ("<View/>", "image.png", [click(5, 5)], "the labelling config has no BrushLabels on an"),
    ],
)
def test_what_is_wrong_is_one_line(config, name, regions, line, ask, files, clip):
    answer = ask(config, files / name, on_image(clip, *regions))
    assert answer.status_code == 500
    detail = answer.json["detail"]
    assert detail.startswith(f"InputError: {line}"), detail
    assert "\n" not in detail


def test_an_image_of_another_size_than_the_browsers_is_refused(ask, files, clip):
    region = {**click(50, 50), "original_width": 64, "original_height": 48}
    answer = ask(IMAGES, files / "image.png", [region])
    size = f"{clip.frames.shape[2]} x {clip.frames.shape[1]}"
    line = f"InputError: the image is {size} pixels, in the browser 64 x 48: expected one and the"
    assert answer.json["detail"].startswith(line)


def test_what_is_no_video_is_one_line(ask, files, clip):
    answer = ask(VIDEOS, files / "none.mp4", [in_video(clip, 0, 1)])
    assert answer.status_code >= 400
    beyond = in_video(clip, 0, 1)
    beyond["value"]["sequence"][0]["frame"] = 99
    answer = ask(VIDEOS, files / "clip.mp4", [beyond])
    assert answer.json["detail"] == ("InputError: a box on frame 99: the video has frames 1 to 20")


def test_the_session_is_opened_by_the_first_request(built_in):
    """Servers load the class, then fork; a thread made before would not be there after."""
    made = backend_class(str(built_in.path), threads=1)
    assert made.engine._model is None
    with pytest.raises(InputError, match="most_frames is 0: expected at least 1"):
        backend_class(str(built_in.path), most_frames=0)


def test_the_file_has_as_many_frames_as_the_clip(files):
    with open_frames(files / "clip.mp4") as frames:
        assert frames.num_frames == 20
