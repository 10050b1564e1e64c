"""Wrong arguments to the public classes: one line of our own errors, never a raw one."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from colour_model import ColourSession
from PIL import Image

from sam2rt import (
    Bundle,
    FrameError,
    ImagePredictor,
    InputError,
    MaskGenerator,
    SessionError,
    StreamTracker,
    VideoPredictor,
)
from sam2rt.runtime.backends.open import open_session

CLASSES = [ImagePredictor, VideoPredictor, StreamTracker, MaskGenerator]
FRAME = np.full((256, 256, 3), 90, np.uint8)
CLICK: dict[str, Any] = {"points": [[20, 42]], "labels": [1]}
MASK = np.ones((256, 256), bool)


def refused(call: Callable[[], Any], message: str, error: type[Exception] = InputError) -> None:
    with pytest.raises(error, match=message) as caught:
        call()
    assert type(caught.value) is error
    assert "\n" not in str(caught.value)


@pytest.fixture
def session() -> ColourSession:
    return ColourSession()


@pytest.mark.parametrize("owner", CLASSES)
@pytest.mark.parametrize("bundle", [None, "bundle", Path("bundle"), 5])
def test_what_is_no_bundle(owner: Any, bundle: Any, session: ColourSession) -> None:
    for options in ({}, {"session": session}):
        refused(lambda o=options: owner(bundle, **o), r"^bundle is .*Bundle\.load\(path\) gives")


@pytest.mark.parametrize("owner", CLASSES)
@pytest.mark.parametrize("device", ["cuda", "tensorrt"])
def test_a_device_that_is_never_there_is_refused_when_the_predictor_is_made(
    owner: Any, device: str, session: ColourSession, monkeypatch: pytest.MonkeyPatch
) -> None:
    onnxruntime = pytest.importorskip("onnxruntime")
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    refused(
        lambda: owner(session.bundle, device=device),
        f"^device '{device}' needs .*, the installed onnxruntime .* lacks it",
        SessionError,
    )
    owner(session.bundle, device="cpu").close()


@pytest.mark.parametrize("owner", CLASSES)
def test_what_is_no_session(owner: Any, session: ColourSession) -> None:
    refused(lambda: owner(session.bundle, session="cpu"), "session is 'cpu': expected an open")
    refused(lambda: owner(session.bundle, backend=[]), r"backend is \[\]: expected one of onnx")
    refused(lambda: owner(session.bundle, device=0), "device is 0: expected text such as 'cpu'")
    refused(lambda: owner.from_pretrained(None), "model_id is None: expected the folder")
    refused(lambda: owner.from_pretrained(""), "model_id is empty: expected the folder")
    refused(lambda: Bundle.load(None), "path is None: expected the folder of a bundle")  # type: ignore[arg-type]


@pytest.mark.parametrize("threads", [1.5, "2", True])
def test_threads(threads: Any, session: ColourSession) -> None:
    pytest.importorskip("onnxruntime")
    for make in (open_session, ImagePredictor):
        refused(
            lambda m=make: m(session.bundle, threads=threads),
            "threads is .*: expected a whole number, at least 1, or None for all cores",
        )


OPTIONS: list[tuple[Any, dict[str, Any], str]] = [
    (VideoPredictor, {"objects_per_call": 1.5}, "objects_per_call is 1.5: expected a whole number"),
    (StreamTracker, {"objects_per_call": 0}, "objects_per_call is 0: expected at least 1, or None"),
    (VideoPredictor, {"fill_hole_area": -1}, "fill_hole_area is -1: expected at least 0"),
    (StreamTracker, {"fill_hole_area": "8"}, "fill_hole_area is '8': expected a whole number"),
    (VideoPredictor, {"max_cond_frames_in_attn": None}, "max_cond_frames_in_attn is None"),
    (StreamTracker, {"memory_dtype": np.zeros(0)}, "memory_dtype is .*: expected one of"),
    (MaskGenerator, {"output_mode": np.zeros(0)}, "unknown output_mode .*: expected one of"),
    (StreamTracker, {"num_frames": 0}, "num_frames is 0: expected at least 1, or None for a live"),
    (StreamTracker, {"num_frames": -3}, "num_frames is -3: expected at least 1"),
    (StreamTracker, {"num_frames": 2.5}, "num_frames is 2.5: expected a whole number"),
    (StreamTracker, {"num_frames": "9"}, "num_frames is '9': expected a whole number"),
    (ImagePredictor, {"mask_threshold": math.nan}, "mask_threshold is nan: expected a number"),
    (ImagePredictor, {"mask_threshold": math.inf}, "mask_threshold is inf: expected a number"),
    (ImagePredictor, {"max_hole_area": "a"}, "max_hole_area is 'a': expected a number of at least"),
    (ImagePredictor, {"max_sprinkle_area": -1}, "max_sprinkle_area is -1: expected a number of at"),
    (MaskGenerator, {"points_per_side": "a"}, "points_per_side is 'a': expected a whole number"),
    (MaskGenerator, {"points_per_side": 2.5}, "points_per_side is 2.5: expected a whole number"),
    (MaskGenerator, {"points_per_batch": 1.5}, "points_per_batch is 1.5: expected a whole number"),
    (MaskGenerator, {"crop_n_layers": 1.5}, "crop_n_layers is 1.5: expected a whole number"),
    (MaskGenerator, {"crop_n_layers": -1}, "crop_n_layers is -1: expected at least 0"),
    (MaskGenerator, {"crop_n_points_downscale_factor": 0}, "downscale_factor is 0: expected at le"),
    (MaskGenerator, {"stability_score_offset": -1}, "offset is -1: expected a number of at least"),
    (MaskGenerator, {"mask_threshold": math.nan}, "mask_threshold is nan: expected a number"),
    (MaskGenerator, {"min_mask_region_area": -1}, "area is -1: expected a number of at least 0"),
    (MaskGenerator, {"points_per_side": None, "point_grids": 5}, "point_grids is 5: expected a li"),
    (
        MaskGenerator,
        {"points_per_side": None, "point_grids": [[[0.5, 0.5], [0.5]]]},
        r"a point grid must be an array \[K, 2\] of numbers",
    ),
    *(
        (MaskGenerator, {name: value}, f"{name} is .*: expected a number from 0 to 1")
        for name in (
            "pred_iou_thresh", "stability_score_thresh", "box_nms_thresh", "crop_nms_thresh",
            "crop_overlap_ratio",
        )
        for value in (math.nan, math.inf, -0.1, 1.5, "0.8", None)
    ),
]  # fmt: skip


@pytest.mark.parametrize(("owner", "options", "message"), OPTIONS)
def test_options(owner: Any, options: dict[str, Any], message: str, session: ColourSession) -> None:
    refused(lambda: owner(session.bundle, session=session, **options), message)


def test_small_regions_of_records() -> None:
    clean = MaskGenerator.postprocess_small_regions
    refused(lambda: clean([], -1, 0.7), "min_area is -1: expected a number of at least 0")
    refused(lambda: clean([], 4, math.nan), "nms_thresh is nan: expected a number from 0 to 1")
    for records in (None, "a", [1], [{}], np.ones((2, 2))):
        refused(lambda r=records: clean(r, 4, 0.7), "records is .*: expected what generate gives")


PROMPTS: list[tuple[dict[str, Any], str]] = [
    ({"points": [[1, 2], [3]], "labels": [1, 1]}, "points must be an array of numbers"),
    ({"points": [["1", "2"]], "labels": [1]}, "points must be an array of numbers"),
    ({"points": [[1, 2]], "labels": [[1], [1, 0]]}, "labels must be an array of numbers"),
    ({"points": [[1, 2]], "labels": ["a"]}, r"labels must be an array of numbers, got \['a'\]"),
    ({"points": [[1, 2]], "labels": [math.nan]}, r"labels \[nan\]: expected 1"),
    ({"points": [[10**400, 2]], "labels": [1]}, "points must be an array of numbers"),
    ({"points": [[1e300, 2]], "labels": [1]}, "a point is NaN or infinite"),
    ({"points": [[math.inf, 2]], "labels": [1]}, "a point is NaN or infinite"),
    ({"points": [[1, 2, 3, 4]], "labels": [1, 1]}, r"points must be x, y pairs \[P, 2\]"),
    ({"points": np.ones((2, 1, 2)), "labels": [1, 1]}, r"x, y pairs \[P, 2\], .* \(2, 1, 2\)"),
    ({"box": [[1, 2], [3]]}, "box must be an array of numbers"),
    ({"box": "1234"}, "box must be an array of numbers, got '1234'"),
    ({"box": [1, 2, math.nan, 4]}, "a box corner is NaN or infinite"),
    ({"box": [-20, 10, -5, 40]}, "lies outside the image: expected one that overlaps it"),
    ({"box": [0, 0, 300, 50]}, r"the box corner \[300.0, 50.0\] lies outside the image of width"),
]


@pytest.mark.parametrize(("prompt", "message"), PROMPTS)
def test_prompts_of_every_predictor(
    prompt: dict[str, Any], message: str, session: ColourSession
) -> None:
    video = VideoPredictor(session.bundle, session=session)
    state = video.init_state(FRAME[None])
    refused(lambda: video.add_new_points_or_box(state, 0, 1, **prompt), message)
    assert state.obj_ids == []
    stream = StreamTracker(session.bundle, session=session)
    stream.step(FRAME)
    refused(lambda: stream.add_points(1, **prompt), message)
    assert stream.obj_ids == []
    image = ImagePredictor(session.bundle, session=session)
    image.set_image(FRAME)
    names = {"points": "point_coords", "labels": "point_labels", "box": "box"}
    given = {names[name]: value for name, value in prompt.items()}
    refused(lambda: image.predict(**given), "point|box|labels")


def test_pixels_where_fractions_are_expected(session: ColourSession) -> None:
    image = ImagePredictor(session.bundle, session=session)
    image.set_image(FRAME)
    video = VideoPredictor(session.bundle, session=session)
    state = video.init_state(FRAME[None])
    stream = StreamTracker(session.bundle, session=session)
    box = {"box": [8, 30, 32, 54], "normalize_coords": False}
    message = "outside the image: expected fractions 0 to 1, or normalize_coords=True for pixels"
    for call in (
        lambda: image.predict([[20, 42]], [1], normalize_coords=False),
        lambda: image.predict(**box),
        lambda: video.add_new_points_or_box(state, 0, 1, **box),
        lambda: stream.add_points(1, **box),
    ):
        refused(call, message)


def test_a_box_overhangs_alike_everywhere(session: ColourSession) -> None:
    """The same box to pictures, a video and a stream: the model is asked the same."""
    box, asked = [-25, -10, 270, 281], []
    run = session.run

    def noted(graph: str, inputs: Any) -> Any:
        if graph == "mask_decoder":
            asked.append(inputs["point_coords"])
        return run(graph, inputs)

    session.run = noted  # type: ignore[method-assign]
    image = ImagePredictor(session.bundle, session=session)
    image.set_image(FRAME)
    image.predict(box=box)
    video = VideoPredictor(session.bundle, session=session)
    video.add_new_points_or_box(video.init_state(FRAME[None]), 0, 1, box=box)
    stream = StreamTracker(session.bundle, session=session)
    stream.add_box(1, box)
    stream.step(FRAME)
    assert len(asked) == 3
    for coords in asked:
        np.testing.assert_array_equal(coords[0, :2], [[-25, -10], [270, 281]])


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (None, r"a mask prompt must be an array \[H, W\] of the frame's size, got None"),
        ("m.png", r"an array \[H, W\] of the frame's size, got 'm.png'"),
        ([[1, 0], [1]], r"an array \[H, W\] of the frame's size, got \[\[1, 0\], \[1\]\]"),
        (MASK[:0], r"an array \[H, W\] of the frame's size, got array\(\[\]"),
        (MASK[None], r"an array \[H, W\] of the frame's size, got shape \(1, 256, 256\)"),
    ],
)
def test_masks(mask: Any, message: str, session: ColourSession) -> None:
    video = VideoPredictor(session.bundle, session=session)
    state = video.init_state(FRAME[None])
    refused(lambda: video.add_new_mask(state, 0, 1, mask), message)
    refused(lambda: StreamTracker(session.bundle, session=session).add_mask(1, mask), message)


@pytest.mark.parametrize("wrong", [1.5, "a", None, True, [1]])
def test_indices_and_ids(wrong: Any, session: ColourSession) -> None:
    video = VideoPredictor(session.bundle, session=session)
    state = video.init_state(np.stack([FRAME, FRAME]))
    stream = StreamTracker(session.bundle, session=session)
    whole = "is .*: expected a whole number"
    for call in (
        lambda: video.add_new_points_or_box(state, wrong, 1, **CLICK),
        lambda: video.add_new_mask(state, wrong, 1, MASK),
        lambda: video.clear_all_prompts_in_frame(state, wrong, 1),
    ):
        refused(call, f"frame_idx {whole}")
    for call in (
        lambda: video.add_new_points_or_box(state, 0, wrong, **CLICK),
        lambda: video.add_new_mask(state, 0, wrong, MASK),
        lambda: video.clear_all_prompts_in_frame(state, 0, wrong),
        lambda: video.remove_object(state, wrong),
        lambda: stream.add_points(wrong, **CLICK),
        lambda: stream.add_box(wrong, [1, 1, 9, 9]),
        lambda: stream.add_mask(wrong, MASK),
        lambda: stream.remove_object(wrong),
    ):
        refused(call, f"obj_id {whole}")
    assert state.obj_ids == stream.obj_ids == []
    if wrong is not None:
        video.add_new_points_or_box(state, 0, 1, **CLICK)
        for name in ("start_frame_idx", "max_frame_num_to_track"):
            refused(
                lambda n=name: next(video.propagate_in_video(state, **{n: wrong})),
                f"{name} {whole}",
            )


def test_integers_of_numpy_are_taken(session: ColourSession) -> None:
    video = VideoPredictor(session.bundle, session=session, objects_per_call=np.int64(2))
    state = video.init_state(np.stack([FRAME, FRAME]))
    found = video.add_new_points_or_box(state, np.int64(0), np.int32(4), **CLICK)
    assert [type(v) for v in (found[0], *found[1])] == [int, int]
    order = video.propagate_in_video(state, np.uint8(0), np.int64(1))
    assert [t for t, _, _ in order] == [0, 1]
    stream = StreamTracker(session.bundle, session=session, num_frames=np.int64(2))
    stream.add_points(np.int64(4), **CLICK)
    assert stream.remove_object(4) == []


@pytest.mark.parametrize("state", [None, "clip.mp4", {}])
def test_what_is_no_state(state: Any, session: ColourSession) -> None:
    video = VideoPredictor(session.bundle, session=session)
    for call in (
        lambda: video.add_new_points_or_box(state, 0, 1, **CLICK),
        lambda: video.add_new_mask(state, 0, 1, MASK),
        lambda: next(video.propagate_in_video(state)),
        lambda: video.remove_object(state, 1),
        lambda: video.clear_all_prompts_in_frame(state, 0, 1),
        lambda: video.reset_state(state),
    ):
        refused(call, "inference_state is .*: expected what init_state gives")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (None, "image_list is None: expected a list of images"),
        ("x", "image_list is 'x': expected a list of images"),
        (5, "image_list is 5: expected a list of images"),
        (np.array(5), r"image_list is array\(5\): expected a list of images"),
        ({"a": FRAME}, "expected a list of images"),
        (Image.new("RGB", (4, 4)), "expected a list of images"),
        (FRAME, r"image_list is one image of shape \(256, 256, 3\): use \[image\], or set_image"),
    ],
)
def test_what_is_no_list_of_images(images: Any, message: str, session: ColourSession) -> None:
    image = ImagePredictor(session.bundle, session=session)
    refused(lambda: image.set_image_batch(images), message)
    image.set_image_batch([FRAME])
    refused(lambda: image.predict_batch(box_batch=5), "box_batch is 5: expected a list of 1")


@pytest.mark.parametrize(
    "frame", [None, "a.png", 5, {}, [[1, 2], [3]], np.array([["a"]]), object(), [None]]
)
def test_what_is_no_frame(frame: Any, session: ColourSession) -> None:
    image = ImagePredictor(session.bundle, session=session)
    stream = StreamTracker(session.bundle, session=session)
    generator = MaskGenerator(session.bundle, session=session)
    for call in (image.set_image, stream.step, stream.encoded, generator.generate):
        refused(lambda c=call: c(frame), r"a frame must be uint8 \[H, W, 3\], got ", FrameError)


@pytest.mark.parametrize("mode", ["I;16", "I", "F"])
def test_pillow_images_of_more_than_8_bits(mode: str, session: ColourSession) -> None:
    picture = Image.new(mode, (8, 6), 40)
    image = ImagePredictor(session.bundle, session=session)
    stream = StreamTracker(session.bundle, session=session)
    for call in (image.set_image, stream.step):
        refused(
            lambda c=call: c(picture), f"pixels of mode {mode}: convert it to 8 bits", FrameError
        )
    image.set_image(picture.convert("L"))


@pytest.mark.parametrize(
    "mask",
    [
        np.zeros((0, 1, 64, 64)),
        np.zeros((0, 2)),
        [[1.0], [1.0, 2.0]],
        "low_res",
        np.ones((64, 64), bool),
    ],
)
def test_mask_inputs(mask: Any, session: ColourSession) -> None:
    image = ImagePredictor(session.bundle, session=session)
    image.set_image(FRAME)
    refused(lambda: image.predict(mask_input=mask), "^mask_input (must be|takes)")


def test_predictors_stay_closed(session: ColourSession) -> None:
    image = ImagePredictor(session.bundle, session=session)
    video = VideoPredictor(session.bundle, session=session)
    stream = StreamTracker(session.bundle, session=session)
    generator = MaskGenerator(session.bundle, session=session)
    image.set_image(FRAME)
    state = video.init_state(FRAME[None])
    video.add_new_points_or_box(state, 0, 1, **CLICK)
    for owner in (image, video, stream, generator):
        owner.close()
        owner.close()
    calls: dict[str, list[Callable[[], Any]]] = {
        "ImagePredictor": [
            lambda: image.set_image(FRAME), lambda: image.set_image_batch([FRAME]), image.predict,
            image.predict_batch, image.get_image_embedding, image.__enter__,
            lambda: generator.generate(FRAME), generator.__enter__,
        ],
        "VideoPredictor": [
            lambda: video.init_state(FRAME[None]), lambda: next(video.propagate_in_video(state)),
            lambda: video.add_new_points_or_box(state, 0, 1, **CLICK),
            lambda: video.add_new_mask(state, 0, 1, MASK), lambda: video.remove_object(state, 1),
            lambda: video.clear_all_prompts_in_frame(state, 0, 1), video.__enter__,
        ],
        "StreamTracker": [
            lambda: stream.add_points(1, **CLICK), lambda: stream.add_mask(1, MASK),
            lambda: stream.step(FRAME), lambda: stream.encoded(FRAME), stream.__enter__,
        ],
    }  # fmt: skip
    for name, some in calls.items():
        for call in some:
            refused(call, f"the {name} is closed: make another one")
