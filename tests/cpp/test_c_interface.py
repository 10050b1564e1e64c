"""The C interface through ctypes: Python's results to the bit, Python's messages to the letter."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from cpp_library import Failed, Image, Library, Result, Stream, Video

import sam2rt
from sam2rt import ImagePredictor, InputError, StateError, StreamTracker, VideoPredictor
from sam2rt.configs.bundle import Bundle
from sam2rt.configs.version import VERSION
from sam2rt.runtime.session import Session

pytestmark = pytest.mark.slow

INPUT, FRAME, STATE = -1, -2, -3
HEIGHT, WIDTH = 90, 120


@pytest.fixture
def session(library: Library, micro_bundle: Bundle) -> Any:
    return library.session(library.bundle(micro_bundle.path))


@pytest.fixture(scope="module")
def frames() -> np.ndarray:
    rng = np.random.default_rng(4)
    video = np.repeat(rng.integers(20, 120, (1, HEIGHT, WIDTH, 3), np.uint8), 8, 0)
    for t in range(8):
        video[t, 20:60, 10 + 5 * t : 50 + 5 * t] = (220, 180, 40)
    return video


CLICK = {"points": [[30, 40]], "labels": [1]}
BOX = {"box": [10, 20, 50, 60]}


def test_versions_agree(library: Library, micro_bundle: Bundle) -> None:
    assert library.lib.sam2rt_version().decode() == sam2rt.__version__ == VERSION
    bundle = library.bundle(micro_bundle.path)
    assert library.lib.sam2rt_bundle_model(bundle) == b"micro"
    assert library.lib.sam2rt_bundle_image_size(bundle) == 256


def test_a_stream_has_the_bits_of_python(
    library: Library, session: Any, micro_session: Session, frames: np.ndarray
) -> None:
    expected = StreamTracker(micro_session.bundle, session=micro_session, memory_dtype="bfloat16")
    options = library.default_options()
    options.memory_dtype = b"bfloat16"
    stream, found = Stream(library, session, options), Result(HEIGHT, WIDTH)
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[20:60, 30:70] = True
    for tracker in (expected, stream):
        tracker.add_points(1, **CLICK)
        tracker.add_points(5, **BOX)
    for t, frame in enumerate(frames):
        if t == 3:
            for tracker in (expected, stream):
                tracker.add_mask(2, mask)
        if t == 5:
            for tracker in (expected, stream):
                tracker.remove_object(5)
        result = expected.step(frame)
        stream.step(frame, found)
        assert found.obj_ids == result.obj_ids
        assert found.raw.frame_idx == t
        np.testing.assert_array_equal(found.logits, result.logits)
        np.testing.assert_array_equal(found.masks, result.masks)
        np.testing.assert_array_equal(found.scores[: len(result.obj_ids)], result.object_scores)
        np.testing.assert_array_equal(found.ious[: len(result.obj_ids)], result.ious)


def test_a_video_has_the_bits_of_python(
    library: Library, session: Any, micro_session: Session, frames: np.ndarray
) -> None:
    predictor = VideoPredictor(micro_session.bundle, session=micro_session)
    state = predictor.init_state(frames)
    video, found = Video(library, session, frames), Result(HEIGHT, WIDTH)
    for frame_idx, obj_id, prompt in ((2, 1, CLICK), (4, 9, BOX)):
        _, _, logits = predictor.add_new_points_or_box(state, frame_idx, obj_id, **prompt)
        video.add_points(frame_idx, obj_id, found, **prompt)
        np.testing.assert_array_equal(found.logits, logits[:, 0])
    for reverse in (False, True):
        video.propagate(start=4, reverse=reverse)
        for frame_idx, obj_ids, logits in predictor.propagate_in_video(state, 4, reverse=reverse):
            assert video.next(found)
            assert (found.raw.frame_idx, found.obj_ids) == (frame_idx, obj_ids)
            np.testing.assert_array_equal(found.logits, logits[:, 0])
        assert not video.next(found)


def test_a_propagation_outlives_its_objects_and_a_correction_its_prompt(
    library: Library, session: Any, micro_session: Session, frames: np.ndarray
) -> None:
    """Frames without objects; then a click on a tracked frame whose object has no prompt left."""
    predictor = VideoPredictor(micro_session.bundle, session=micro_session)
    state = predictor.init_state(frames)
    video, found = Video(library, session, frames), Result(HEIGHT, WIDTH)
    for last in (False, True):
        predictor.add_new_points_or_box(state, 0, 1, **CLICK)
        video.add_points(0, 1, found, **CLICK)
        video.propagate()
        for frame_idx, obj_ids, logits in predictor.propagate_in_video(state):
            assert video.next(found)
            assert (found.raw.frame_idx, found.obj_ids) == (frame_idx, obj_ids)
            np.testing.assert_array_equal(found.logits, logits[:, 0])
            if frame_idx == 2 and not last:
                predictor.remove_object(state, 1)
                video.remove_object(1)
        assert not video.next(found)
    predictor.clear_all_prompts_in_frame(state, 0, 1)
    video.clear_prompts(0, 1, found)
    _, _, logits = predictor.add_new_points_or_box(state, 3, 1, **BOX)
    video.add_points(3, 1, found, **BOX)
    np.testing.assert_array_equal(found.logits, logits[:, 0])


def test_an_image_has_the_bits_of_python(
    library: Library, session: Any, micro_session: Session, frames: np.ndarray
) -> None:
    expected = ImagePredictor(micro_session.bundle, session=micro_session)
    expected.set_image(frames[0])
    image = Image(library, session)
    image.set(frames[0])
    for multimask in (True, False):
        for box in (None, BOX["box"]):
            masks, ious = image.predict(**CLICK, box=box, multimask=multimask)
            wanted = expected.predict(
                np.array(CLICK["points"]), np.array(CLICK["labels"]),
                None if box is None else np.array(box), multimask_output=multimask,
            )  # fmt: skip
            np.testing.assert_array_equal(masks, wanted[0])
            np.testing.assert_array_equal(ious, wanted[1])


def test_an_image_is_refined_as_in_python(
    library: Library, session: Any, micro_session: Session, frames: np.ndarray
) -> None:
    expected = ImagePredictor(micro_session.bundle, session=micro_session)
    expected.set_image(frames[0])
    image, side = Image(library, session), micro_session.bundle.model.mask_size
    image.set(frames[0])
    earlier = None
    for _ in range(2):
        found = image.refine(CLICK["points"], CLICK["labels"], earlier, side)
        wanted = expected.predict(
            CLICK["points"], CLICK["labels"], mask_input=None if earlier is None else earlier[None]
        )
        for one, other in zip(found, wanted, strict=True):
            np.testing.assert_array_equal(one, other)
        earlier = found[2][1]
    assert earlier is not None
    earlier[3, 4] = np.nan
    with pytest.raises(InputError) as python:
        expected.predict(mask_input=earlier[None])
    with pytest.raises(Failed) as cpp:
        image.refine(None, None, earlier, side)
    assert (str(cpp.value), cpp.value.status) == (str(python.value), INPUT)


def test_small_buffers_are_refused_and_the_result_can_be_asked_for_again(
    library: Library, session: Any, frames: np.ndarray
) -> None:
    stream = Stream(library, session)
    stream.add_points(1, **CLICK)
    stream.add_points(2, **BOX)
    small, enough = Result(HEIGHT, WIDTH, 1), Result(HEIGHT, WIDTH, 2)
    with pytest.raises(Failed, match="2 objects, its buffers have room for 1"):
        stream.step(frames[0], small)
    assert small.raw.count == 2
    stream.result(enough)
    assert (enough.obj_ids, enough.raw.frame_idx) == ([1, 2], 0)
    assert enough.logits.any()


BAD_PROMPTS: dict[str, dict[str, Any]] = {
    "nothing": {},
    "nothing in arrays": {"points": np.zeros((0, 2)), "labels": []},
    "points alone": {"points": [[5, 5]]},
    "labels alone": {"labels": [1]},
    "unknown label": {"points": [[5, 5]], "labels": [7]},
    "not a number": {"points": [[5, float("nan")]], "labels": [1]},
    "infinite": {"box": [0, 0, float("inf"), 5]},
    "reversed box": {"box": [30, 30.25, 10, 40]},
    "empty box": {"box": [30, 30, 30, 40]},
    "outside": {"points": [[5.1, 5], [5000, 5]], "labels": [1, 0]},
    "box corner outside": {"box": [-99, 0, 5, 5]},
    "box beside the frame": {"box": [-5, 0, 0, 5]},
    "box after clicks": {"box": [1, 1, 5, 5], "clear_old_points": False},
    "many, not a number": {"points": [[1.25, 2.125], [float("nan"), 4]] * 9, "labels": [1] * 18},
    "many unknown labels": {"points": [[1.25, 2.125]] * 40, "labels": [1, 9] * 20},
}


@pytest.mark.parametrize("name", BAD_PROMPTS)
def test_bad_prompts_get_pythons_message(
    name: str, library: Library, session: Any, micro_session: Session, frames: np.ndarray
) -> None:
    prompt = BAD_PROMPTS[name]
    expected = StreamTracker(micro_session.bundle, session=micro_session)
    stream = Stream(library, session)
    expected.step(frames[0])
    stream.step(frames[0], None)
    with pytest.raises(InputError) as python:
        expected.add_points(1, **prompt)
    with pytest.raises(Failed) as cpp:
        stream.add_points(1, **prompt)
    assert (str(cpp.value), cpp.value.status) == (str(python.value), INPUT)


@pytest.mark.parametrize(
    "name", [n for n in BAD_PROMPTS if not n.startswith("nothing") and n != "box after clicks"]
)
def test_bad_prompts_for_an_image_get_pythons_message(
    name: str, library: Library, session: Any, micro_session: Session, frames: np.ndarray
) -> None:
    points, labels, box = (BAD_PROMPTS[name].get(key) for key in ("points", "labels", "box"))
    expected = ImagePredictor(micro_session.bundle, session=micro_session)
    expected.set_image(frames[0])
    image = Image(library, session)
    image.set(frames[0])
    with pytest.raises(InputError) as python:
        expected.predict(points, labels, box)
    with pytest.raises(Failed) as cpp:
        image.predict(points, labels, box, multimask=True)
    assert (str(cpp.value), cpp.value.status) == (str(python.value), INPUT)


BAD_OPTIONS = {
    "max_cond_frames_in_attn": 1, "fill_hole_area": -1, "objects_per_call": -1, "num_frames": -1,
    "memory_dtype": "int8",
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_OPTIONS)
def test_bad_options_get_pythons_message(
    name: str, library: Library, session: Any, micro_session: Session
) -> None:
    value: Any = BAD_OPTIONS[name]
    options = library.default_options()
    setattr(options, name, value.encode() if isinstance(value, str) else value)
    with pytest.raises(InputError) as python:
        StreamTracker(micro_session.bundle, session=micro_session, **{name: value})
    with pytest.raises(Failed) as cpp:
        Stream(library, session, options)
    assert (str(cpp.value), cpp.value.status) == (str(python.value), INPUT)


def test_bad_states_get_pythons_message(
    library: Library, session: Any, micro_session: Session, frames: np.ndarray
) -> None:
    predictor = VideoPredictor(micro_session.bundle, session=micro_session)
    state = predictor.init_state(frames)
    video, found = Video(library, session, frames), Result(HEIGHT, WIDTH)
    cases: list[tuple[Callable[[], Any], Callable[[], Any], int]] = [
        (lambda: next(predictor.propagate_in_video(state)), video.propagate, STATE),
        (
            lambda: predictor.add_new_points_or_box(state, 99, 1, **CLICK),
            lambda: video.add_points(99, 1, found, **CLICK),
            INPUT,
        ),
    ]
    for python, cpp, status in cases:
        with pytest.raises((InputError, StateError)) as expected:
            python()
        with pytest.raises(Failed) as failed:
            cpp()
        assert (str(failed.value), failed.value.status) == (str(expected.value), status)


def test_an_image_without_a_prompt_is_segmented_as_in_python(
    library: Library, session: Any, micro_session: Session, frames: np.ndarray
) -> None:
    expected = ImagePredictor(micro_session.bundle, session=micro_session)
    expected.set_image(frames[0])
    image = Image(library, session)
    image.set(frames[0])
    for points, labels in ((None, None), (np.zeros((0, 2)), [])):
        masks, ious = image.predict(points, labels, None, multimask=True)
        wanted = expected.predict(points, labels)
        np.testing.assert_array_equal(masks, wanted[0])
        np.testing.assert_array_equal(ious, wanted[1])


def disc(height: int, width: int, value: int) -> np.ndarray:
    rows, columns = np.ogrid[:height, :width]
    far = np.hypot(rows / height - 0.5, columns / width - 0.5)
    return (far < 0.3).astype(np.uint8) * np.uint8(value)


@pytest.mark.parametrize("size", [(HEIGHT, WIDTH), (64, 64), (HEIGHT - 1, WIDTH), (1, 1)])
@pytest.mark.parametrize("value", [1, 255, 0])
def test_mask_prompts_of_any_size_are_pythons(
    size: tuple[int, int], value: int, library: Library, session: Any, micro_session: Session,
    frames: np.ndarray,
) -> None:  # fmt: skip
    mask = disc(*size, value)
    expected = StreamTracker(micro_session.bundle, session=micro_session)
    stream, found = Stream(library, session), Result(HEIGHT, WIDTH)
    expected.add_mask(1, mask)
    stream.add_mask(1, mask)
    stream.step(frames[0], found)
    result = expected.step(frames[0])
    np.testing.assert_array_equal(found.masks, result.masks)
    np.testing.assert_array_equal(found.scores[:1], result.object_scores)
    if value and size[0] > 1:
        np.testing.assert_array_equal(
            result.masks[0][::40, ::40], disc(HEIGHT, WIDTH, 1)[::40, ::40]
        )


@pytest.mark.parametrize(
    "mask",
    [disc(WIDTH, HEIGHT, 1), disc(HEIGHT, WIDTH, 7), 1 + disc(HEIGHT, WIDTH, 254)],
    ids=["on its side", "of 7", "of 1 and 255"],
)
def test_bad_masks_get_pythons_message(
    mask: np.ndarray, library: Library, session: Any, micro_session: Session, frames: np.ndarray
) -> None:
    expected = StreamTracker(micro_session.bundle, session=micro_session)
    stream = Stream(library, session)
    expected.step(frames[0])
    stream.step(frames[0], None)
    with pytest.raises(InputError) as python:
        expected.add_mask(1, mask)
    with pytest.raises(Failed) as cpp:
        stream.add_mask(1, mask)
    assert (str(cpp.value), cpp.value.status) == (str(python.value), INPUT)


def test_frames_of_another_size_than_declared_are_refused(
    library: Library, session: Any, micro_session: Session, frames: np.ndarray
) -> None:
    """Masks had the declared size, and lay beside what the frames showed."""
    mixed = [*frames[:2], frames[2][:-8], frames[3].transpose(1, 0, 2).copy()]
    video, found = Video(library, session, mixed), Result(HEIGHT, WIDTH)
    video.add_points(0, 1, found, **CLICK)
    before = found.logits.copy()
    for index, shown in ((2, f"{WIDTH} x {HEIGHT - 8}"), (3, f"{HEIGHT} x {WIDTH}")):
        with pytest.raises(Failed) as failed:
            video.add_points(index, 1, found, **CLICK)
        assert (str(failed.value), failed.value.status) == (
            f"frame {index} is {shown}, the video was declared as {WIDTH} x {HEIGHT}: give frames "
            "of that size",
            FRAME,
        )
    # the others are tracked as if nothing had been asked
    video.add_points(0, 1, found, **CLICK)
    predictor = VideoPredictor(micro_session.bundle, session=micro_session)
    state = predictor.init_state(frames[:4])
    predictor.add_new_points_or_box(state, 0, 1, **CLICK)
    wanted = predictor.add_new_points_or_box(state, 0, 1, **CLICK)[2]
    np.testing.assert_array_equal(found.logits, wanted[:, 0])
    assert before.shape == found.logits.shape


def test_null_arguments_are_refused(library: Library, session: Any) -> None:
    with pytest.raises(Failed, match="no session was given"):
        library.make("stream", "sam2rt_stream_new", None, None)
    with pytest.raises(Failed, match="no frame was given"):
        library.call("sam2rt_stream_step", Stream(library, session)._handle, None, None)
