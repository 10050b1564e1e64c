"""Masks over HTTP are those of the Python predictors, bit for bit."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from served import Served, serving
from square_clip import moving_square

from sam2rt import ImagePredictor, MaskGenerator, VideoPredictor, open_frames
from sam2rt.runtime.media.images import write_image
from sam2rt.runtime.pixels.rle import mask_from_rle, rle_from_mask
from sam2rt.serving.sessions.media import _SAMPLES

CLICK = {"points": [[20, 42]], "labels": [1]}
BOX = {"box": [90, 20, 120, 60]}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of frames: PNG, so that all readers see the same pixels."""
    folder = tmp_path_factory.mktemp("root")
    (folder / "clip").mkdir()
    for t, frame in enumerate(moving_square(10)):
        write_image(folder / "clip" / f"{t:03d}.png", frame)
    return folder


@pytest.fixture(scope="module")
def served(session, folder: Path) -> Iterator[Served]:
    with serving(session, root=folder) as server:
        yield server


def decoded(masks: dict) -> dict[int, np.ndarray]:
    return {item["object"]: mask_from_rle(item["mask"]) for item in masks["objects"]}


def assert_frame(found: dict, expected) -> None:
    """What came over the wire is what the predictor gave: frame, ids, every pixel."""
    frame, ids, logits = expected
    assert found["frame"] == frame
    assert [item["object"] for item in found["objects"]] == ids
    for item, plane in zip(found["objects"], logits, strict=True):
        mask = plane[0] > 0
        np.testing.assert_array_equal(mask_from_rle(item["mask"]), mask)
        assert item["area"] == np.count_nonzero(mask)
        assert item["mask"] == rle_from_mask(mask)


@pytest.mark.parametrize("no_overlap", [False, True])
def test_a_session_gives_the_masks_of_the_video_predictor(session, served, folder, no_overlap):
    predictor = VideoPredictor(
        session.bundle,
        session=session,
        non_overlap_masks=no_overlap,
        add_all_frames_to_correct_as_cond=True,
    )
    state = predictor.init_state(folder / "clip")
    at = served.session(path="clip", no_overlap=no_overlap)

    found = served.ok("POST", f"{at}/prompts", {"frame": 0, "object": 1, **CLICK})
    assert_frame(found, predictor.add_new_points_or_box(state, 0, 1, **CLICK))
    found = served.ok("POST", f"{at}/prompts", {"frame": 0, "object": 7, **BOX})
    assert_frame(found, predictor.add_new_points_or_box(state, 0, 7, **BOX))
    mask = np.zeros((96, 128), bool)
    mask[60:80, 10:50] = True
    body = {"frame": 2, "object": 3, "mask": rle_from_mask(mask)}
    found = served.ok("POST", f"{at}/prompts", body)
    assert_frame(found, predictor.add_new_mask(state, 2, 3, mask))
    more = {"points": [[100, 30]], "labels": [0], "clear_old_points": False}
    body = {"frame": 0, "object": 1, "points": [[100, 30]], "labels": [0], "clear": False}
    found = served.ok("POST", f"{at}/prompts", body)
    assert_frame(found, predictor.add_new_points_or_box(state, 0, 1, **more))

    *lines, end = served.lines(f"{at}/propagate")
    assert end == {"end": "complete", "done": 10, "total": 10, "error": None}
    for line, expected in zip(lines, predictor.propagate_in_video(state), strict=True):
        assert_frame(line, expected)
    assert [line["done"] for line in lines] == list(range(1, 11))

    # refined, tracked backward, an object less
    refined = {"frame": 5, "object": 7, "points": [[60, 60]], "labels": [1]}
    found = served.ok("POST", f"{at}/prompts", refined)
    expected = predictor.add_new_points_or_box(state, 5, 7, [[60, 60]], [1])
    assert_frame(found, expected)
    body = {"direction": "backward", "start": 6, "frames": 4}
    *lines, end = served.lines(f"{at}/propagate", body)
    steps = list(predictor.propagate_in_video(state, 6, 3, reverse=True))
    assert [line["frame"] for line in lines] == [6, 5, 4, 3]
    for line, expected in zip(lines, steps, strict=True):
        assert_frame(line, expected)
    found = served.ok("DELETE", f"{at}/objects/1")
    predictor.remove_object(state, 1)
    assert [item["object"] for item in found["objects"]] == [7, 3]
    *lines, end = served.lines(f"{at}/propagate", {"direction": "both", "start": 4})
    steps = list(predictor.propagate_in_video(state, 4))
    steps += predictor.propagate_in_video(state, 4, reverse=True)
    assert len(lines) == 6 + 5
    for line, expected in zip(lines, steps, strict=True):
        assert_frame(line, expected)
    assert served.ok("GET", f"{at}/masks/4")["objects"] == lines[6]["objects"]
    served.ok("DELETE", at)


def test_prompts_are_cleared_as_the_predictor_does(session, served, folder):
    predictor = VideoPredictor(
        session.bundle, session=session, add_all_frames_to_correct_as_cond=True
    )
    state = predictor.init_state(folder / "clip")
    at = served.session(path="clip")
    for frame, prompt in ((0, CLICK), (4, BOX)):
        served.ok("POST", f"{at}/prompts", {"frame": frame, "object": 1, **prompt})
        predictor.add_new_points_or_box(state, frame, 1, **prompt)
    list(served.lines(f"{at}/propagate"))
    list(predictor.propagate_in_video(state))
    found = served.ok("DELETE", f"{at}/objects/1/prompts/4")
    assert_frame(found, predictor.clear_all_prompts_in_frame(state, 4, 1))
    assert [p["frame"] for p in served.ok("GET", at)["prompts"]] == [0]
    # the last prompt takes the object along
    assert served.ok("DELETE", f"{at}/objects/1/prompts/0") == {"frame": 0, "objects": []}
    shown = served.ok("GET", at)
    assert (shown["objects"], shown["prompts"], shown["tracked"]) == ([], [], [])
    assert served.json("POST", f"{at}/propagate") == (
        409, {"error": "no object to track: add points, a box or a mask first"}
    )  # fmt: skip


def test_an_image_session_gives_the_masks_of_the_image_predictor(session, served):
    image = open_frames(_SAMPLES / "still.png").read(0)
    predictor = ImagePredictor(session.bundle, session=session)
    predictor.set_image(image)
    at = served.session(sample="still")
    clicks = {"points": [[120, 170], [9, 9]], "labels": [1, 0]}
    for obj_id, prompt in ((1, clicks), (2, {"box": [80, 90, 140, 140]})):
        found = served.ok("POST", f"{at}/prompts", {"object": obj_id, **prompt})
        masks, scores, _ = predictor.predict(
            prompt.get("points"),
            prompt.get("labels"),
            box=prompt.get("box"),
            multimask_output=False,
        )
        item = found["objects"][-1]
        assert item["object"] == obj_id
        np.testing.assert_array_equal(mask_from_rle(item["mask"]), masks[0])
        assert item["score"] == float(scores[0])
    # a mask becomes an object as it is
    mask = np.zeros((256, 256), bool)
    mask[3:9, 200:220] = True
    found = served.ok("POST", f"{at}/prompts", {"object": 5, "mask": rle_from_mask(mask)})
    np.testing.assert_array_equal(decoded(found)[5], mask)
    assert served.ok("DELETE", f"{at}/objects/2/prompts/0")["objects"][-1]["object"] == 5


def test_automatic_masks_are_those_of_the_generator(session, served):
    image = open_frames(_SAMPLES / "still.png").read(0)
    options = {"points_per_side": 6, "pred_iou_thresh": 0.1, "stability_score_thresh": 0.2}
    at = served.session(sample="still")
    *steps, end = served.lines(f"{at}/automatic", options)
    assert steps[-1] == {"done": 36, "total": 36}
    expected = MaskGenerator(session.bundle, session=session, **options).generate(image)
    expected.sort(key=lambda record: -record["area"])
    assert end["end"] == "complete"
    assert len(end["masks"]) == len(expected) > 0
    for found, wanted in zip(end["masks"], expected, strict=True):
        np.testing.assert_array_equal(mask_from_rle(found["mask"]), wanted["segmentation"])
        assert found["area"] == wanted["area"]
        assert found["box"] == [float(side) for side in wanted["bbox"]]
        assert found["score"] == float(wanted["predicted_iou"])
    assert served.ok("GET", at)["objects"] == []


def test_results_hold_the_masks_that_were_sent(served, folder):
    at = served.session(path="clip")
    served.ok("POST", f"{at}/prompts", {"frame": 0, "object": 4, **CLICK})
    assert served.ok("PUT", f"{at}/objects/4", {"name": " a  square "})["objects"] == [
        {"object": 4, "name": "a square"}
    ]
    *lines, _ = served.lines(f"{at}/propagate")
    sent = {line["frame"]: decoded(line)[4] for line in lines}

    status, content, headers = served.raw("GET", f"{at}/masks.json")
    assert (status, headers["content-type"]) == (200, "application/json")
    assert headers["content-disposition"] == 'attachment; filename="clip-masks.json"'
    coco = json.loads(content)
    assert [image["frame"] for image in coco["images"]] == list(range(10))
    assert (coco["height"], coco["width"]) == (96, 128)
    frames = {image["id"]: image["frame"] for image in coco["images"]}
    records = {frames[r["image_id"]]: r for r in coco["annotations"]}
    assert records.keys() == {t for t, mask in sent.items() if mask.any()}
    for t, record in records.items():
        np.testing.assert_array_equal(mask_from_rle(record["segmentation"]), sent[t])
        assert (record["object"], record["name"]) == (4, "a square")

    status, content, headers = served.raw("GET", f"{at}/masks.zip")
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        assert sorted(archive.namelist()) == [f"4/{t:05d}.png" for t in range(10)]
        for t, mask in sent.items():
            image = np.asarray(Image.open(archive.open(f"4/{t:05d}.png")))
            np.testing.assert_array_equal(image != 0, mask)

    status, content, headers = served.raw("GET", f"{at}/overlay.mp4")
    assert (status, headers["content-type"]) == (200, "video/mp4")
    (folder.parent / "overlay.mp4").write_bytes(content)
    with open_frames(folder.parent / "overlay.mp4") as frames_drawn:
        assert (frames_drawn.num_frames, frames_drawn.measure()) == (10, (96, 128))
    assert served.json("GET", f"{at}/overlay.png")[0] == 404


def test_frames_are_the_clips(served, folder):
    at = served.session(path="clip")
    clip = open_frames(folder / "clip")
    status, content, headers = served.raw("GET", f"{at}/frames/3")
    assert (status, headers["content-type"]) == (200, "image/jpeg")
    shown = np.asarray(Image.open(io.BytesIO(content)), int)
    # JPEG changes noise much, yet less than another frame differs
    apart = [np.abs(shown - clip.read(t)).mean() for t in range(10)]
    assert np.argmin(apart) == 3
    status, content, _ = served.raw("GET", f"{at}/frames/3?width=64")
    assert Image.open(io.BytesIO(content)).size == (64, 48)
    assert served.json("GET", f"{at}/frames/10") == (
        404, {"error": "no frame 10: the frames are 0 to 9"}
    )  # fmt: skip


def test_an_upload_is_known_by_its_content(served, tmp_path):
    content = (_SAMPLES / "shapes.mp4").read_bytes()
    first = served.ok("POST", "/v1/media?name=../../x/My%20clip.txt", content)
    assert first["name"] == "My clip.txt"
    assert (first["kind"], first["num_frames"], first["width"]) == ("video", 24, 256)
    assert served.ok("POST", "/v1/media?name=again.mp4", content) == first
    assert served.ok("GET", "/v1/media") == {"media": [first]}
    at = served.session(media=first["media"])
    assert served.json("DELETE", f"/v1/media/{first['media']}")[0] == 409
    served.ok("DELETE", at)
    served.ok("DELETE", f"/v1/media/{first['media']}")
    assert served.ok("GET", "/v1/media") == {"media": []}
