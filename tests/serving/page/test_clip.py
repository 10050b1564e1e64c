"""A clip from its upload to its masks: what the page leads to equals what Python gives."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from page_driver import PageDriver
from PIL import Image
from pycocotools import mask as coco_mask
from server_process import ServerProcess

from sam2rt import VideoPredictor
from sam2rt.benchmarks.synthetic.clips import SyntheticClip, make_clip
from sam2rt.runtime.arrays import Mask
from sam2rt.runtime.media.video.writer import open_video_writer
from sam2rt.runtime.predictors.video_state import VideoState

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]
OpenPage = Callable[..., PageDriver]
_FRAMES, _REFINED, _SEED = 24, 12, 10
#: how far a click may land from where it was meant: half a pixel of the window
_HALF_PIXEL = 0.5


@pytest.fixture(scope="module")
def clip() -> SyntheticClip:
    """Three objects."""
    made = make_clip(_SEED, "plain", _FRAMES)
    assert made.num_objects == 3
    return made


@pytest.fixture(scope="module")
def clip_file(clip: SyntheticClip, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("clip") / "three shapes.mp4"
    size = clip.frames[0].shape[0], clip.frames[0].shape[1]
    with open_video_writer(path, 25.0, size) as writer:
        for index, frame in enumerate(clip.frames):
            writer.write(np.ascontiguousarray(frame), index / 25)
    return path


def inner_point(clip: SyntheticClip, frame: int, label: int) -> tuple[float, float]:
    """The middle of the largest circle in an object, x then y."""
    inside = (clip.labels[frame] == label).astype(np.uint8)
    distance = cv2.distanceTransform(np.pad(inside, 1), cv2.DIST_L2, 5)[1:-1, 1:-1]
    row, column = np.unravel_index(distance.argmax(), distance.shape)
    return float(column) + 0.5, float(row) + 0.5


def box_around(clip: SyntheticClip, frame: int, label: int) -> tuple[float, float, float, float]:
    rows, columns = np.nonzero(clip.labels[frame] == label)
    return (
        float(columns.min()),
        float(rows.min()),
        float(columns.max() + 1),
        float(rows.max() + 1),
    )


def test_downloaded_masks_equal_those_of_the_video_predictor(
    open_page: OpenPage, served: ServerProcess, clip: SyntheticClip, clip_file: Path, tmp_path: Path
) -> None:
    page = open_page()
    page.screenshot("start")
    page.open_file(clip_file, (256, 256))
    page.screenshot("clip")
    page.click(*inner_point(clip, 0, 1))
    page.press("n")
    page.click(*inner_point(clip, 0, 2))
    page.press("n")
    page.drag(*box_around(clip, 0, 3))
    page.screenshot("prompted")
    assert page.objects() == ["Object 1", "Object 2", "Object 3"]
    assert page.texts() == ["1 click", "1 click", "1 box"]

    page.track()
    assert page.frame_number() == f"{_FRAMES} / {_FRAMES}"
    page.seek(_REFINED)
    page.press("1")
    meant = inner_point(clip, _REFINED, 1)
    page.click(*meant)
    page.click(meant[0] + 60, meant[1], button="right")
    page.screenshot("refined")
    assert page.page.locator("#track-note").text_content() == (
        "Clicks have changed: track again to update the other frames."
    )
    page.track()
    page.page.click("[aria-label='Remove Object 2']")
    page.settle()
    assert page.objects() == ["Object 1", "Object 3"]
    page.press("F2", "d", "o", "g", "Enter")
    page.screenshot("tracked")

    coco = json.loads(page.download("masks.json", tmp_path).read_text())
    archive = page.download("masks.zip", tmp_path).read_bytes()
    overlay = page.download("overlay", tmp_path)
    assert overlay.name == "three_shapes_overlay.mp4"
    assert page.notices() == []

    sent = page.prompts()
    assert [(prompt["frame"], prompt["object"]) for prompt in sent] == [
        (0, 1), (0, 2), (0, 3), (_REFINED, 1), (_REFINED, 1),
    ]  # fmt: skip
    np.testing.assert_allclose(sent[0]["points"], [inner_point(clip, 0, 1)], atol=_HALF_PIXEL)
    np.testing.assert_allclose(sent[2]["box"], box_around(clip, 0, 3), atol=_HALF_PIXEL)
    assert sent[4]["labels"] == [1, 0]
    assert sent[4]["points"][0] == sent[3]["points"][0]

    expected = _in_python(served, clip_file, sent)
    assert {obj_id for obj_id, _ in expected} == {1, 3}
    _assert_equal(_from_zip(archive), expected)
    assert any(mask.any() for (_, frame), mask in expected.items() if frame == _FRAMES - 1)
    visible = {key: mask for key, mask in expected.items() if mask.any()}
    _assert_equal(_from_coco(coco), visible)
    with_names = {entry["object"]: entry["name"] for entry in coco["annotations"]}
    assert with_names == {1: "dog", 3: ""}


def _in_python(
    served: ServerProcess, clip_file: Path, sent: list[dict[str, Any]]
) -> dict[tuple[int, int], Mask]:
    """By object and frame: the same prompts, propagations and removal, without a server."""
    masks: dict[tuple[int, int], Mask] = {}

    def keep(frame: int, ids: list[int], logits: Any) -> None:
        for obj_id, plane in zip(ids, np.asarray(logits), strict=True):
            masks[obj_id, frame] = plane[0] > 0

    def prompt(predictor: VideoPredictor, state: VideoState, prompt: dict[str, Any]) -> None:
        found = predictor.add_new_points_or_box(
            state,
            prompt["frame"],
            prompt["object"],
            points=prompt.get("points"),
            labels=prompt.get("labels"),
            box=prompt.get("box"),
        )
        keep(*found)

    with VideoPredictor(served.bundle, add_all_frames_to_correct_as_cond=True) as predictor:
        state = predictor.init_state(clip_file)
        for prompts in (sent[:3], sent[3:]):
            for each in prompts:
                prompt(predictor, state, each)
            for result in predictor.propagate_in_video(state):
                keep(*result)
    return {key: mask for key, mask in masks.items() if key[0] != 2}


def _from_zip(content: bytes) -> dict[tuple[int, int], Mask]:
    masks = {}
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        for name in archive.namelist():
            obj_id, _, frame = name.removesuffix(".png").partition("/")
            pixels = np.asarray(Image.open(io.BytesIO(archive.read(name))))
            assert set(np.unique(pixels)) <= {0, 255}
            masks[int(obj_id), int(frame)] = pixels > 0
    return masks


def _from_coco(file: dict[str, Any]) -> dict[tuple[int, int], Mask]:
    frames = {image["id"]: image["frame"] for image in file["images"]}
    return {
        (entry["object"], frames[entry["image_id"]]): coco_mask.decode(entry["segmentation"]) > 0
        for entry in file["annotations"]
    }


def _assert_equal(found: dict[Any, Mask], expected: dict[Any, Mask]) -> None:
    assert found.keys() == expected.keys()
    for key, mask in expected.items():
        np.testing.assert_array_equal(found[key], mask, err_msg=str(key))
