"""The original's three example notebooks, call by call, on the built-in model and drawn clips.

Only the loading lines differ, and `.cpu().numpy()` of the video's logits is left out. Variables
have the notebooks' names. The pictures are ours, so that their truth is known.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from sam2rt import ImagePredictor, MaskGenerator, VideoPredictor
from sam2rt.benchmarks.synthetic.clips import make_clip
from sam2rt.runtime.backends.onnxruntime_session import OnnxRuntimeSession

Array = NDArray[Any]
#: what the built-in model reaches on drawn objects; one that answers at random reaches 0.1
GOOD = 0.9


class Pictured:
    """A clip of 224 x 256 pixels of two objects, and where they are."""

    def __init__(self, seed: int, frames: int = 1) -> None:
        clip = make_clip(seed, "plain", frames)
        self.frames, self.labels = clip.frames[:, :224], clip.labels[:, :224]

    def truth(self, number: int, t: int = 0) -> Array:
        return self.labels[t] == number

    def point(self, number: int, t: int = 0) -> list[int]:
        """The point x, y furthest inside of the object."""
        padded = np.pad(self.truth(number, t).astype(np.uint8), 1)
        depth = cv2.distanceTransform(padded, cv2.DIST_L2, 5)[1:-1, 1:-1]
        y, x = np.unravel_index(depth.argmax(), depth.shape)
        return [int(x), int(y)]

    def box(self, number: int, t: int = 0) -> list[int]:
        rows, columns = np.nonzero(self.truth(number, t))
        return [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


def iou(first: Array, second: Array) -> float:
    first, second = first.astype(bool), second.astype(bool)
    union = (first | second).sum()
    return float((first & second).sum() / union) if union else 1.0


@pytest.fixture(scope="module")
def session(shared_bundles: Any) -> Iterator[OnnxRuntimeSession]:
    with OnnxRuntimeSession(shared_bundles.built_in(), threads=1) as opened:
        yield opened


# --- image_predictor_example ----------------------------------------------------------------


@pytest.fixture(scope="module")
def truck() -> Pictured:
    return Pictured(2)


@pytest.fixture(scope="module")
def predictor(session: Any, truck: Pictured) -> ImagePredictor:
    predictor = ImagePredictor(session.bundle, session=session)
    predictor.set_image(np.array(Image.fromarray(truck.frames[0]).convert("RGB")))
    return predictor


def test_image_a_point_gives_three_masks_sorted_by_score(
    predictor: ImagePredictor, truck: Pictured
) -> None:
    assert predictor._features["image_embed"].shape == (1, 64, 16, 16)
    assert predictor._features["image_embed"][-1].shape == (64, 16, 16)
    input_point = np.array([truck.point(1)])
    input_label = np.array([1])
    masks, scores, logits = predictor.predict(
        point_coords=input_point, point_labels=input_label, multimask_output=True
    )
    sorted_ind = np.argsort(scores)[::-1]
    masks, scores, logits = masks[sorted_ind], scores[sorted_ind], logits[sorted_ind]
    assert (masks.shape, scores.shape, logits.shape) == ((3, 224, 256), (3,), (3, 64, 64))
    assert [type(part) for part in (masks, scores, logits)] == [np.ndarray] * 3
    assert (scores.dtype, logits.dtype) == (np.float32, np.float32)
    assert sorted(scores, reverse=True) == list(scores)
    # a score is the model's guess of the very thing
    for mask, score in zip(masks, scores, strict=True):
        assert abs(iou(mask, truck.truth(1)) - score) < 0.05
    # the notebook draws each
    contours, _ = cv2.findContours(masks[0].astype(np.uint8), 0, cv2.CHAIN_APPROX_NONE)
    assert len(contours) == 1
    # logits are what the masks were before they were enlarged, to a pixel of theirs
    large = cv2.resize(logits[0], (256, 224), interpolation=cv2.INTER_LINEAR) > 0
    assert iou(large, masks[0]) > 0.99


def test_image_the_best_logits_refine(predictor: ImagePredictor, truck: Pictured) -> None:
    _, scores, logits = predictor.predict(
        point_coords=np.array([truck.point(1)]),
        point_labels=np.array([1]),
        multimask_output=True,
    )
    mask_input = logits[np.argmax(scores), :, :]
    # a second object joins the first: so did the truck's other window
    input_point = np.array([truck.point(1), truck.point(2)])
    for input_label, wanted in (
        (np.array([1, 1]), truck.truth(1)),
        (np.array([1, 0]), truck.truth(1)),
    ):
        masks, scores, refined = predictor.predict(
            point_coords=input_point,
            point_labels=input_label,
            mask_input=mask_input[None, :, :],
            multimask_output=False,
        )
        assert (masks.shape, scores.shape, refined.shape) == ((1, 224, 256), (1,), (1, 64, 64))
        assert (masks[0] & wanted).sum() > GOOD * wanted.sum()
        without, _, _ = predictor.predict(
            point_coords=input_point, point_labels=input_label, multimask_output=False
        )
        assert not np.array_equal(masks, without)
    # the background click's object is out of the last one
    assert (masks[0] & truck.truth(2)).sum() < 0.1 * truck.truth(2).sum()
    assert iou(masks[0], truck.truth(1)) > GOOD


def test_image_a_box_and_a_box_with_a_click(predictor: ImagePredictor, truck: Pictured) -> None:
    input_box = np.array(truck.box(1))
    masks, scores, _ = predictor.predict(
        point_coords=None, point_labels=None, box=input_box[None, :], multimask_output=False
    )
    assert (masks.shape, scores.shape) == ((1, 224, 256), (1,))
    assert iou(masks[0], truck.truth(1)) > GOOD
    flat, _, _ = predictor.predict(box=input_box, multimask_output=False)
    np.testing.assert_array_equal(flat, masks)
    masks, scores, logits = predictor.predict(
        point_coords=np.array([truck.point(2)]),
        point_labels=np.array([0]),
        box=input_box,
        multimask_output=False,
    )
    assert (masks.shape, scores.shape, logits.shape) == ((1, 224, 256), (1,), (1, 64, 64))
    assert iou(masks[0], truck.truth(1)) > GOOD


def test_image_several_boxes_are_several_objects(
    predictor: ImagePredictor, truck: Pictured
) -> None:
    input_boxes = np.array([truck.box(1), truck.box(2), [0, 0, 256, 224]])
    masks, scores, logits = predictor.predict(
        point_coords=None, point_labels=None, box=input_boxes, multimask_output=False
    )
    assert (masks.shape, scores.shape) == ((3, 1, 224, 256), (3, 1))
    for number, mask in enumerate(masks[:2], 1):
        assert iou(mask.squeeze(0), truck.truth(number)) > GOOD
    for i, box in enumerate(input_boxes):
        single, score, low = predictor.predict(box=box, multimask_output=False)
        assert iou(masks[i], single) > 0.999
        np.testing.assert_allclose(scores[i], score, atol=1e-4)
        np.testing.assert_allclose(logits[i], low, atol=1e-2)


def test_image_batches_of_images(session: Any, truck: Pictured) -> None:
    groceries = Pictured(4)
    img_batch = [truck.frames[0], groceries.frames[0][:200]]
    boxes_batch = [np.array([truck.box(1), truck.box(2)]), np.array([groceries.box(1)])]
    predictor = ImagePredictor(session.bundle, session=session)
    predictor.set_image_batch(img_batch)
    masks_batch, scores_batch, _ = predictor.predict_batch(
        None, None, box_batch=boxes_batch, multimask_output=False
    )
    assert [type(part) for part in (masks_batch, scores_batch)] == [list, list]
    assert [m.shape for m in masks_batch] == [(2, 1, 224, 256), (1, 200, 256)]
    assert iou(masks_batch[0][1, 0], truck.truth(2)) > GOOD
    assert iou(masks_batch[1][0], groceries.truth(1)[:200]) > GOOD

    pts_batch = [np.array([[truck.point(1)], [truck.point(2)]]), np.array([[groceries.point(1)]])]
    labels_batch = [np.array([[1], [1]]), np.array([[1]])]
    masks_batch, scores_batch, _ = predictor.predict_batch(
        pts_batch, labels_batch, box_batch=None, multimask_output=True
    )
    assert [m.shape for m in masks_batch] == [(2, 3, 224, 256), (3, 200, 256)]
    # the notebook selects the best mask of each object
    masks, scores = masks_batch[0], scores_batch[0]
    best_masks = masks[range(len(masks)), np.argmax(scores, axis=-1)]
    for number, best in enumerate(best_masks, 1):
        assert iou(best, truck.truth(number)) > GOOD
    for i, image in enumerate(img_batch):
        single = ImagePredictor(session.bundle, session=session)
        single.set_image(image)
        masks, scores, _ = single.predict(pts_batch[i], labels_batch[i])
        assert iou(masks, masks_batch[i]) > 0.999
        np.testing.assert_allclose(scores, scores_batch[i], atol=1e-4)


# --- automatic_mask_generator_example -------------------------------------------------------

KEYS = [
    "segmentation", "area", "bbox", "predicted_iou", "point_coords", "stability_score", "crop_box",
]  # fmt: skip


def test_masks_of_everything(session: Any, truck: Pictured) -> None:
    image = np.array(Image.fromarray(truck.frames[0]).convert("RGB"))
    mask_generator = MaskGenerator(session.bundle, session=session, apply_postprocessing=False)
    masks = mask_generator.generate(image)
    assert list(masks[0].keys()) == KEYS
    check_records(masks, (0.0, 0.0, 256.0, 224.0))
    scores = [ann["predicted_iou"] for ann in masks]
    assert scores == sorted(scores, reverse=True)
    assert min(scores) > 0.8
    for number in (1, 2):
        assert max(iou(ann["segmentation"], truck.truth(number)) for ann in masks) > GOOD
    # the notebook paints each on a canvas of the first one's size, the largest first
    sorted_anns = sorted(masks, key=(lambda x: x["area"]), reverse=True)
    shape = sorted_anns[0]["segmentation"].shape
    img = np.ones((shape[0], shape[1], 4))
    img[:, :, 3] = 0
    for ann in sorted_anns:
        img[ann["segmentation"]] = [*np.random.random(3), 0.5]
    assert ((img[:, :, 3] == 0.5) == np.any([a["segmentation"] for a in masks], axis=0)).all()


def test_masks_with_the_notebook_s_options(session: Any, truck: Pictured) -> None:
    image = truck.frames[0]
    mask_generator_2 = MaskGenerator(
        model=session.bundle,
        session=session,
        apply_postprocessing=False,
        points_per_side=16,
        points_per_batch=128,
        pred_iou_thresh=0.7,
        stability_score_thresh=0.92,
        stability_score_offset=0.7,
        crop_n_layers=1,
        box_nms_thresh=0.7,
        crop_n_points_downscale_factor=2,
        min_mask_region_area=25.0,
        use_m2m=True,
    )
    masks2 = mask_generator_2.generate(image)
    check_records(masks2, None)
    for number in (1, 2):
        assert max(iou(ann["segmentation"], truck.truth(number)) for ann in masks2) > GOOD
    assert min(ann["predicted_iou"] for ann in masks2) > 0.7
    assert min(ann["stability_score"] for ann in masks2) >= 0.92


def check_records(records: list[dict[str, Any]], crop: tuple[float, ...] | None) -> None:
    """Each field says what the mask says, in the original's types."""
    for ann in records:
        mask = ann["segmentation"]
        assert (mask.dtype, mask.shape) == (np.bool_, (224, 256))
        assert ann["area"] == mask.sum()
        rows, columns = np.nonzero(mask)
        x, y = columns.min(), rows.min()
        assert ann["bbox"] == [x, y, columns.max() - x, rows.max() - y]
        ((px, py),) = ann["point_coords"]
        assert 0 <= px < 256
        assert 0 <= py < 224
        assert crop is None or ann["crop_box"] == list(crop)
        kinds = [type(ann[k]) for k in ("area", "predicted_iou", "stability_score")]
        assert kinds == [int, float, float]
        assert {type(v) for v in (*ann["bbox"], *ann["crop_box"], px, py)} == {float}


# --- video_predictor_example ----------------------------------------------------------------

FRAMES = 12


@pytest.fixture(scope="module")
def bedroom() -> Pictured:
    return Pictured(4, FRAMES)


@pytest.fixture(scope="module")
def video_dir(bedroom: Pictured, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The notebook's folder of frames 00000.jpg and so on."""
    folder = tmp_path_factory.mktemp("bedroom")
    for t, frame in enumerate(bedroom.frames):
        Image.fromarray(frame).save(folder / f"{t:05d}.jpg", quality=95)
    return str(folder)


@pytest.fixture
def video(session: Any) -> VideoPredictor:
    return VideoPredictor(session.bundle, session=session)


def segments(predictor: VideoPredictor, state: Any, **options: Any) -> dict[int, dict[int, Array]]:
    """The notebook's loop."""
    video_segments = {}
    for out_frame_idx, out_obj_ids, out_mask_logits in predictor.propagate_in_video(
        state, **options
    ):
        video_segments[out_frame_idx] = {
            out_obj_id: (out_mask_logits[i] > 0.0) for i, out_obj_id in enumerate(out_obj_ids)
        }
    return video_segments


def same(first: dict[int, dict[int, Array]], second: dict[int, dict[int, Array]]) -> bool:
    assert list(first) == list(second)
    return all(
        np.array_equal(first[t][i], second[t][i], equal_nan=False) for t in first for i in first[t]
    )


def test_video_clicks_propagate_and_a_correction_is_taken(
    video: VideoPredictor, video_dir: str, bedroom: Pictured
) -> None:
    inference_state = video.init_state(video_path=video_dir)
    video.reset_state(inference_state)
    ann_frame_idx, ann_obj_id = 0, 1
    points = np.array([bedroom.point(1)], dtype=np.float32)
    labels = np.array([1], np.int32)
    out_frame_idx, out_obj_ids, out_mask_logits = video.add_new_points_or_box(
        inference_state=inference_state,
        frame_idx=ann_frame_idx,
        obj_id=ann_obj_id,
        points=points,
        labels=labels,
    )
    assert (out_frame_idx, out_obj_ids) == (0, [1])
    assert (out_mask_logits.shape, out_mask_logits.dtype) == ((1, 1, 224, 256), np.float32)
    assert iou((out_mask_logits[0] > 0.0)[0], bedroom.truth(1)) > GOOD

    # all clicks again with the new one: the second is background
    points = np.array([bedroom.point(1), bedroom.point(2)], dtype=np.float32)
    labels = np.array([1, 0], np.int32)
    _, out_obj_ids, out_mask_logits = video.add_new_points_or_box(
        inference_state=inference_state, frame_idx=0, obj_id=1, points=points, labels=labels
    )
    assert not ((out_mask_logits[0] > 0.0)[0] & bedroom.truth(2)).any()

    video_segments = segments(video, inference_state)
    assert list(video_segments) == list(range(FRAMES))
    for t, found in video_segments.items():
        assert list(found) == [1]
        assert (found[1].shape, found[1].dtype) == ((1, 224, 256), np.bool_)
        assert iou(found[1][0], bedroom.truth(1, t)) > GOOD

    # a click of background on the object: the notebook takes a part of it away
    x, y = bedroom.point(1, 8)
    ((_, _, before),) = video.propagate_in_video(inference_state, 8, 0)
    _, _, out_mask_logits = video.add_new_points_or_box(
        inference_state=inference_state,
        frame_idx=8,
        obj_id=1,
        points=np.array([[x, y]], dtype=np.float32),
        labels=np.array([0], np.int32),
    )
    assert out_mask_logits[0, 0, y, x] < before[0, 0, y, x] - 1
    again = segments(video, inference_state)
    assert same({t: again[t] for t in range(8)}, {t: video_segments[t] for t in range(8)})


def test_video_a_box_and_a_box_with_a_click(
    video: VideoPredictor, video_dir: str, bedroom: Pictured
) -> None:
    inference_state = video.init_state(video_path=video_dir)
    box = np.array(bedroom.box(2), dtype=np.float32)
    _, out_obj_ids, out_mask_logits = video.add_new_points_or_box(
        inference_state=inference_state, frame_idx=0, obj_id=4, box=box
    )
    assert out_obj_ids == [4]
    assert iou((out_mask_logits[0] > 0.0)[0], bedroom.truth(2)) > GOOD
    _, _, out_mask_logits = video.add_new_points_or_box(
        inference_state=inference_state,
        frame_idx=0,
        obj_id=4,
        points=np.array([bedroom.point(1)], dtype=np.float32),
        labels=np.array([0], np.int32),
        box=box,
    )
    assert iou((out_mask_logits[0] > 0.0)[0], bedroom.truth(2)) > GOOD
    for t, found in segments(video, inference_state).items():
        assert iou(found[4][0], bedroom.truth(2, t)) > GOOD


def test_video_several_objects_equal_each_alone(
    video: VideoPredictor, video_dir: str, bedroom: Pictured
) -> None:
    inference_state = video.init_state(video_path=video_dir)
    prompts = {}
    for ann_obj_id, number in ((2, 1), (3, 2)):
        points = np.array([bedroom.point(number)], dtype=np.float32)
        labels = np.array([1], np.int32)
        prompts[ann_obj_id] = points, labels
        _, out_obj_ids, out_mask_logits = video.add_new_points_or_box(
            inference_state=inference_state,
            frame_idx=0,
            obj_id=ann_obj_id,
            points=points,
            labels=labels,
        )
    # results are of all objects prompted so far
    assert (out_obj_ids, out_mask_logits.shape) == ([2, 3], (2, 1, 224, 256))
    assert list(prompts) == inference_state["obj_ids"]
    both = segments(video, inference_state)
    for t, found in both.items():
        for obj_id, number in ((2, 1), (3, 2)):
            assert iou(found[obj_id][0], bedroom.truth(number, t)) > GOOD
    video.reset_state(inference_state)
    assert inference_state["obj_ids"] == []
    for obj_id, (points, labels) in prompts.items():
        video.reset_state(inference_state)
        video.add_new_points_or_box(inference_state, 0, obj_id, points=points, labels=labels)
        alone = segments(video, inference_state)
        assert [list(found) for found in alone.values()] == [[obj_id]] * FRAMES
        for t in alone:
            assert iou(alone[t][obj_id], both[t][obj_id]) > 0.999


def test_video_prompts_on_several_frames_and_both_directions(
    video: VideoPredictor, video_dir: str, bedroom: Pictured
) -> None:
    inference_state = video.init_state(video_path=video_dir)
    points, labels = np.array([bedroom.point(1, 6)]), np.array([1])
    video.add_new_points_or_box(inference_state, 6, 1, points=points, labels=labels)
    box = np.array(bedroom.box(1, 9))
    video.add_new_points_or_box(inference_state, 9, 1, box=box)
    forward = segments(video, inference_state)
    assert list(forward) == [6, 7, 8, 9, 10, 11]
    backward = segments(video, inference_state, reverse=True)
    assert list(backward) == [6, 5, 4, 3, 2, 1, 0]
    for t, found in (forward | backward).items():
        assert iou(found[1][0], bedroom.truth(1, t)) > GOOD
    # a prompted frame keeps the prompt's mask whichever way it is passed
    assert same({6: forward[6]}, {6: backward[6]})
    part = segments(video, inference_state, start_frame_idx=7, max_frame_num_to_track=2)
    assert list(part) == [7, 8, 9]
    assert same({9: part[9]}, {9: forward[9]})
    # forgotten, the same calls give the same again
    video.reset_state(inference_state)
    video.add_new_points_or_box(inference_state, 6, 1, points=points, labels=labels)
    video.add_new_points_or_box(inference_state, 9, 1, box=box)
    assert same(segments(video, inference_state), forward)
