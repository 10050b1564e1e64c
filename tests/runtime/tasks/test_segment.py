"""The work of ``sam2rt segment``: what lies in the folder, and when there is none."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from golden import data_path, golden_set

from sam2rt import FrameError, ImagePredictor, InputError
from sam2rt.runtime.media.images import read_image
from sam2rt.runtime.pixels.antialias import resize_antialias
from sam2rt.runtime.pixels.rle import mask_from_rle, rle_from_mask
from sam2rt.runtime.session import Session
from sam2rt.runtime.tasks.prompts import ObjectPrompt
from sam2rt.runtime.tasks.segment import segment_image
from sam2rt.runtime.tracking.prompts import mask_from

BOXES = [(75, 275, 1725, 850), (425, 600, 700, 875), (1375, 550, 1650, 800)]


def _masks(folder: Path) -> list[dict[str, Any]]:
    """The annotations, each with its decoded mask, equal to its image."""
    content = json.loads((folder / "masks.json").read_text())
    image = {"id": 1, "file_name": "truck.jpg", "height": 1200, "width": 1800}
    assert content["images"] == [image]
    for item in content["annotations"]:
        item["mask"] = mask_from_rle(item["segmentation"])
        image = read_image(folder / item["file_name"])
        np.testing.assert_array_equal(image[..., 0], item["mask"] * np.uint8(255))
    return content["annotations"]


def _segment(session: Session, out: Path, **arguments: Any) -> Any:
    return segment_image(session.bundle, data_path("truck.jpg"), out, session=session, **arguments)


def test_boxes_make_one_object_each(micro_session: Session, tmp_path: Path) -> None:
    found = _segment(micro_session, tmp_path / "out", boxes=BOXES)
    names = ["mask_1.png", "mask_2.png", "mask_3.png", "masks.json", "overlay.png"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == names
    golden = golden_set("micro")
    recorded = golden.masks("boxes4_single.mask")[:3, 0]
    for i, item in enumerate(_masks(tmp_path / "out")):
        assert (item["id"], item["object"], item["file_name"]) == (i + 1, i + 1, names[i])
        near = int(golden.array("boxes4_single.mask__near0")[i, 1])
        assert np.count_nonzero(item["mask"] != recorded[i]) <= near
        np.testing.assert_array_equal(found[i].mask, item["mask"])
        assert item["predicted_iou"] == pytest.approx(found[i].iou, abs=1e-6)
        rows, columns = np.nonzero(item["mask"])
        x, y, w, h = item["bbox"]
        assert (x, y, x + w - 1, y + h - 1) == (
            columns.min(),
            rows.min(),
            columns.max(),
            rows.max(),
        )
        assert item["area"] == len(rows)


def test_one_click_keeps_the_best_of_three_readings(micro_session: Session, tmp_path: Path) -> None:
    _segment(micro_session, tmp_path / "out", points=[(500, 375, 1)])
    (item,) = _masks(tmp_path / "out")
    golden = golden_set("micro")
    best = int(golden.array("click1_multi.iou").argmax())
    assert item["predicted_iou"] == pytest.approx(golden.array("click1_multi.iou")[best], abs=1e-4)
    recorded = golden.masks("click1_multi.mask")[best]
    assert np.count_nonzero(item["mask"] != recorded) <= golden.near_zero("click1_multi.mask")


def test_several_clicks_make_one_mask(micro_session: Session, tmp_path: Path) -> None:
    clicks = [(500, 375, 1), (1125, 625, 1), (600, 300, 0)]
    (found,) = _segment(micro_session, tmp_path / "out", points=clicks)
    golden = golden_set("micro")
    recorded = golden.masks("clicks3_single.mask")[0]
    assert np.count_nonzero(found.mask != recorded) <= golden.near_zero("clicks3_single.mask")


def test_all_readings_on_request(micro_session: Session, tmp_path: Path) -> None:
    found = _segment(micro_session, tmp_path / "out", points=[(500, 375, 1)], all_masks=True)
    items = _masks(tmp_path / "out")
    assert [i["file_name"] for i in items] == ["mask_1_1.png", "mask_1_2.png", "mask_1_3.png"]
    assert [i["object"] for i in items] == [1, 1, 1]
    assert [i["reading"] for i in items] == [1, 2, 3]
    assert [i["predicted_iou"] for i in items] == [round(f.iou, 6) for f in found]
    rgb = read_image(data_path("truck.jpg"))
    best = max(found, key=lambda f: f.iou).mask
    names = ["overlay_1.png", "overlay_2.png", "overlay_3.png", "overlay.png"]
    for name, mask in zip(names, [*(f.mask for f in found), best], strict=True):
        changed = (read_image(tmp_path / "out" / name) != rgb).any(-1)
        assert changed[mask].mean() > 0.95
        # beside the mask there are its outline, its label and the click
        assert changed[~mask].sum() < 0.05 * mask.size
    # the folder can be replaced
    _segment(micro_session, tmp_path / "out", points=[(500, 375, 1)])
    assert not (tmp_path / "out" / "overlay_1.png").exists()
    np.testing.assert_allclose(
        [f.iou for f in found], golden_set("micro").array("click1_multi.iou"), atol=1e-4
    )


def test_the_overlay_shows_the_masks(micro_session: Session, tmp_path: Path) -> None:
    (found,) = _segment(micro_session, tmp_path / "out", boxes=[(425, 600, 700, 875)])
    overlay = read_image(tmp_path / "out" / "overlay.png").astype(int)
    rgb = read_image(data_path("truck.jpg")).astype(int)
    changed = np.abs(overlay - rgb).max(-1) > 0
    assert changed[found.mask].mean() > 0.95
    far = np.ones_like(found.mask)
    rows, columns = np.nonzero(found.mask)
    far[
        max(rows.min() - 60, 0) : rows.max() + 5, max(columns.min() - 60, 0) : columns.max() + 5
    ] = 0
    assert not changed[far].any()


def test_holes_and_specks_may_be_removed(micro_session: Session, tmp_path: Path) -> None:
    click = {"points": [(500, 375, 1), (1125, 625, 1)]}
    (plain,) = _segment(micro_session, tmp_path / "a", **click)
    (clean,) = _segment(
        micro_session, tmp_path / "b", **click, max_hole_area=50, max_sprinkle_area=50
    )
    predictor = ImagePredictor(
        micro_session.bundle, session=micro_session, max_hole_area=50, max_sprinkle_area=50
    )
    predictor.set_image(read_image(data_path("truck.jpg")))
    expected = predictor.predict([[500, 375], [1125, 625]], [1, 1], multimask_output=False)[0][0]
    np.testing.assert_array_equal(clean.mask, expected)
    assert (clean.mask != plain.mask).any()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "nothing to segment"),
        ({"points": [(5, 5, 1)], "boxes": BOXES[:2]}, "give one box with points, or boxes alone"),
        ({"points": [(5, 50000, 1)]}, "lies outside the image"),
        ({"boxes": [(50, 50, 5, 5)]}, "empty or reversed"),
    ],
)
def test_unusable_prompts_write_nothing(
    micro_session: Session, tmp_path: Path, arguments: Any, message: str
) -> None:
    with pytest.raises(InputError, match=message):
        _segment(micro_session, tmp_path / "out", **arguments)
    assert list(tmp_path.iterdir()) == []


def test_an_unreadable_image_writes_nothing(micro_session: Session, tmp_path: Path) -> None:
    with pytest.raises(FrameError, match="does not exist"):
        segment_image(
            micro_session.bundle,
            "absent.jpg",
            tmp_path / "out",
            points=[(1, 1, 1)],
            session=micro_session,
        )
    assert list(tmp_path.iterdir()) == []


def test_an_earlier_result_is_replaced_and_other_folders_are_not(
    micro_session: Session, tmp_path: Path
) -> None:
    _segment(micro_session, tmp_path / "out", boxes=BOXES)
    _segment(micro_session, tmp_path / "out", boxes=BOXES[:1])
    assert not (tmp_path / "out" / "mask_2.png").exists()
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match=r"is not empty and holds no masks\.json"):
        _segment(micro_session, tmp_path / "own", boxes=BOXES)
    with pytest.raises(InputError, match="is a file: name a folder"):
        _segment(micro_session, tmp_path / "own" / "thesis.txt", boxes=BOXES)
    assert (tmp_path / "own" / "thesis.txt").read_text() == "years of work"


@pytest.mark.parametrize("name", ["thesis.txt", "masks/1/notes.md", "masks/car.png", ".git/config"])
def test_a_folder_with_more_than_results_is_not_replaced(
    name: str, micro_session: Session, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    _segment(micro_session, out, boxes=BOXES[:1])
    (out / name).parent.mkdir(parents=True, exist_ok=True)
    (out / name).write_text("years of work")
    with pytest.raises(InputError) as refused:
        _segment(micro_session, out, boxes=BOXES)
    found = ".git" if name.startswith(".") else name
    assert str(refused.value) == (
        f"folder {out} holds {found}, which is of no earlier run: move it, or name another"
    )
    assert (out / name).read_text() == "years of work"


def test_what_a_link_leads_to_becomes_the_result(micro_session: Session, tmp_path: Path) -> None:
    """One that leads nowhere yet is refused by no one after the work."""
    (tmp_path / "link").symlink_to("elsewhere")
    for _ in range(2):
        _segment(micro_session, tmp_path / "link", boxes=BOXES[:1])
        assert (tmp_path / "link").is_symlink()
        assert (tmp_path / "elsewhere" / "mask_1.png").is_file()


def test_an_interruption_leaves_the_earlier_result(micro_session: Session, tmp_path: Path) -> None:
    _segment(micro_session, tmp_path / "out", boxes=BOXES)

    def interrupt(what: str, done: int = 0, total: int | None = None) -> None:
        if what == "writing masks":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        _segment(micro_session, tmp_path / "out", boxes=BOXES[:1], progress=interrupt)
    assert [p.name for p in tmp_path.iterdir()] == ["out"]
    assert len(_masks(tmp_path / "out")) == 3


TRUCK = np.zeros((1200, 1800), bool)
TRUCK[280:850, 80:1720] = True


def test_objects_of_several_kinds_are_what_each_is_alone(
    micro_session: Session, tmp_path: Path
) -> None:
    prompts = [
        ObjectPrompt(7, 0, [(500, 375, 1)]),
        ObjectPrompt(-3, 0, box=BOXES[1]),
        ObjectPrompt(2, 0, [(1500, 700, 1), (900, 300, 0)], BOXES[2]),
        ObjectPrompt(9, 0, box=BOXES[0]),
        ObjectPrompt(4, 0, mask=dict(rle_from_mask(TRUCK))),
    ]
    found = _segment(micro_session, tmp_path / "all", prompts=prompts)
    assert [f.obj_id for f in found] == [7, -3, 2, 9, 4]
    items = _masks(tmp_path / "all")
    assert [i["file_name"] for i in items] == [f"mask_{i}.png" for i in (7, -3, 2, 9, 4)]
    for prompt, together in zip(prompts, found, strict=True):
        (alone,) = _segment(micro_session, tmp_path / "one", prompts=[prompt])
        assert alone.iou == pytest.approx(together.iou, abs=1e-5)
        assert np.count_nonzero(alone.mask != together.mask) < 20
    # a name of any id is a result's own
    _segment(micro_session, tmp_path / "all", boxes=BOXES[:1])


def test_a_mask_is_where_the_search_starts(micro_session: Session, tmp_path: Path) -> None:
    """The same as giving the predictor logits of -10 and 10 at its own size."""
    prompt = ObjectPrompt(1, 0, [(500, 375, 1)], mask=dict(rle_from_mask(TRUCK)))
    (found,) = _segment(micro_session, tmp_path / "out", prompts=[prompt])
    predictor = ImagePredictor(micro_session.bundle, session=micro_session)
    predictor.set_image(read_image(data_path("truck.jpg")))
    side, size = predictor.config.mask_size, predictor.config.image_size
    coarse = resize_antialias(mask_from(TRUCK, TRUCK.shape, size) * 20 - 10, (side, side))
    masks, ious, _ = predictor.predict(
        [[500, 375]], [1], mask_input=coarse[None], multimask_output=False
    )
    # the graph and numpy round differently
    assert np.count_nonzero(masks[0] != found.mask) < 50
    assert found.iou == pytest.approx(float(ious[0]), abs=1e-4)
    (without,) = _segment(
        micro_session, tmp_path / "out", prompts=[ObjectPrompt(1, 0, [(500, 375, 1)])]
    )
    assert (without.mask != found.mask).any()


@pytest.mark.parametrize(
    ("prompts", "message"),
    [
        ([ObjectPrompt(1, 2, box=BOXES[0])], "object 1 on frame 2: an image has frame 0 alone"),
        (
            [ObjectPrompt(1, 0, box=BOXES[0]), ObjectPrompt(1, 0, box=BOXES[1])],
            "object 1 on frame 0 has two prompts: give them as one",
        ),
        (
            [ObjectPrompt(1, 0, mask=dict(rle_from_mask(TRUCK.T)), place="m.png")],
            "m.png: object 1 on frame 0: the mask is 1200 x 1800, the frame 1800 x 1200",
        ),
        ([ObjectPrompt(3, 0)], "object 3 on frame 0: no prompt: give points with labels"),
        ([ObjectPrompt(3, 0, box=(9, 9, 5, 5))], "object 3 on frame 0: box [9.0, 9.0, 5.0, 5.0]"),
    ],
)
def test_prompts_that_cannot_be_used_write_nothing(
    micro_session: Session, tmp_path: Path, prompts: list[ObjectPrompt], message: str
) -> None:
    with pytest.raises(InputError) as refused:
        _segment(micro_session, tmp_path / "out", prompts=prompts)
    assert str(refused.value).startswith(message)
    assert list(tmp_path.iterdir()) == []
