"""FiftyOne's own data sets, labels and apply_model ask our models."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from sam2rt import VideoPredictor
from sam2rt.configs.errors import InputError
from sam2rt.runtime.media.video.writer import open_video_writer
from sam2rt.serving.labelling.outlines import edges_of

pytest.importorskip(
    "fiftyone.core.labels",
    reason="needs FiftyOne, which wants an older OpenCV: see docs/guides/labelling/fiftyone.md",
)

import fiftyone as fo

from sam2rt.serving.labelling.fiftyone_model import model as fiftyone_model


def relative(mask: Any) -> list[float]:
    x0, y0, x1, y1 = edges_of(mask)
    height, width = mask.shape
    return [x0 / width, y0 / height, (x1 - x0) / width, (y1 - y0) / height]


def middle(mask: Any) -> list[float]:
    rows, columns = np.nonzero(mask)
    nearest = np.argmin((rows - rows.mean()) ** 2 + (columns - columns.mean()) ** 2)
    return [(columns[nearest] + 0.5) / mask.shape[1], (rows[nearest] + 0.5) / mask.shape[0]]


def whole(detection: Any, size: tuple[int, int]) -> Any:
    """FiftyOne's own way from a detection to a mask of the frame."""
    return detection.to_segmentation(frame_size=(size[1], size[0])).mask > 0


@pytest.fixture(scope="module")
def samples(clip: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("fiftyone")
    Image.fromarray(clip.frames[0]).save(folder / "0.png")
    with open_video_writer(folder / "clip.mp4", 10, clip.frames[0].shape[:2]) as writer:
        for frame in clip.frames:
            writer.write(frame)
    return {"image": str(folder / "0.png"), "video": str(folder / "clip.mp4")}


def test_boxes_and_points_give_the_masks_of_the_image_predictor(
    built_in: Any, clip: Any, segmented: Any, samples: dict[str, str]
) -> None:
    true, other = clip.labels[0] == 1, clip.labels[0] == 2
    size = true.shape
    sample = fo.Sample(filepath=samples["image"])
    sample["boxes"] = fo.Detections(
        detections=[fo.Detection(label="ball", bounding_box=relative(true), index=7)]
    )
    sample["points"] = fo.Keypoints(
        keypoints=[
            fo.Keypoint(label="box", points=[middle(other), (float("nan"), float("nan"))]),
            fo.Keypoint(label="none", points=[(float("nan"), float("nan"))]),
        ]
    )
    model = fiftyone_model(str(built_in.path), threads=1)
    scale = np.array([size[1], size[0]])
    model.needs_fields = {"prompt_field": "boxes"}
    (found,) = model.predict(clip.frames[0], sample=sample).detections
    expected, score = segmented(box=edges_of(true))
    np.testing.assert_array_equal(whole(found, size), expected)
    assert (found.label, found.index) == ("ball", 7)
    assert found.confidence == pytest.approx(score)
    model.needs_fields = {"prompt_field": "points"}
    (found,) = model.predict(clip.frames[0], sample=sample).detections
    expected, _ = segmented([middle(other) * scale], [1])
    np.testing.assert_array_equal(whole(found, size), expected)
    assert (found.label, found.index) == ("box", None)


def test_without_prompts_everything_is_found(built_in: Any, clip: Any, model: Any) -> None:
    from sam2rt import MaskGenerator

    expected = MaskGenerator(built_in, session=model).generate(clip.frames[0])
    made = fiftyone_model(str(built_in.path), threads=1)
    found = made.predict(clip.frames[0]).detections
    assert len(found) == len(expected) > 0
    for detection, record in zip(found, expected, strict=True):
        mask = record["segmentation"]
        np.testing.assert_array_equal(whole(detection, mask.shape), mask)


def test_a_video_gives_the_masks_of_the_video_predictor(
    built_in: Any, clip: Any, model: Any, samples: dict[str, str]
) -> None:
    first, later = clip.labels[0] == 1, clip.labels[4] == 2
    size = first.shape
    sample = fo.Sample(filepath=samples["video"])
    boxed = fo.Detection(label="ball", bounding_box=relative(first), index=3)
    added = fo.Detection(label="box", bounding_box=relative(later))
    sample.frames[1] = fo.Frame(prompts=fo.Detections(detections=[boxed]))
    sample.frames[5] = fo.Frame(prompts=fo.Detections(detections=[added]))

    video = VideoPredictor(built_in, session=model)
    state = video.init_state(samples["video"])
    video.add_new_points_or_box(state, 0, 1, box=edges_of(first))
    video.add_new_points_or_box(state, 4, 2, box=edges_of(later))
    expected = {t: logits[:, 0] > 0 for t, _, logits in video.propagate_in_video(state)}

    made = fiftyone_model(str(built_in.path), "video", threads=1)
    made.needs_fields = {"prompt_field": "frames.prompts"}
    found = made.predict(Reader(size), sample=sample)
    assert sorted(found) == [t + 1 for t in sorted(expected)]
    assert len(found) == len(clip.frames)
    names = set()
    for t, masks in expected.items():
        seen = {(d.label, d.index): whole(d, size) for d in found[t + 1].detections}
        names |= set(seen)
        for key, mask in zip([("ball", 3), ("box", 1)], masks, strict=True):
            np.testing.assert_array_equal(seen.get(key, np.zeros(size, bool)), mask)
    assert names == {("ball", 3), ("box", 1)}


class Reader:
    """What FiftyOne hands over of a video."""

    def __init__(self, size: tuple[int, int]) -> None:
        self.frame_size = size[1], size[0]


def test_odd_requests_are_one_line(built_in: Any, clip: Any, samples: dict[str, str]) -> None:
    with pytest.raises(InputError, match="media_type is 'sound': expected image or video"):
        fiftyone_model(str(built_in.path), "sound")
    made = fiftyone_model(str(built_in.path), "video", threads=1)
    sample = fo.Sample(filepath=samples["video"])
    with pytest.raises(InputError, match="prompt_field is None: expected a field of frames"):
        made.predict(Reader((4, 4)), sample=sample)
    sample.frames[1] = fo.Frame(prompts=None)
    made.needs_fields = {"prompt_field": "frames.prompts"}
    with pytest.raises(InputError, match=r"field 'frames\.prompts' is empty on every frame"):
        made.predict(Reader((4, 4)), sample=sample)
    image = fiftyone_model(str(built_in.path), threads=1)
    image.needs_fields = {"prompt_field": "kind"}
    still = fo.Sample(filepath=samples["image"], kind=fo.Classification(label="a"))
    with pytest.raises(InputError, match="a prompt field of Classification: expected Detections"):
        image.predict(clip.frames[0], sample=still)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[None]:
    """FiftyOne's data sets lie in a database of its own; where it cannot be started, no test."""
    try:
        fo.list_datasets()
    except Exception as error:
        pytest.skip(f"FiftyOne's database does not start: {' '.join(str(error).split())[:100]}")
    yield
    for name in ("sam2rt_images", "sam2rt_videos"):
        if name in fo.list_datasets():
            fo.delete_dataset(name)


def test_apply_model_fills_data_sets(
    database: None, built_in: Any, clip: Any, segmented: Any, samples: dict[str, str]
) -> None:
    size = clip.frames[0].shape[:2]
    true = clip.labels[0] == 1
    prompt = fo.Detections(detections=[fo.Detection(label="ball", bounding_box=relative(true))])
    images = fo.Dataset("sam2rt_images")
    images.add_sample(fo.Sample(filepath=samples["image"], boxes=prompt))
    images.apply_model(
        fiftyone_model(str(built_in.path), threads=1),
        label_field="masks", prompt_field="boxes", skip_failures=False,
    )  # fmt: skip
    (found,) = images.first()["masks"].detections
    np.testing.assert_array_equal(whole(found, size), segmented(box=edges_of(true))[0])

    videos = fo.Dataset("sam2rt_videos")
    sample = fo.Sample(filepath=samples["video"])
    sample.frames[1] = fo.Frame(boxes=prompt)
    videos.add_sample(sample)
    videos.apply_model(
        fiftyone_model(str(built_in.path), "video", threads=1),
        label_field="frames.masks", prompt_field="frames.boxes", skip_failures=False,
    )  # fmt: skip
    made = fiftyone_model(str(built_in.path), "video", threads=1)
    made.needs_fields = {"prompt_field": "frames.boxes"}
    expected = made.predict(Reader(size), sample=sample)
    assert len(expected) == len(clip.frames)
    for number, frame in videos.first().frames.items():
        (mask,) = (whole(one, size) for one in frame["masks"].detections)
        (wanted,) = (whole(one, size) for one in expected[number].detections)
        np.testing.assert_array_equal(mask, wanted)
