"""The C interface through ctypes: Python's results to the bit, Python's messages to the letter."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pytest
from cpp_build import built, require_toolchain
from cpp_library import Failed, Image, Library, Result, Stream, Video
from fake_bundle import write_bundle

import sam2rt
from sam2rt import (
    BundleError,
    ImagePredictor,
    InputError,
    StateError,
    StreamTracker,
    VideoPredictor,
)
from sam2rt.configs.bundle import MANIFEST, Bundle, Precision, _digest
from sam2rt.runtime.session import Session

pytestmark = pytest.mark.slow

INPUT, FRAME, STATE, BUNDLE = -1, -2, -3, -4
HEIGHT, WIDTH = 90, 120


@pytest.fixture
def library() -> Iterator[Library]:
    require_toolchain()
    opened = Library(built() / "libsam2rt.so")
    yield opened
    opened.close()


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
    assert library.lib.sam2rt_version().decode() == sam2rt.__version__
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
    "unknown label": {"points": [[5, 5]], "labels": [7]},
    "not a number": {"points": [[5, float("nan")]], "labels": [1]},
    "infinite": {"box": [0, 0, float("inf"), 5]},
    "reversed box": {"box": [30, 30.25, 10, 40]},
    "empty box": {"box": [30, 30, 30, 40]},
    "outside": {"points": [[5.1, 5], [5000, 5]], "labels": [1, 0]},
    "box corner outside": {"box": [-99, 0, 5, 5]},
    "box beside the frame": {"box": [-5, 0, 0, 5]},
    "box after clicks": {"box": [1, 1, 5, 5], "clear_old_points": False},
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


def _edit(change: Callable[[dict[str, Any]], None], sign: bool) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        path = folder / MANIFEST
        data = json.loads(path.read_text())
        change(data)
        if sign:
            data["digest"] = _digest(data)
        path.write_text(json.dumps(data))

    return edit


def _set(*keys: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: Any) -> None:
        for key in keys[:-1]:
            data = data[key]
        data[keys[-1]] = to

    return change


def _drop(*keys: Any) -> Callable[[dict[str, Any]], None]:
    def change(data: Any) -> None:
        for key in keys[:-1]:
            data = data[key]
        del data[keys[-1]]

    return change


BROKEN: dict[str, Callable[[Path], Any]] = {
    "no manifest": lambda f: (f / MANIFEST).unlink(),
    "other schema": _edit(_set("schema", to=2), sign=False),
    "schema is text": _edit(_set("schema", to="one"), sign=False),
    "no schema": _edit(_drop("schema"), sign=False),
    "edited": _edit(_set("opset", to=17), sign=False),
    "illegal size": _edit(_set("model", "image_size", to=100), sign=True),
    "widths": _edit(_set("model", "mem_dim", to=24), sign=True),
    "another precision": _edit(_set("precision", to="fp8"), sign=True),
    "no opset": _edit(_drop("opset"), sign=True),
    "graph lacking": _edit(_drop("graphs", "mask_prompt"), sign=True),
    "another contract": _edit(
        _set("graphs", "mask_decoder", "inputs", 0, "shape", to=["N", 1, 2, 3]), sign=True
    ),
    "another fused graph": _edit(
        _set("graphs", "track_step", "outputs", 5, "name", to="memory"), sign=True
    ),
    "path leaves": _edit(_set("graphs", "mask_prompt", "path", to="../x.onnx"), sign=True),
    "path is absolute": _edit(_set("graphs", "mask_prompt", "path", to="/etc/passwd"), sign=True),
    "path is no text": _edit(_set("graphs", "mask_prompt", "path", to=3), sign=True),
    "file missing": lambda f: (f / "mask_prompt.onnx").unlink(),
    "file truncated": lambda f: (f / "image_encoder.data").write_bytes(b"short"),
    "file changed": lambda f: (f / "image_encoder.data").write_bytes(bytes(256)),
    "link leaves": lambda f: (
        (f.parent / "out.onnx").write_bytes((f / "mask_prompt.onnx").read_bytes()),
        (f / "mask_prompt.onnx").unlink(),
        os.symlink(f.parent / "out.onnx", f / "mask_prompt.onnx"),
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_bundles_get_pythons_message(name: str, library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_bundle(folder)
    library.bundle(folder)
    BROKEN[name](folder)
    with pytest.raises(BundleError) as python:
        Bundle.load(folder)
    with pytest.raises(Failed) as cpp:
        library.bundle(folder)
    assert (str(cpp.value), cpp.value.status) == (str(python.value), BUNDLE)


ALSO_GOOD: dict[str, Callable[[Path], Any]] = {
    **{name: _edit(_set("precision", to=name), sign=True) for name in get_args(Precision)},
    "no fused graph": _edit(_drop("graphs", "track_step"), sign=True),
}


@pytest.mark.parametrize("name", ALSO_GOOD)
def test_bundles_that_python_takes_are_taken(name: str, library: Library, tmp_path: Path) -> None:
    folder = tmp_path / "bundle"
    write_bundle(folder)
    ALSO_GOOD[name](folder)
    assert Bundle.load(folder).model.name == "micro"
    assert library.lib.sam2rt_bundle_model(library.bundle(folder)) == b"micro"


@pytest.mark.parametrize(
    "value",
    [
        0.1,
        1e-7,
        1.5e16,
        123456789.123,
        -0.0,
        5e-324,
        1 / 3,
        '\u00e9 \U0001f600 \x7f\n"',
        2**60,
        None,
    ],
    ids=repr,
)
def test_what_python_signs_is_read(value: Any, library: Library, tmp_path: Path) -> None:
    """The digest is over Python's way to write numbers and text."""
    write_bundle(tmp_path / "bundle")
    _edit(_set("proof", "noted", to=[value, {"deep": value}]), sign=True)(tmp_path / "bundle")
    library.bundle(tmp_path / "bundle")


def test_no_manifest_is_deep_enough_to_overflow(library: Library, tmp_path: Path) -> None:
    write_bundle(tmp_path / "bundle")
    (tmp_path / "bundle" / MANIFEST).write_text("[" * 200000)
    with pytest.raises(Failed, match=r"cannot read .*manifest\.json"):
        library.bundle(tmp_path / "bundle")


def test_null_arguments_are_refused(library: Library, session: Any) -> None:
    with pytest.raises(Failed, match="no session was given"):
        library.make("stream", "sam2rt_stream_new", None, None)
    with pytest.raises(Failed, match="no frame was given"):
        library.call("sam2rt_stream_step", Stream(library, session)._handle, None, None)
