"""``masks.json`` in the hands of the libraries that read COCO files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import supervision as sv
from colour_model import BLUE, GREEN, RED, ColourSession, box_mask, draw
from PIL import Image
from pycocotools.coco import COCO

from sam2rt.runtime.media.images import write_image
from sam2rt.runtime.tasks.coco_file import coco_file, mask_record
from sam2rt.runtime.tasks.masks import write_image_masks
from sam2rt.runtime.tasks.prompts import ObjectPrompt
from sam2rt.runtime.tasks.segment import segment_image
from sam2rt.runtime.tasks.track import track_video

Box = tuple[int, int, int, int]
NAMES = ["shot_7.png", "shot_8.png", "shot_9.png", "shot_10.png"]
#: by object, by frame; None where it is away
RED_BOXES: list[Box | None] = [(8, 8, 48, 40), (16, 8, 56, 40), None, (32, 8, 72, 40)]
BLUE_BOXES: list[Box | None] = [None, (100, 100, 180, 140), (100, 108, 180, 148), (96, 60, 120, 88)]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Four frames of two boxes; natural order differs from that of the alphabet."""
    folder = tmp_path / "frames"
    folder.mkdir()
    for t, name in enumerate(NAMES):
        boxes = ((RED, RED_BOXES[t]), (BLUE, BLUE_BOXES[t]))
        write_image(folder / name, draw([(c, b) for c, b in boxes if b is not None]))
    return folder


PROMPTS = [ObjectPrompt(7, 0, [(20, 20, 1)]), ObjectPrompt(300, 1, [(140, 120, 1)])]


@pytest.fixture
def tracked(folder: Path, tmp_path: Path) -> Path:
    session = ColourSession()
    out = tmp_path / "out"
    track_video(session.bundle, folder, out, PROMPTS, session=session, write_video=False)
    return out / "masks.json"


def xywh(box: Box) -> list[int]:
    return [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def test_pycocotools_reads_a_tracked_video(tracked: Path) -> None:
    coco = COCO(str(tracked))
    assert coco.loadCats(coco.getCatIds()) == [
        {"id": 1, "name": "object", "supercategory": "object"}
    ]
    images = coco.loadImgs(sorted(coco.getImgIds()))
    assert [image["file_name"] for image in images] == NAMES
    assert [(i["id"], i["frame"], i["timestamp"]) for i in images] == [
        (t + 1, t, None) for t in range(4)
    ]
    assert [(i["height"], i["width"]) for i in images] == [(256, 256)] * 4
    scores = [i["object_scores"] for i in images]
    assert scores == [{"7": 5}, {"7": 5, "300": 5}, {"7": -5, "300": 5}, {"7": 5, "300": 5}]
    found = {}
    for image in images:
        for record in coco.loadAnns(coco.getAnnIds(imgIds=image["id"])):
            assert (record["category_id"], record["iscrowd"], record["object_score"]) == (1, 0, 5)
            mask = coco.annToMask(record).astype(bool)
            assert record["area"] == mask.sum()
            found[image["frame"], record["object"]] = mask
            box = (RED_BOXES if record["object"] == 7 else BLUE_BOXES)[image["frame"]]
            assert box is not None
            assert record["bbox"] == xywh(box)
            np.testing.assert_array_equal(mask, box_mask(box))
    # where the object is away there is a score, and no annotation
    assert sorted(found) == [(0, 7), (1, 7), (1, 300), (2, 300), (3, 7), (3, 300)]
    assert sorted(coco.anns) == [1, 2, 3, 4, 5, 6]


def test_what_is_said_of_the_whole_video(tracked: Path) -> None:
    content = json.loads(tracked.read_text())
    assert list(content) == [
        "video", "height", "width", "fps", "categories", "annotations", "images",
    ]  # fmt: skip
    assert (content["video"], content["fps"]) == ("frames", None)


def test_supervision_reads_a_tracked_video(tracked: Path, folder: Path) -> None:
    dataset = sv.DetectionDataset.from_coco(str(folder), str(tracked))
    assert dataset.classes == ["object"]
    assert len(dataset) == 4
    for path, picture, found in dataset:
        t = NAMES.index(Path(path).name)
        assert picture.shape == (256, 256, 3)
        boxes = [b for b in (RED_BOXES[t], BLUE_BOXES[t]) if b is not None]
        np.testing.assert_array_equal(found.xyxy, boxes)
        np.testing.assert_array_equal(found.mask, [box_mask(b) for b in boxes])
        assert list(found.class_id) == [0] * len(boxes)


@pytest.mark.parametrize("command", ["segment", "masks"])
def test_both_read_an_image(command: str, folder: Path, tmp_path: Path) -> None:
    session = ColourSession()
    image, out = folder / NAMES[1], tmp_path / "out"
    common: dict[str, Any] = {"session": session}
    if command == "segment":
        boxes = [(16, 8, 56, 40), (100, 100, 180, 140)]
        segment_image(session.bundle, image, out, boxes=boxes, **common)
    else:
        grid = np.array([[30, 20], [140, 120]]) / 256
        settings = {
            "points_per_side": None, "point_grids": [grid], "stability_score_thresh": 0.0,
            "multimask_output": False, "pred_iou_thresh": 0.0,
        }  # fmt: skip
        write_image_masks(session.bundle, image, out, settings=settings, **common)
    coco = COCO(str(out / "masks.json"))
    ((record,),) = [coco.loadImgs(coco.getImgIds())]
    assert record == {"id": 1, "file_name": NAMES[1], "height": 256, "width": 256}
    expected = {tuple(xywh(b)): box_mask(b) for b in (RED_BOXES[1], BLUE_BOXES[1]) if b}
    records = coco.loadAnns(coco.getAnnIds(imgIds=1))
    assert {tuple(r["bbox"]) for r in records} == set(expected)
    for item in records:
        np.testing.assert_array_equal(coco.annToMask(item), expected[tuple(item["bbox"])])
        assert (out / item["file_name"]).is_file()
        assert 0 <= item["predicted_iou"] <= 1
    dataset = sv.DetectionDataset.from_coco(str(folder), str(out / "masks.json"))
    ((_, _, found),) = list(dataset)
    assert {tuple(box) for box in found.xyxy} == {RED_BOXES[1], BLUE_BOXES[1]}


def test_no_masks_and_no_images_are_a_file_too(tmp_path: Path) -> None:
    path = tmp_path / "masks.json"
    with coco_file(path, {"video": "a\u00e9.mp4"}):
        pass
    content = json.loads(path.read_text())
    assert (content["images"], content["annotations"], content["video"]) == ([], [], "a\u00e9.mp4")
    with coco_file(path) as file:
        file.add_image("a.png", (4, 6))
        file.add_image("b.png", (4, 6), frame=3)
        file.add_mask(mask_record(np.eye(4, 6, dtype=bool)))
    coco = COCO(str(path))
    assert coco.getAnnIds(imgIds=1) == []
    (record,) = coco.loadAnns(coco.getAnnIds(imgIds=2))
    assert (record["id"], record["image_id"], record["bbox"]) == (1, 2, [0, 0, 4, 4])
    np.testing.assert_array_equal(coco.annToMask(record), np.eye(4, 6))
    assert [p.name for p in tmp_path.iterdir()] == ["masks.json"]


@pytest.mark.parametrize("kind", ["arrays", "one name", "stream"])
def test_frames_without_a_name_of_their_own_are_numbered(
    kind: str, folder: Path, tmp_path: Path
) -> None:
    session = ColourSession()
    frames: Any = [np.asarray(Image.open(folder / name)) for name in NAMES]
    if kind == "stream":
        frames = iter(frames)
    if kind == "one name":
        frames = []
        for name in NAMES:
            other = tmp_path / name.removesuffix(".png")
            other.mkdir()
            frames.append((folder / name).rename(other / "image.png"))
    track_video(session.bundle, frames, tmp_path / "out", PROMPTS, session=session)
    content = json.loads((tmp_path / "out" / "masks.json").read_text())
    names = [image["file_name"] for image in content["images"]]
    assert names == ["00000.jpg", "00001.jpg", "00002.jpg", "00003.jpg"]


def test_a_green_box_is_of_no_object(folder: Path, tmp_path: Path) -> None:
    """The prompted colours alone are found: the tests above would pass for any box else."""
    session = ColourSession()
    write_image(folder / NAMES[0], draw([(RED, (8, 8, 48, 40)), (GREEN, (200, 200, 240, 240))]))
    out = tmp_path / "out"
    track_video(session.bundle, folder, out, PROMPTS, session=session, write_video=False)
    records = json.loads((out / "masks.json").read_text())["annotations"]
    assert [r["object"] for r in records if r["image_id"] == 1] == [7]
